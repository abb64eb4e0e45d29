//! Clients that read slowly, or nothing.

use std::time::Duration;

use sendpi_client::{Client, Frames, Options, Range};
use sendpi_tests::{Proxy, Recording, Sendpi, SendpiSetup, step, within};
use serde_json::json;
use tokio::time::Instant;

/// The text of a message that fills a page of 512 KiB 32 times.
fn long_text() -> String {
    "x".repeat(15_900)
}

async fn stopped_reader(server: &Sendpi, user: &str) -> (Client, Frames) {
    let options = Options { receive_buffer: Some(4 * 1024), queue: 1, ..Options::default() };
    let token = server.token(user).await;
    let (client, frames, _) = sendpi_client::connect(server.url(), &token, "phone", options).await.unwrap();
    client.stop_reading().await.unwrap();
    (client, frames)
}

/// Waits until `users` are offline in the room's list of members.
async fn until_offline(ann: &Recording, room: &str, users: &[&str], limit: Duration) {
    let offline = async {
        while ann
            .client()
            .members(room, None, 100)
            .await
            .unwrap()
            .members
            .iter()
            .any(|member| member.online && users.contains(&member.user.as_str()))
        {}
    };
    within(limit, &format!("{users:?} are offline"), offline).await;
}

#[tokio::test]
async fn a_closed_session_whose_socket_takes_nothing_is_soon_offline_and_asks_nothing_more() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let (bob, _frames) = stopped_reader(&server, "bob").await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    let room = room.as_str();
    step("ann sends more than bob's queue and his socket can hold");
    for _ in 0..500 {
        ann.client().send(room, &long_text()).await.unwrap();
    }
    step("bob, who is closed by now, goes on asking");
    let late = json!({"op": "send", "room": room, "body": {"text": "too late"}});
    // The server may have cut the connection already.
    let _ = bob.send_text(late.to_string()).await;
    until_offline(&ann, room, &["bob"], Duration::from_secs(10)).await;
    let newest = ann.history(room, Range::Newest, 5).await.unwrap();
    assert!(newest.events.iter().all(|event| event.text() != Some("too late")), "a closed session's request was done");
    ann.finish().await;
}

#[tokio::test]
async fn a_node_with_clients_that_take_nothing_stops_in_one_grace_period() {
    let mut server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let (_bob, _frames) = stopped_reader(&server, "bob").await;
    let (_cleo, _more) = stopped_reader(&server, "cleo").await;
    step("ann sends more than bob can hold, and less than cleo can");
    let full = ann.client().create("full", &["bob"]).await.unwrap().room;
    let blocked = ann.client().create("blocked", &["cleo"]).await.unwrap().room;
    for _ in 0..500 {
        ann.client().send(full.as_str(), &long_text()).await.unwrap();
    }
    for _ in 0..40 {
        ann.client().send(blocked.as_str(), &long_text()).await.unwrap();
    }
    step("the server is told to end");
    let start = Instant::now();
    server.terminate().await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(14), "{took:?}");
}

#[tokio::test]
async fn a_slow_but_steady_reader_is_not_closed_as_dead() {
    // A heartbeat is to be answered in 5 s, which is less than a page takes at 400 kbit/s.
    let heartbeat = Duration::from_secs(5);
    let server = Sendpi::start_with(SendpiSetup { heartbeat, ..SendpiSetup::default() }).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    let room = room.as_str();
    for _ in 0..40 {
        ann.client().send(room, &long_text()).await.unwrap();
    }
    let proxy = Proxy::start(server.url()).await;
    let bob =
        Recording::connect_with(proxy.url(), &server.token("bob").await, "bob", "phone", Options::default()).await;
    step("bob reads a page of 512 KiB at 400 kbit/s");
    proxy.slow_down(50_000);
    let start = Instant::now();
    let page = bob.history(room, Range::Newest, 200).await.unwrap();
    assert!(
        page.events.len() >= 30 && start.elapsed() > 2 * heartbeat,
        "{} in {:?}",
        page.events.len(),
        start.elapsed()
    );
    proxy.recover_downwards();
    bob.client().ping().await.unwrap();
    ann.finish().await;
    bob.finish().await;
}

#[tokio::test]
async fn pages_that_a_client_asked_for_are_no_flood() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    let room = room.as_str();
    for _ in 0..40 {
        ann.client().send(room, &long_text()).await.unwrap();
    }
    let proxy = Proxy::start(server.url()).await;
    let bob =
        Recording::connect_with(proxy.url(), &server.token("bob").await, "bob", "phone", Options::default()).await;
    step("bob asks for sixteen pages at once and reads them at 8 Mbit/s");
    proxy.slow_down(1_000_000);
    let pages = (0..16).map(|_| bob.history(room, Range::Newest, 200));
    for page in futures_util::future::join_all(pages).await {
        assert!(page.unwrap().events.len() >= 30);
    }
    step("ann sends while bob has read everything");
    let sent = ann.client().send(room, "hi").await.unwrap();
    bob.until_seq(room, sent.seq).await;
    ann.finish().await;
    bob.finish().await;
}

#[tokio::test]
async fn slow_readers_of_a_node_are_bounded_together_and_the_others_go_on() {
    let args = vec!["--outboxes-mib".to_owned(), "2".to_owned()];
    let server = Sendpi::start_with(SendpiSetup { args, ..SendpiSetup::default() }).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let cleo = Recording::connect(&server, "cleo", "phone").await;
    let slow = ["s1", "s2", "s3", "s4", "s5", "s6"];
    let mut readers = Vec::new();
    for user in slow {
        readers.push(stopped_reader(&server, user).await);
    }
    let room = ann.client().create("lobby", &[&slow[..], &["cleo"]].concat()).await.unwrap().room;
    let room = room.as_str();
    step("ann sends more than all slow readers may have together, and less than each of them may have");
    let mut last = 0;
    for _ in 0..50 {
        last = ann.client().send(room, &long_text()).await.unwrap().seq;
    }
    cleo.until_seq(room, last).await;
    let online = async || {
        let members = ann.client().members(room, None, 100).await.unwrap().members;
        members.iter().filter(|member| member.online && slow.contains(&member.user.as_str())).count()
    };
    let fewer = async { while online().await == slow.len() {} };
    within(Duration::from_secs(15), "some slow readers are closed", fewer).await;
    assert!(online().await >= 1, "what fits into the bound stays");
    for client in [ann, cleo] {
        client.finish().await;
    }
}
