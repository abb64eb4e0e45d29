//! What a node missed without hearing of it, and what it does when it cannot keep up.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sendpi_bus::Bucket;
use sendpi_bus::subject::{self, PRESENCE_BUCKET};
use sendpi_model::{Code, Partitions};
use sendpi_session::SessionConfig;
use sendpi_tests::{until, within};

use crate::support::SocketlessClient;
use crate::{World, send};

/// Kills the mutant `HeadsOff`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_link_lost_without_a_trace_is_found_by_comparing_heads() {
    let world =
        World::with(SessionConfig { heads_every: Duration::from_millis(200), ..SessionConfig::default() }).await;
    world.store.active("ann", "r");
    let (ann, _) = SocketlessClient::sign_in(&world.handle, "ann").await;
    ann.say(&send("1"));
    assert_eq!(ann.seqs(1).await, [1]);
    world.owner.happen("r", 2);
    assert_eq!(ann.seqs(2).await, [2, 3]);
    ann.say(&send("2"));
    assert_eq!(ann.seqs(1).await, [4]);
    assert_eq!(world.owner.links.load(Ordering::Relaxed), 0, "no link had to be cut");
}

/// Kills the mutant `OwnKeyOff`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_own_key_was_lost_attaches_its_users_again_and_they_miss_nothing() {
    let world = World::new().await;
    world.store.active("ann", "r");
    let (ann, _) = SocketlessClient::sign_in(&world.handle, "ann").await;
    ann.say(&send("1"));
    assert_eq!(ann.seqs(1).await, [1]);
    // For a while the node counts as dead: its key is gone, and its users are offline to the owners.
    let bucket = Bucket::new(&world.bus, PRESENCE_BUCKET);
    bucket.purge(&subject::node_key(world.bus.node())).await.unwrap();
    world.owner.give_users_up();
    world.owner.happen("r", 2);
    assert_eq!(ann.seqs(2).await, [2, 3]);
    assert_eq!(world.owner.audience("r"), ["ann"]);
    let key = bucket.read(&subject::node_key(world.bus.node())).await.unwrap();
    assert!(key.is_some_and(|key| key.value.is_some()), "the node's key is there again");
    ann.say(&send("2"));
    assert_eq!(ann.seqs(1).await, [4]);
}

/// Kills the mutant `OverrunOff`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_unconfirmed_events_that_is_full_cuts_all_links_and_nobody_misses_anything() {
    let world = World::with(SessionConfig { unconfirmed_events: 5, ..SessionConfig::default() }).await;
    world.store.active("ann", "r");
    let (ann, _) = SocketlessClient::sign_in(&world.handle, "ann").await;
    for seq in 1..=5 {
        ann.say(&send(&seq.to_string()));
        assert_eq!(ann.seqs(1).await, [seq]);
    }
    assert_eq!(world.owner.links.load(Ordering::Relaxed), 0);
    ann.say(&send("one too many"));
    assert_eq!(ann.seqs(1).await, [6]);
    until("the worker gave the node up", async || world.owner.links.load(Ordering::Relaxed) > 0).await;
    world.owner.happen("r", 2);
    assert_eq!(ann.seqs(2).await, [7, 8]);
    ann.say(&send("after"));
    assert_eq!(ann.seqs(1).await, [9]);
    assert_eq!(world.owner.audience("r"), ["ann"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_while_the_presence_bucket_is_lost_is_refused_in_time_and_works_once_it_is_there() {
    let limit = Duration::from_secs(2);
    let world = World::with(SessionConfig { sign_in_timeout: limit, ..SessionConfig::default() }).await;
    world.nats.delete_stream(&subject::bucket_stream(PRESENCE_BUCKET)).await;
    let ann = SocketlessClient::connect(&world.handle, "ann");
    let refused = within(2 * limit, "an answer", ann.hello(r#"{"op":"hello","device":"d"}"#)).await.unwrap_err();
    assert_eq!((refused.code, refused.retry_in_ms.is_some()), (Code::Unavailable, true));
    drop(ann);
    sendpi_bus::setup(&world.bus, Partitions::DEFAULT, 1).await.unwrap();
    let (ann, _) = SocketlessClient::sign_in(&world.handle, "ann").await;
    ann.say(&send("1"));
    assert_eq!(ann.next().await["op"], "ok");
    until("ann to be online", async || world.is_online("ann").await).await;
}
