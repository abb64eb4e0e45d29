//! Coming back: what was missed is replayed, and nothing comes twice.

use sendpi_tests::{Recording, Sendpi, step};

/// Checks that the server itself replayed what a client missed in a room. Otherwise the recorder reads it as history.
pub(crate) async fn assert_replayed(client: &Recording, room: &str) {
    let rooms = client.until_resumed().await;
    let (_, resumed) = rooms.iter().find(|(id, _)| id.as_str() == room).unwrap();
    assert!(!resumed.truncated && !resumed.gone, "{resumed:?}");
}

/// Kills the mutants `ReplayOff` and `ReplayTruncated`.
#[tokio::test]
async fn who_was_offline_gets_what_was_missed_on_resume() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let mut bob = Recording::connect(&server, "bob", "laptop").await;
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    let room = info.room.as_str();
    ann.client().send(room, "before").await.unwrap();
    bob.until_text(room, "before").await;

    step("bob leaves and ann sends");
    bob.client().close().await;
    for i in 0..30 {
        ann.client().send(room, &format!("missed {i}")).await.unwrap();
    }
    step("bob comes back and resumes");
    bob.reconnect(server.url()).await.unwrap();
    assert_replayed(&bob, room).await;
    let last = ann.client().send(room, "after").await.unwrap();

    bob.until_seq(room, last.seq).await;
    let mut texts = vec!["before".to_owned()];
    texts.extend((0..30).map(|i| format!("missed {i}")));
    texts.push("after".to_owned());
    assert_eq!(bob.room(room).texts(), texts);
    ann.finish().await;
    bob.finish().await;
}

/// Kills the mutant `HoldOff`.
#[tokio::test]
async fn messages_sent_while_a_client_resumes_come_once_and_in_order() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let mut bob = Recording::connect(&server, "bob", "laptop").await;
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    let room = info.room.as_str();

    step("ann sends while bob comes and goes");
    let talking = async {
        for i in 0..200 {
            ann.client().send(room, &format!("{i}")).await.unwrap();
        }
    };
    let coming_and_going = async {
        for _ in 0..5 {
            bob.until_event(room, "a message", |event| event.text().is_some()).await;
            bob.reconnect(server.url()).await.unwrap();
        }
    };
    tokio::join!(talking, coming_and_going);

    step("bob gets the last message");
    bob.until_text(room, "199").await;
    assert_eq!(bob.room(room).texts(), (0..200).map(|i| i.to_string()).collect::<Vec<_>>());
    ann.finish().await;
    bob.finish().await;
}

/// Kills the mutant `MarkersOff`.
#[tokio::test]
async fn a_list_of_rooms_tells_what_is_unread() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    let room = info.room.as_str();
    let sent = ann.client().send(room, "one").await.unwrap();
    ann.client().send(room, "two").await.unwrap();

    step("bob signs in and sees what is unread");
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let listed = &bob.welcome().rooms;
    assert_eq!((listed.len(), listed[0].room.as_str(), listed[0].unread), (1, room, 2));
    let text = listed[0].last.as_ref().and_then(|last| last.text.as_deref());
    assert_eq!(text, Some("two"));

    step("bob reads the first message");
    bob.client().read(room, sent.seq).await.unwrap();
    let page = bob.client().rooms(None, 10).await.unwrap();
    assert_eq!((page.rooms[0].unread, page.rooms[0].marker.seq), (1, sent.seq));
    ann.finish().await;
    bob.finish().await;
}
