//! Nodes of a cluster: their roles, their configuration, and what they refuse to start on.

use std::process::Output;

use sendpi_store::Store;
use sendpi_store::cql::Cql;
use sendpi_tests::{Keyspace, NatsServer, Recording, Sendpi, ServedNode, get, step, until};

const RELAXED: &str = "durability = \"relaxed\"";

fn said(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn sign_in(node: &ServedNode, user: &str) -> Recording {
    Recording::connect_with(node.url(), &ServedNode::token(user), user, "phone", Default::default()).await
}

#[tokio::test]
async fn nodes_with_different_roles_are_one_sendpi() {
    let (nats, keyspace) = (NatsServer::start().await, Keyspace::make().await);
    let mut worker = ServedNode::start(&nats, &keyspace, RELAXED, &["--role", "channel,push"]).await;
    let mut first = ServedNode::start(&nats, &keyspace, RELAXED, &["--role", "gateway"]).await;
    let second = ServedNode::start(&nats, &keyspace, "role = [\"gateway\"]\ndurability = \"relaxed\"", &[]).await;

    step("two users talk over two gateways");
    let ann = sign_in(&first, "ann").await;
    let bob = sign_in(&second, "bob").await;
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    let sent = ann.client().send(info.room.as_str(), "hi").await.unwrap();
    bob.until_seq(info.room.as_str(), sent.seq).await;

    step("a node without the role of a gateway serves operations only");
    for (path, status) in [("/healthz", 200), ("/v1/ws", 404), ("/v1/rooms", 404), ("/", 404)] {
        assert_eq!(get(worker.url(), path, &[]).await.unwrap().status, status, "{path}");
    }
    assert_eq!(get(second.url(), "/", &[]).await.unwrap().status, 404);

    step("each statement is among the metrics");
    let metrics = get(worker.url(), "/metrics", &[]).await.unwrap().body;
    for name in ["write_timeline", "read_fence", "write_rooms_by_activity"] {
        assert!(metrics.contains(&format!("sendpi_store_queries_seconds_count{{query=\"{name}\"}}")), "{metrics}");
    }
    ann.finish().await;
    assert!(first.terminate().await.success());
    bob.finish().await;
    assert!(worker.terminate().await.success());
}

#[tokio::test]
async fn pinned_partitions_go_to_the_worker_that_pins_them() {
    let (nats, keyspace) = (NatsServer::start().await, Keyspace::make().await);
    let gateway = ServedNode::start(&nats, &keyspace, RELAXED, &["--role", "gateway"]).await;
    let mut first = ServedNode::start(&nats, &keyspace, RELAXED, &["--role", "channel"]).await;
    let owned = async |node: &ServedNode| {
        let metrics = get(node.url(), "/metrics", &[]).await.unwrap().body;
        let owned = metrics.lines().find_map(|line| line.strip_prefix("sendpi_owned_partitions "));
        owned.unwrap().parse::<u64>().unwrap()
    };
    until("one worker to own all", async || owned(&first).await == 64).await;
    let ann = sign_in(&gateway, "ann").await;
    let info = ann.client().create("lobby", &[]).await.unwrap();
    let room = info.room.as_str();

    step("a second worker pins some");
    let second = ServedNode::start(&nats, &keyspace, RELAXED, &["--role", "channel", "--partitions", "0-15,20"]).await;
    until("it to own those", async || (owned(&first).await, owned(&second).await) == (47, 17)).await;
    ann.client().send(room, "hi").await.unwrap();

    step("it owns all when the first one ends, because there is nobody else");
    assert!(first.terminate().await.success());
    until("it to own all", async || owned(&second).await == 64).await;
    ann.client().send(room, "hi").await.unwrap();
    ann.finish().await;
}

#[tokio::test]
async fn a_node_says_why_it_does_not_start() {
    let (nats, keyspace) = (NatsServer::start().await, Keyspace::make().await);
    let refused = async |lines: &str, args: &[&str]| said(&ServedNode::refused(&nats, &keyspace, lines, args).await);

    step("settings that are none, or contradict each other");
    let text = refused("heart-beat = \"5s\"", &[]).await;
    assert!(text.contains("there is no setting heart-beat"), "{text}");
    let text = refused("heartbeat = \"soon\"", &[]).await;
    assert!(text.contains("invalid value 'soon' for '--heartbeat"), "{text}");
    let text = refused("idle-min = \"20m\"", &[]).await;
    assert!(text.contains("--idle-min must not be longer than --idle-max"), "{text}");

    step("partitions that are none");
    for (partitions, why) in [("60-64", "--partitions names partition 64"), ("3-1", "is no partition")] {
        let text = refused(RELAXED, &["--partitions", partitions]).await;
        assert!(text.contains(why), "{text}");
    }

    step("a database and a NATS that may lose something");
    let text = refused("", &[]).await;
    for weakness in ["the replication of the keyspace", "commitlog_sync of the database is periodic", "--nats-replicas"]
    {
        assert!(text.contains(weakness) && text.contains("--durability relaxed"), "{text}");
    }

    step("another number of partitions");
    let store = Cql::open(keyspace.config()).await.unwrap();
    store.write(vec![sendpi_store::Row::Partitions(8)]).await.unwrap();
    for role in ["channel", "gateway"] {
        let text = refused(RELAXED, &["--role", role]).await;
        assert!(text.contains("8 partitions") && text.contains("--partition-count is 64"), "{text}");
    }
}

#[tokio::test]
async fn the_schema_is_made_once_and_a_node_refuses_one_that_it_does_not_know() {
    let (nats, keyspace) = (NatsServer::start().await, Keyspace::make_without_tables().await);
    let (nodes, name) = (keyspace.config().nodes.join(","), keyspace.config().keyspace.clone());
    let schema_with = async |action: &str, args: &[&str]| {
        Sendpi::run(&[&["schema", action, "--cql", &nodes, "--keyspace", &name], args].concat()).await
    };
    let schema = async |action: &str| schema_with(action, &[]).await;

    step("there are no tables");
    assert!(said(&schema("check").await).contains("run `sendpi schema apply` first"));
    let text = said(&ServedNode::refused(&nats, &keyspace, RELAXED, &[]).await);
    assert!(text.contains("run `sendpi schema apply` first"), "{text}");

    step("two make them at once, and once more");
    let (one, other) = tokio::join!(schema("apply"), schema("apply"));
    for output in [one, other, schema("apply").await, schema("check").await] {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    drop(ServedNode::start(&nats, &keyspace, RELAXED, &[]).await);

    step("what only one of the databases knows");
    for _ in 0..2 {
        let tuned = schema_with("tune", &["--for", "cassandra"]).await;
        assert!(tuned.status.success(), "{}", String::from_utf8_lossy(&tuned.stderr));
    }
    let text = said(&schema_with("tune", &["--for", "scylla"]).await);
    assert!(text.contains("IncrementalCompactionStrategy"), "{text}");
    assert!(schema("check").await.status.success());

    step("a later release has changed them");
    keyspace.run("UPDATE meta SET value = '999' WHERE name = 'schema_version'").await;
    for output in [schema("check").await, ServedNode::refused(&nats, &keyspace, RELAXED, &[]).await] {
        let text = said(&output);
        assert!(text.contains("version 999") && text.contains("run a newer release"), "{text}");
    }
    assert!(said(&schema("apply").await).contains("version 999"));
}
