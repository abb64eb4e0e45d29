//! Messages: sent, received, and read again.

use sendpi_client::{Range, SendOptions};
use sendpi_tests::{Recording, Sendpi, step};
use serde_json::json;

/// Kills the mutant `NewcomersOff`.
#[tokio::test]
async fn two_users_exchange_messages_in_order() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    let room = info.room.as_str();

    step("ann and bob send in turn");
    for i in 0..20 {
        let (from, text) = if i % 2 == 0 { (&ann, format!("ann {i}")) } else { (&bob, format!("bob {i}")) };
        from.client().send(room, &text).await.unwrap();
    }

    step("both get everything in order");
    let sent: Vec<_> = (0..20).map(|i| format!("{} {i}", if i % 2 == 0 { "ann" } else { "bob" })).collect();
    for reader in [&ann, &bob] {
        reader.until_text(room, "bob 19").await;
        assert_eq!(reader.room(room).texts(), sent);
    }
    ann.finish().await;
    bob.finish().await;
}

/// Kills the mutant `OutboxReversed`.
#[tokio::test]
async fn messages_of_many_senders_at_once_have_one_order_for_all() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let info = ann.client().create("lobby", &["bob", "cleo"]).await.unwrap();
    let room = info.room.as_str();
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let cleo = Recording::connect(&server, "cleo", "desk").await;
    let all = [&ann, &bob, &cleo];

    step("ann, bob and cleo send at once");
    let send = async |from: &Recording| {
        for i in 0..30 {
            from.client().send(room, &format!("{} {i}", from.user())).await.unwrap();
        }
    };
    tokio::join!(send(&ann), send(&bob), send(&cleo));

    let history = ann.whole_history(room).await.unwrap();
    let last = history.last().and_then(|event| event.seq).unwrap();
    let told: Vec<_> = history.iter().filter_map(|event| event.text().map(str::to_owned)).collect();
    assert_eq!(told.len(), 90);
    step("everybody gets the order of the history");
    for reader in all {
        reader.until_seq(room, last).await;
        assert_eq!(reader.room(room).texts(), told);
        let own: Vec<_> = told.iter().filter(|text| text.starts_with(reader.user())).cloned().collect();
        let sent: Vec<_> = (0..30).map(|i| format!("{} {i}", reader.user())).collect();
        assert_eq!(own, sent, "each sender's messages keep their order");
    }
    ann.finish().await;
    bob.finish().await;
    cleo.finish().await;
}

/// Kills the mutant `MoreOff`.
#[tokio::test]
async fn history_is_paged_in_both_directions() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let info = ann.client().create("lobby", &[]).await.unwrap();
    let room = info.room.as_str();
    step("ann sends 25 messages");
    for i in 0..25 {
        ann.client().send(room, &format!("{i}")).await.unwrap();
    }

    step("ann reads the newest page and the one before");
    let newest = ann.history(room, Range::Newest, 10).await.unwrap();
    let texts: Vec<_> = newest.events.iter().filter_map(|event| event.text()).collect();
    assert_eq!(texts, (15..25).map(|i| i.to_string()).collect::<Vec<_>>());
    assert!(newest.more);

    let first = newest.events.first().and_then(|event| event.seq).unwrap();
    let before = ann.history(room, Range::Before(first), 10).await.unwrap();
    let texts: Vec<_> = before.events.iter().filter_map(|event| event.text()).collect();
    assert_eq!(texts, (5..15).map(|i| i.to_string()).collect::<Vec<_>>());

    step("ann reads the whole history from its start");
    let whole = ann.whole_history(room).await.unwrap();
    assert_eq!(whole.first().and_then(|event| event.seq), Some(1));
    assert_eq!(whole.iter().filter(|event| event.kind == "message").count(), 25);
    let last = ann.history(room, Range::After(first), 200).await.unwrap();
    assert!(!last.more);
    ann.finish().await;
}

/// Kills the mutant `NonceOff`.
#[tokio::test]
async fn a_repeated_nonce_gets_the_first_answer() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    let room = info.room.as_str();
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let send = async |from: &Recording, text: &str, retry: Option<u64>| {
        let options = SendOptions { retry, ..SendOptions::nonce("n-1") };
        from.client().send_with(room, json!({"text": text}), options).await.unwrap()
    };

    step("ann sends, and repeats the send");
    let first = send(&ann, "once", None).await;
    assert!(!first.repeat);
    let again = send(&ann, "once", Some(info.seq)).await;
    assert!(again.repeat);
    assert_eq!((again.seq, again.count, again.at), (first.seq, first.count, first.at));
    // A nonce belongs to its sender, so the same nonce of another user is another message.
    step("bob sends with the same nonce");
    let other = send(&bob, "mine", None).await;
    assert!(!other.repeat && other.seq == first.seq + 1);

    let history = ann.whole_history(room).await.unwrap();
    let texts: Vec<_> = history.iter().filter_map(|event| event.text()).collect();
    assert_eq!(texts, ["once", "mine"]);
    ann.finish().await;
    bob.finish().await;
}
