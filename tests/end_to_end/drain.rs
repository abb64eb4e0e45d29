//! The server starts and ends as its operator wants it to.

use std::time::Duration;

use sendpi_bus::{Bucket, subject};
use sendpi_client::ServerFrame;
use sendpi_model::CloseCode;
use sendpi_model::timing::LAST_PONG_TIMEOUT;
use sendpi_tests::{NatsServer, Recording, Sendpi, SendpiSetup, step, within};
use tokio::time::Instant;

/// Kills the mutant `ByeOff`.
#[tokio::test]
async fn a_drain_tells_clients_when_to_come_back_and_they_miss_nothing() {
    let mut server = Sendpi::start().await;
    let mut ann = Recording::connect(&server, "ann", "phone").await;
    let mut bob = Recording::connect(&server, "bob", "laptop").await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    let room = room.as_str();
    ann.client().send(room, "before").await.unwrap();
    bob.until_text(room, "before").await;

    step("the server drains and says bye");
    server.signal("TERM");
    let start = Instant::now();
    for client in [&ann, &bob] {
        let bye = |frame: &ServerFrame| match frame {
            ServerFrame::Bye(sendpi_model::server_frame::Bye { reason, reconnect_in_ms }) => {
                Some((reason.clone(), *reconnect_in_ms))
            }
            _ => None,
        };
        let (reason, wait) = client.until_frame("bye", bye).await;
        assert_eq!(reason, "drain");
        assert!(wait < 5_000, "{wait}");
        // Who has answered the last heartbeat is sent away at once. A drain waits longer for the others.
        assert!(start.elapsed() < LAST_PONG_TIMEOUT, "{:?}", start.elapsed());
        assert_eq!(client.client().closed().await.code, Some(CloseCode::Drain.code()));
    }
    step("the server ends and starts again");
    server.ended().await;
    server.start_again().await;

    step("ann comes back and sends while bob is away");
    ann.come_back(server.url()).await;
    let missed = ann.client().send(room, "while bob was away").await.unwrap();
    step("bob comes back and ann sends");
    bob.come_back(server.url()).await;
    bob.until_seq(room, missed.seq).await;
    let last = ann.client().send(room, "after").await.unwrap();
    bob.until_seq(room, last.seq).await;
    assert_eq!(bob.room(room).texts(), ["before", "while bob was away", "after"]);
    ann.finish().await;
    bob.finish().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_way_to_choose_another() {
    let server = Sendpi::start().await;
    let port = server.url().rsplit(':').next().unwrap();
    step("a second server starts on the port of the first");
    let folder = tempfile::tempdir().unwrap();
    let output = Sendpi::run(&["dev", "--port", port, "--data", folder.path().to_str().unwrap()]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("port {port} is taken; choose another with --port")), "{said}");
}

/// NATS is frozen, so a stop in order takes some seconds. Kills the mutant `SecondSignalOff`.
#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let nats = NatsServer::start().await;
    let mut server = Sendpi::start_with(SendpiSetup { nats: Some(nats.url()), ..SendpiSetup::default() }).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    ann.client().create("lobby", &["bob"]).await.unwrap();
    nats.signal("STOP");
    step("the server is told to stop, and told again");
    server.signal("TERM");
    server.until_logged("stopping", 1).await;
    server.signal("TERM");
    within(Duration::from_millis(1_500), "the server ends at once", server.ended()).await;
}

/// Nobody else counts the node as live after it has stopped.
#[tokio::test]
async fn a_node_that_stops_takes_its_own_key_away() {
    let nats = NatsServer::start().await;
    let mut server = Sendpi::start_with(SendpiSetup { nats: Some(nats.url()), ..SendpiSetup::default() }).await;
    let bus = nats.connect("observer").await;
    let node = crate::buckets::node_of(&bus).await;
    // Nobody is there to wait for.
    within(Duration::from_secs(5), "it ends", server.terminate()).await;
    let left = Bucket::new(&bus, subject::PRESENCE_BUCKET).read(&subject::node_key(&node)).await.unwrap();
    assert!(left.is_none_or(|entry| entry.value.is_none()), "its key is there after it has ended");
}
