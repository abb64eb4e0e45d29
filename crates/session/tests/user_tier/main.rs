//! Tests of one node's user tier against a NATS server and an owner whose behavior can be disturbed.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod devices;
mod lists;
mod losses;
mod markers;
mod owner;
mod resync;
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use owner::Owner;
use sendpi_bus::presence::{NodeInfo, NodeKey};
use sendpi_bus::subject::{self, PRESENCE_BUCKET};
use sendpi_bus::{Bucket, Bus};
use sendpi_model::{Code, NodeId, Partitions, UserId};
use sendpi_session::{SessionConfig, UserTier, start};
use sendpi_tests::{NatsServer, until};
use support::{Rows, SocketlessClient};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

struct World {
    nats: NatsServer,
    owner: Arc<Owner>,
    store: Arc<Rows>,
    bus: Bus,
    handle: UserTier,
    stop: CancellationToken,
}

impl World {
    async fn new() -> Self {
        Self::with(SessionConfig::default()).await
    }

    async fn with(config: SessionConfig) -> Self {
        let nats = NatsServer::start().await;
        let bus = nats.connect("n1").await;
        sendpi_bus::setup(&bus, Partitions::DEFAULT, 1).await.unwrap();
        let owner = Owner::start(nats.connect("w1").await).await;
        let store = Arc::new(Rows::default());
        let stop = CancellationToken::new();
        let handle = node(&bus, &store, config, &stop).await;
        Self { nats, owner, store, bus, handle, stop }
    }

    /// Returns whether the user has a presence key.
    async fn is_online(&self, user: &str) -> bool {
        let key = subject::user_key(&UserId::parse(user).unwrap(), self.bus.node());
        let entry = Bucket::new(&self.bus, PRESENCE_BUCKET).read(&key).await.unwrap();
        entry.is_some_and(|entry| entry.value.is_some())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn node(bus: &Bus, store: &Arc<Rows>, config: SessionConfig, stop: &CancellationToken) -> UserTier {
    let key =
        NodeKey::start(bus, NodeInfo::starting(Vec::new(), ([127, 0, 0, 1], 0).into()), stop.clone()).await.unwrap();
    start(bus.clone(), Arc::clone(store) as _, Partitions::DEFAULT, key, config, stop.clone()).await.unwrap()
}

fn send(nonce: &str) -> String {
    format!(r#"{{"op":"send","id":"{nonce}","room":"r","nonce":"{nonce}","body":{{"text":"hi"}}}}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_reaches_everybody_who_is_signed_in() {
    let world = World::new().await;
    world.store.active("ann", "r");
    world.store.active("bob", "r");
    world.store.active("bob", "closed");
    world.owner.happen("r", 3);
    let (ann, welcome) = SocketlessClient::sign_in(&world.handle, "ann").await;
    assert_eq!((&welcome["rooms"][0]["seq"], &welcome["next"]), (&3.into(), &serde_json::Value::Null));
    assert!(world.is_online("ann").await);
    let (bob, welcome) = SocketlessClient::sign_in(&world.handle, "bob").await;
    assert_eq!(welcome["rooms"].as_array().unwrap().len(), 1);
    ann.say(&send("1"));
    let event = ann.next().await;
    assert_eq!((&event["op"], &event["seq"], &event["body"]["text"]), (&"event".into(), &4.into(), &"hi".into()));
    let ok = ann.next().await;
    assert_eq!((&ok["op"], &ok["id"], &ok["seq"]), (&"ok".into(), &"1".into(), &4.into()));
    assert_eq!(bob.next().await["seq"], 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_messages_come_in_order_though_links_lose_some() {
    let world = World::new().await;
    world.store.active("ann", "r");
    let (ann, _) = SocketlessClient::sign_in(&world.handle, "ann").await;
    for n in 0..100 {
        ann.say(&send(&n.to_string()));
        if n % 10 == 5 {
            world.owner.lose.store(1, Ordering::Relaxed);
        }
        if n % 25 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if n == 60 {
            assert_eq!(ann.seqs(61).await, (1..=61).collect::<Vec<_>>());
        }
    }
    assert_eq!(ann.seqs(39).await, (62..=100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resume_replays_what_was_missed_and_goes_on_live() {
    let world = World::new().await;
    world.store.active("ann", "r");
    world.owner.happen("r", 5);
    let ann = SocketlessClient::connect(&world.handle, "ann");
    let hello = r#"{"op":"hello","device":"d","resume":{"r":2,"closed":1}}"#;
    ann.hello(hello).await.unwrap();
    assert_eq!(ann.next().await["op"], "welcome");
    assert_eq!(ann.seqs(3).await, [3, 4, 5]);
    let resumed = ann.next().await;
    let rooms = serde_json::json!({"r": {"seq": 5}, "closed": {"gone": true}});
    assert_eq!((&resumed["op"], &resumed["rooms"]), (&"resumed".into(), &rooms));
    ann.say(&send("1"));
    assert_eq!(ann.seqs(1).await, [6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_vanishes_is_bounced_and_its_user_goes_offline() {
    let world = World::new().await;
    world.store.active("ann", "r");
    let (ann, _) = SocketlessClient::sign_in(&world.handle, "ann").await;
    ann.say(&send("1"));
    assert_eq!(ann.seqs(1).await, [1]);
    assert_eq!(world.owner.audience("r"), ["ann"]);
    drop(ann);
    let bounced = (UserId::parse("ann").unwrap(), 1);
    until("the bounce", async || world.owner.bounced.lock().unwrap().contains(&bounced)).await;
    assert!(world.owner.audience("r").is_empty());
    until("ann to be offline", async || !world.is_online("ann").await).await;
    until("everything is settled", async || {
        let (has, settled) = *world.owner.settled.lock().unwrap();
        has > 0 && has == settled
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_heartbeat_settles_and_nothing_is_bounced() {
    let config = SessionConfig {
        heartbeat: Duration::from_millis(200),
        pong_timeout: Duration::from_millis(200),
        ..SessionConfig::default()
    };
    let world = World::with(config).await;
    world.store.active("ann", "r");
    let (ann, _) = SocketlessClient::sign_in(&world.handle, "ann").await;
    ann.say(&send("1"));
    let mut pongs = 0;
    while pongs < 4 {
        if ann.next().await["op"] == "ping" {
            ann.say(r#"{"op":"pong"}"#);
            pongs += 1;
        }
    }
    until("everything is settled", async || {
        let (has, settled) = *world.owner.settled.lock().unwrap();
        has > 0 && has == settled
    })
    .await;
    drop(ann);
    until("the detach", async || world.owner.audience("r").is_empty()).await;
    assert!(world.owner.bounced.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_cut_link_users_are_attached_again_and_get_what_they_missed() {
    let world = World::new().await;
    world.store.active("ann", "r");
    let (ann, _) = SocketlessClient::sign_in(&world.handle, "ann").await;
    ann.say(&send("1"));
    assert_eq!(ann.seqs(1).await, [1]);
    world.owner.anew.store(true, Ordering::Relaxed);
    until("the link begins anew", async || !world.owner.anew.load(Ordering::Relaxed)).await;
    world.owner.happen("r", 2);
    assert_eq!(ann.seqs(2).await, [2, 3]);
    assert_eq!(world.owner.audience("r"), ["ann"]);
    ann.say(&send("2"));
    assert_eq!(ann.seqs(1).await, [4]);
    world.handle.worker_gone(&NodeId::parse("w1").unwrap());
    ann.say(&send("3"));
    world.owner.anew.store(true, Ordering::Relaxed);
    assert_eq!(ann.seqs(1).await, [5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_nobody_answers_ends_as_unavailable() {
    let world = World::new().await;
    world.store.active("ann", "r");
    let (ann, _) = SocketlessClient::sign_in(&world.handle, "ann").await;
    world.owner.deaf.store(true, Ordering::Relaxed);
    ann.say(&send("1"));
    assert_eq!(ann.next().await["code"], "unavailable");
    world.owner.deaf.store(false, Ordering::Relaxed);
    ann.say(&send("2"));
    assert_eq!(ann.seqs(1).await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_sends_everybody_away_and_leaves_nothing_behind() {
    let world = World::new().await;
    world.store.active("ann", "r");
    let (ann, _) = SocketlessClient::sign_in(&world.handle, "ann").await;
    let handle = world.handle.clone();
    ann.say(&send("1"));
    assert_eq!(ann.seqs(1).await, [1]);
    assert_eq!(ann.next().await["op"], "ok");
    let drained = tokio::spawn(async move { handle.drain(Instant::now() + Duration::from_secs(10)).await });
    assert_eq!(ann.next().await["op"], "ping");
    ann.say(r#"{"op":"pong"}"#);
    let bye = ann.next().await;
    assert_eq!((&bye["op"], &bye["reason"]), (&"bye".into(), &"drain".into()));
    drop(ann);
    drained.await.unwrap();
    world.stop.cancel();
    until("the owner to hear that all is settled", async || world.owner.unsettled.load(Ordering::SeqCst) == 0).await;
    assert_eq!(world.owner.links.load(Ordering::Relaxed), 0, "it gave the silent node up and knows of nothing");
    assert_eq!(world.handle.sessions(), 0);
    assert!(world.owner.audience("r").is_empty() && !world.is_online("ann").await);
    assert!(world.owner.bounced.lock().unwrap().is_empty(), "ann had confirmed the message");
    let late = SocketlessClient::connect_refused(&world.handle);
    assert_eq!(late.code, Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_its_client_does_not_read_ends_the_session_and_lets_others_be_settled() {
    let world = World::with(SessionConfig { slow_timeout: Duration::from_secs(2), ..SessionConfig::default() }).await;
    world.store.active("ann", "r");
    world.store.active("bob", "r");
    world.owner.happen_long("r", 100);
    let ann = SocketlessClient::connect(&world.handle, "ann");
    ann.read(false);
    ann.hello(r#"{"op":"hello","device":"d","resume":{"r":1}}"#).await.unwrap();
    let (bob, _) = SocketlessClient::sign_in(&world.handle, "bob").await;
    bob.say(&send("1"));
    assert_eq!(bob.seqs(1).await, [101]);
    until("ann's session is closed", async || ann.session.is_closing()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_further_request_is_taken_while_much_waits_that_a_client_asked_for() {
    let world = World::new().await;
    world.store.active("ann", "r");
    world.owner.happen_long("r", 200);
    let (ann, _) = SocketlessClient::sign_in(&world.handle, "ann").await;
    ann.read(false);
    assert!(ann.session.takes_frames());
    ann.say(r#"{"op":"history","id":1,"room":"r","limit":200}"#);
    until("the page waits", async || !ann.session.takes_frames()).await;
    assert!(!ann.session.is_closing());
    ann.read(true);
    ann.session.flush().unwrap();
    assert!(ann.session.takes_frames());
}
