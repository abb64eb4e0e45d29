//! Joins and leaves, and timelines that are full of them.

use std::time::Duration;

use futures_util::future::join_all;
use sendpi_client::{Range, SendOptions};
use sendpi_tests::{Recording, Sendpi, SendpiSetup, step};
use serde_json::json;

async fn open_room(owner: &Recording) -> String {
    let fields = json!({"name": "square", "access": "open"});
    owner.client().create_with(fields).await.unwrap().room.to_string()
}

#[tokio::test]
async fn joins_and_leaves_that_come_at_once_are_done_in_order() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let room = open_room(&ann).await;
    step("bob joins and leaves thirty times at once, and joins at last");
    let frames = (0..61).map(|n| json!({"op": if n % 2 == 0 { "join" } else { "leave" }, "room": room}));
    let answers = join_all(frames.map(|frame| bob.client().request(frame))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    step("the timeline has them in order, and bob is a member who gets what follows");
    let kinds: Vec<String> =
        ann.whole_history(&room).await.unwrap().into_iter().skip(1).map(|event| event.kind).collect();
    let wanted: Vec<&str> = (0..61).map(|n| if n % 2 == 0 { "joined" } else { "left" }).collect();
    assert_eq!(kinds, wanted);
    let sent = ann.client().send(&room, "welcome").await.unwrap();
    bob.until_seq(&room, sent.seq).await;
    let members = ann.client().members(&room, None, 10).await.unwrap().members;
    assert_eq!(members.iter().map(|member| member.user.as_str()).collect::<Vec<_>>(), ["ann", "bob"]);
    ann.finish().await;
    bob.finish().await;
}

/// Reads the timeline page by page in one direction. Returns the seqs in ascending order.
async fn paged(reader: &Recording, room: &str, up: bool) -> Vec<u64> {
    let mut seqs: Vec<u64> = Vec::new();
    loop {
        let range = match (up, seqs.last(), seqs.first()) {
            (true, last, _) => Range::After(last.copied().unwrap_or(0)),
            (false, _, None) => Range::Newest,
            (false, _, Some(first)) => Range::Before(*first),
        };
        let page = reader.history(room, range, 5).await.unwrap();
        assert!(page.events.len() <= 20, "a page holds at most four times the limit");
        let mut found: Vec<u64> = page.events.iter().filter_map(|event| event.seq).collect();
        assert!(!found.is_empty() || !page.more, "a page without events says that there are more");
        if up {
            seqs.append(&mut found);
        } else {
            found.append(&mut seqs);
            seqs = found;
        }
        if !page.more {
            return seqs;
        }
    }
}

#[tokio::test]
async fn pages_full_of_joins_lead_to_both_ends_whether_the_channel_is_live_or_not() {
    let args = ["--idle-min", "300ms", "--idle-max", "1s"].map(String::from).to_vec();
    let heartbeat = Duration::from_millis(500);
    let mut server = Sendpi::start_with(SendpiSetup { args, heartbeat, ..SendpiSetup::default() }).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let room = open_room(&ann).await;
    step("bob comes and goes between a few messages");
    for messages in [3, 0, 7] {
        for n in 0..45 {
            bob.client().join(&room).await.unwrap();
            if n < messages {
                ann.client().send(&room, "hello").await.unwrap();
            }
            bob.client().leave(&room).await.unwrap();
        }
    }
    let head = ann.client().send(&room, "the end").await.unwrap().seq;
    let all: Vec<u64> = (1..=head).collect();
    step("ann reads it in both directions while the channel is live");
    assert_eq!((paged(&ann, &room, true).await, paged(&ann, &room, false).await), (all.clone(), all.clone()));
    server.until_logged("a channel is evicted", 1).await;
    step("and after it was evicted");
    assert_eq!((paged(&ann, &room, true).await, paged(&ann, &room, false).await), (all.clone(), all));
    ann.finish().await;
    bob.finish().await;
}

/// A nonce is unique over a user's devices, not only over one of them.
#[tokio::test]
async fn the_same_nonce_from_two_devices_of_a_user_is_one_message() {
    let server = Sendpi::start_with(SendpiSetup { nodes: 2, ..SendpiSetup::default() }).await;
    let phone = Recording::connect(&server, "ann", "phone").await;
    let token = server.token("ann").await;
    let laptop =
        Recording::connect_with(server.node(1), &token, "ann", "laptop", sendpi_client::Options::default()).await;
    let room = phone.client().create("lobby", &[]).await.unwrap().room;
    let send = |from: &'static str| (json!({"text": from}), SendOptions::nonce("1"));
    let ((one, nonce), (other, same)) = (send("phone"), send("laptop"));
    step("both devices send with nonce 1 at once");
    let (first, second) = tokio::join!(
        phone.client().send_with(room.as_str(), one, nonce),
        laptop.client().send_with(room.as_str(), other, same)
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((first.seq, first.count), (second.seq, second.count));
    assert!(first.repeat != second.repeat, "one of them is told that it is a repeat");
    assert_eq!(phone.whole_history(room.as_str()).await.unwrap().len(), 2);
    phone.finish().await;
    laptop.finish().await;
}
