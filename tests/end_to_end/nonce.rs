//! A repeated send is one event, however late it is repeated.

use futures_util::StreamExt;
use sendpi_client::{Options, SendOptions};
use sendpi_tests::{Recording, Sendpi, SendpiSetup, step};
use serde_json::json;

/// Sends the same nonce a hundred times, then `later` events, then a repeat, and another repeat after a restart. Kills
/// the mutant `NonceLookupOff`.
pub(crate) async fn repeats(setup: SendpiSetup, later: usize) {
    let mut server = Sendpi::start_with(setup).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let info = ann.client().create("lobby", &[]).await.unwrap();
    let room = info.room.as_str();
    let retry = || SendOptions { retry: Some(info.seq), ..SendOptions::nonce("once") };
    let body = || json!({"text": "once"});
    step("ann sends the same nonce a hundred times");
    let first = ann.client().send_with(room, body(), SendOptions::nonce("once")).await.unwrap();
    let again = futures_util::stream::iter(0..99).map(|_| ann.client().send_with(room, body(), retry()));
    for sent in again.buffered(32).collect::<Vec<_>>().await {
        let sent = sent.unwrap();
        assert_eq!((sent.seq, sent.repeat), (first.seq, true));
    }
    step(format!("ann sends {later} other messages"));
    let others =
        futures_util::stream::iter(0..later).map(|i| ann.client().send(room, if i % 2 == 0 { "a" } else { "b" }));
    let last = others.buffered(60).map(|sent| sent.unwrap().seq).fold(0, |a, b| async move { a.max(b) }).await;
    assert_eq!(last, first.seq + later as u64);
    step("ann repeats the nonce");
    let sent = ann.client().send_with(room, body(), retry()).await.unwrap();
    assert_eq!((sent.seq, sent.repeat), (first.seq, true), "after {later} later events");
    ann.finish().await;

    step("the server restarts and ann repeats the nonce");
    server.terminate().await;
    server.start_again().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let sent = ann.client().send_with(room, body(), retry()).await.unwrap();
    assert_eq!((sent.seq, sent.repeat), (first.seq, true), "after a restart");
    assert_eq!(ann.welcome().rooms[0].seq, last);
    ann.finish().await;
}

#[tokio::test]
async fn a_creation_sent_64_times_from_two_nodes_is_one_room() {
    let server = Sendpi::start_with(SendpiSetup { nodes: 2, ..SendpiSetup::default() }).await;
    let token = server.token("ann").await;
    let first = Recording::connect_with(server.node(0), &token, "ann", "phone", Options::default()).await;
    let second = Recording::connect_with(server.node(1), &token, "ann", "laptop", Options::default()).await;
    step("ann creates a room 64 times");
    let create = |n: usize| {
        let node = if n.is_multiple_of(2) { &first } else { &second };
        node.client().create_with(json!({"name": "lobby", "members": ["bob"], "nonce": "made"}))
    };
    let rooms: Vec<_> = futures_util::stream::iter(0..64).map(create).buffer_unordered(64).collect().await;
    let rooms: Vec<_> = rooms.into_iter().map(Result::unwrap).collect();
    assert!(rooms.iter().all(|room| *room == rooms[0]), "{rooms:?}");
    assert_eq!((rooms[0].seq, rooms[0].members), (1, 2));
    assert_eq!(first.client().rooms(None, 10).await.unwrap().rooms.len(), 1);
    first.finish().await;
    second.finish().await;
}

#[tokio::test]
async fn a_nonce_sent_a_hundred_times_is_one_event_also_after_10_000_others_and_a_restart() {
    repeats(SendpiSetup::default(), 10_000).await;
}
