//! What Sendpi keeps in NATS is lost or comes back by itself: it is mended, and users notice little of it.

use std::time::Duration;

use sendpi_bus::presence::{NodeChange, NodeInfo, dead_nodes, purge_node, watch_nodes};
use sendpi_bus::{Bucket, Bus, keep_streams, setup, subject};
use sendpi_model::{NodeId, Partitions, UserId};
use sendpi_tests::{NatsServer, PushRecorder, Recording, Sendpi, SendpiSetup, step, within};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::faults::send_surely;

/// How long it may take until a lost bucket or stream is there again.
const MADE_ANEW: Duration = Duration::from_secs(15);

/// Returns the only node whose key exists.
pub(crate) async fn node_of(bus: &Bus) -> NodeId {
    let stop = CancellationToken::new();
    let mut changes = watch_nodes(bus, stop.clone());
    let change = within(Duration::from_secs(10), "a node", changes.recv()).await;
    stop.cancel();
    match change {
        Some(NodeChange::Alive(node, _)) => node,
        other => panic!("{other:?}"),
    }
}

/// Returns the only node that is no worker.
async fn gateway_of(bus: &Bus) -> NodeId {
    let stop = CancellationToken::new();
    let mut changes = watch_nodes(bus, stop.clone());
    let gateway = within(Duration::from_secs(10), "a gateway", async {
        loop {
            if let Some(NodeChange::Alive(node, Some(NodeInfo { share: None, .. }))) = changes.recv().await {
                return node;
            }
        }
    })
    .await;
    stop.cancel();
    gateway
}

/// Waits until the bucket has the key, or has it no more.
async fn until_key(bucket: &Bucket, key: &str, there: bool) {
    let wait = async {
        while bucket.read(key).await.is_ok_and(|entry| entry.and_then(|e| e.value).is_some()) != there {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(MADE_ANEW, &format!("{key} is there: {there}"), wait).await;
}

/// Waits until the stream is there.
async fn until_stream(bus: &Bus, stream: &str) {
    let wait = async {
        loop {
            let info = bus.request(format!("$JS.API.STREAM.INFO.{stream}"), "".into()).await;
            if info.is_ok_and(|info| String::from_utf8_lossy(info.payload()).contains("\"created\"")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(MADE_ANEW, &format!("{stream} is there"), wait).await;
}

/// Deletes a stream while ann and bob talk. It is made anew, all keys are put anew, and cleo can sign in. Kills the
/// mutant `LostStreamsOff`.
async fn stream_is_lost(stream: &str) {
    let nats = NatsServer::start().await;
    let setup = SendpiSetup { nats: Some(nats.url()), heartbeat: Duration::from_secs(2), ..SendpiSetup::default() };
    let mut server = Sendpi::start_with(setup).await;
    let bus = nats.connect("observer").await;
    let mut ann = Recording::connect(&server, "ann", "phone").await;
    let mut bob = Recording::connect(&server, "bob", "laptop").await;
    let cleos_token = server.token("cleo").await;
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    let room = info.room.as_str();
    let mut known = ann.client().send(room, "before").await.unwrap().seq;
    bob.until_seq(room, known).await;

    step(format!("{stream} is deleted, and ann sends"));
    nats.delete_stream(stream).await;
    known = send_surely(&mut ann, server.url(), room, "meanwhile", known).await.seq;
    step("cleo signs in");
    let signing_in = Recording::connect_with(server.url(), &cleos_token, "cleo", "phone", Default::default());
    let mut cleo = within(MADE_ANEW, "cleo signs in", signing_in).await;
    step("the stream is there again");
    until_stream(&bus, stream).await;
    step("all keys are put anew");
    let node = within(MADE_ANEW, "the node's key is there", node_of(&bus)).await;
    let presence = Bucket::new(&bus, subject::PRESENCE_BUCKET);
    for user in ["ann", "bob", "cleo"] {
        until_key(&presence, &subject::user_key(&UserId::parse(user).unwrap(), &node), true).await;
    }
    until_key(&Bucket::new(&bus, subject::PARTITIONS_BUCKET), "0", true).await;

    step("ann makes a room with cleo, who is online, and eve, who is not");
    let second = within(MADE_ANEW, "a room", async {
        loop {
            match ann.client().create("second", &["cleo", "eve"]).await {
                Ok(info) => return info,
                Err(error) => assert!(error.is_unknown(), "{error}"),
            }
        }
    })
    .await;
    let mut pushes = PushRecorder::start(&nats).await;
    let sent = send_surely(&mut ann, server.url(), second.room.as_str(), "hello", second.seq).await;
    cleo.until_seq(second.room.as_str(), sent.seq).await;
    pushes.until(second.room.as_str(), sent.seq, "eve").await;
    known = send_surely(&mut ann, server.url(), room, "after", known).await.seq;
    bob.until_seq(room, known).await;

    // The epochs go on above the store's fence, also for the next owner.
    step("sendpi is killed and starts again");
    server.kill9().await;
    server.start_again().await;
    for client in [&mut ann, &mut bob, &mut cleo] {
        client.come_back(server.url()).await;
    }
    known = send_surely(&mut ann, server.url(), room, "after a restart", known).await.seq;
    bob.until_seq(room, known).await;
    assert_eq!(bob.room(room).texts(), ["before", "meanwhile", "after", "after a restart"]);
    for client in [ann, bob, cleo] {
        client.finish().await;
    }
}

#[tokio::test]
async fn a_lost_presence_bucket_is_made_anew_with_all_keys() {
    stream_is_lost(&subject::bucket_stream(subject::PRESENCE_BUCKET)).await;
}

#[tokio::test]
async fn a_lost_partitions_bucket_is_made_anew_with_all_leases() {
    stream_is_lost(&subject::bucket_stream(subject::PARTITIONS_BUCKET)).await;
}

#[tokio::test]
async fn what_an_operator_changed_of_the_push_stream_stays() {
    let nats = NatsServer::start().await;
    let (bus, stop) = (nats.connect("worker").await, CancellationToken::new());
    setup(&bus, Partitions::DEFAULT, 1).await.unwrap();
    keep_streams(&bus, Partitions::DEFAULT, 1, stop.clone());
    let ask = async |verb: &str, what: serde_json::Value| -> serde_json::Value {
        let subject = format!("$JS.API.STREAM.{verb}.{}", subject::PUSH_STREAM);
        let answer = bus.request(subject, what.to_string().into()).await.unwrap();
        serde_json::from_slice(answer.payload()).unwrap()
    };
    let mut config = ask("INFO", json!({})).await["config"].take();
    config["max_bytes"] = (1 << 25).into();
    assert_eq!(ask("UPDATE", config.clone()).await["config"], config);
    step("the streams are looked after, and a node starts");
    nats.delete_stream(&subject::bucket_stream(subject::PARTITIONS_BUCKET)).await;
    until_stream(&bus, &subject::bucket_stream(subject::PARTITIONS_BUCKET)).await;
    setup(&bus, Partitions::DEFAULT, 1).await.unwrap();
    assert_eq!(ask("INFO", json!({})).await["config"], config);
    stop.cancel();
}

#[tokio::test]
async fn a_lost_push_stream_is_made_anew() {
    stream_is_lost(subject::PUSH_STREAM).await;
}

/// A server that was killed may bring purged keys back. Kills the mutant `StraysOff`.
#[tokio::test]
async fn a_key_of_a_user_who_is_not_there_is_purged_after_a_reconnect() {
    let mut nats = NatsServer::start().await;
    let server = Sendpi::start_with(SendpiSetup { nats: Some(nats.url()), ..SendpiSetup::default() }).await;
    let bus = nats.connect("observer").await;
    let presence = Bucket::new(&bus, subject::PRESENCE_BUCKET);
    let ann = Recording::connect(&server, "ann", "phone").await;
    let node = node_of(&bus).await;
    let key = |user: &str| subject::user_key(&UserId::parse(user).unwrap(), &node);
    step("a key of eve, who is not there, comes into the bucket");
    presence.put(&key("eve"), "7".into(), None, None).await.unwrap();
    until_key(&presence, &key("eve"), true).await;

    step("nats is killed and starts again");
    nats.kill9().await;
    nats.start_again().await;
    until_key(&presence, &key("eve"), false).await;
    until_key(&presence, &key("ann"), true).await;
    step("eve is pushed");
    let mut pushes = PushRecorder::start(&nats).await;
    let room = ann.client().create("lobby", &["eve"]).await.unwrap().room;
    let sent = ann.client().send(room.as_str(), "hello").await.unwrap();
    pushes.until(room.as_str(), sent.seq, "eve").await;
    ann.finish().await;
}

/// Its key goes, as it does when JetStream is away for longer than keys live.
#[tokio::test]
async fn a_node_whose_link_is_heard_is_not_given_up_when_its_key_goes() {
    let nats = NatsServer::start().await;
    let setup = SendpiSetup { nats: Some(nats.url()), nodes: 2, ..SendpiSetup::default() };
    let mut server = Sendpi::start_with(setup).await;
    let bus = nats.connect("observer").await;
    let mut ann = Recording::connect(&server, "ann", "phone").await;
    let token = server.token("bob").await;
    let bob = Recording::connect_with(server.node(1), &token, "bob", "laptop", Default::default()).await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    let mut known = ann.client().send(room.as_str(), "before").await.unwrap().seq;
    bob.until_seq(room.as_str(), known).await;
    // A link that is new counts as heard, so this one gets some seconds older.
    tokio::time::sleep(sendpi_model::timing::LINK_NODE_SILENCE).await;

    step("the node's key is purged");
    let key = subject::node_key(&gateway_of(&bus).await);
    Bucket::new(&bus, subject::PRESENCE_BUCKET).purge(&key).await.unwrap();
    server.until_logged("the key of a node is gone, but its link was heard of just now", 1).await;
    assert_eq!(server.logged("a node is gone"), server.logged("the key of a node is gone"));
    server.until_logged("putting presence again", 1).await;
    step("ann sends");
    known = send_surely(&mut ann, server.url(), room.as_str(), "after", known).await.seq;
    bob.until_seq(room.as_str(), known).await;
    assert_eq!(bob.room(room.as_str()).texts(), ["before", "after"]);
    ann.finish().await;
    bob.finish().await;
}

/// A node comes back between the look for dead nodes and the purge of what they left.
#[tokio::test]
async fn the_purge_of_what_a_dead_node_left_spares_what_it_puts_when_it_comes_back() {
    let nats = NatsServer::start().await;
    let bus = nats.connect("worker").await;
    setup(&bus, Partitions::DEFAULT, 1).await.unwrap();
    let presence = Bucket::new(&bus, subject::PRESENCE_BUCKET);
    let node = NodeId::parse("node").unwrap();
    let key = |user: &str| subject::user_key(&UserId::parse(user).unwrap(), &node);
    presence.put(&key("ann"), "1".into(), None, None).await.unwrap();
    presence.put(&key("bob"), "2".into(), None, None).await.unwrap();
    let dead = dead_nodes(&bus).await.unwrap();
    assert_eq!(dead.keys().collect::<Vec<_>>(), [&node]);

    step("the node comes back with bob");
    presence
        .put(&subject::node_key(&node), NodeInfo::starting(Vec::new(), ([127, 0, 0, 1], 1).into()).encode(), None, None)
        .await
        .unwrap();
    presence.put(&key("bob"), "1".into(), None, None).await.unwrap();
    purge_node(&bus, &node, dead[&node]).await.unwrap();
    until_key(&presence, &key("ann"), false).await;
    until_key(&presence, &key("bob"), true).await;
    until_key(&presence, &subject::node_key(&node), true).await;
    assert!(dead_nodes(&bus).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_nats_that_takes_too_small_messages_is_refused_at_the_start_with_the_setting() {
    let nats = NatsServer::start_with("max_payload: 512KB\n").await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let output = Sendpi::run(&["dev", "--port", "0", "--data", data, "--nats", &nats.url()]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("max_payload") && said.contains("1048576"), "{said}");
}
