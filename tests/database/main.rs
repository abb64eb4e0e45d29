//! A database that fails under load: everything acknowledged is there, in order and once, nothing is acknowledged
//! without the database, and service comes back by itself.

use std::sync::Arc;
use std::time::Duration;

use sendpi_tests::{
    CassandraServer, Keyspace, NatsCluster, Recording, Sendpi, SendpiSetup, ServedNode, SteadyLoad, TestCertificates,
    step, until,
};
use tokio::sync::{Mutex, MutexGuard};

/// How long the database is frozen.
const FROZEN: Duration = Duration::from_secs(20);
/// A cluster takes the whole machine.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

/// The rooms in which somebody sends.
const ROOMS: usize = 4;

async fn on(keyspace: Keyspace) -> Sendpi {
    Sendpi::start_with(SendpiSetup { keyspace: Some(Arc::new(keyspace)), ..SendpiSetup::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_frozen_nothing_is_acknowledged_and_then_all_goes_on() {
    let _alone = alone().await;
    let database = CassandraServer::start(1).await;
    let server = on(Keyspace::make_in(&database.addresses(), 1).await).await;
    let load = SteadyLoad::start(&server, ROOMS).await;

    step("the database is frozen");
    database.signal(0, "STOP");
    // What it had answered before may still be on its way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = load.acknowledged();
    tokio::time::sleep(FROZEN).await;
    assert_eq!(load.acknowledged(), before);

    step("the database goes on");
    database.signal(0, "CONT");
    load.goes_on().await;
    load.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_killed_and_started_again_loses_nothing_that_was_acknowledged() {
    let _alone = alone().await;
    let mut database = CassandraServer::start(1).await;
    let server = on(Keyspace::make_in(&database.addresses(), 1).await).await;
    let load = SteadyLoad::start(&server, ROOMS).await;
    for _ in 0..2 {
        step("the database is killed and started again");
        database.kill9(0).await;
        database.start_again(0).await;
        load.goes_on().await;
    }
    load.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_tenth_of_the_answers_is_lost_no_event_is_lost_or_doubled() {
    let _alone = alone().await;
    let (_database, proxy) = CassandraServer::start_behind_proxy().await;
    let server = on(Keyspace::make_in(&[proxy.address()], 1).await).await;
    let load = SteadyLoad::start(&server, ROOMS).await;
    step("every tenth answer is lost");
    proxy.lose_one_in(10);
    load.goes_on().await;
    load.goes_on().await;
    assert!(proxy.lost() >= 5, "{} answers were lost", proxy.lost());
    step("all answers come again");
    proxy.lose_none();
    load.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_one_of_three_nodes_is_killed_nobody_notices() {
    let _alone = alone().await;
    let mut database = CassandraServer::start(3).await;
    let server = on(Keyspace::make_in(&database.addresses(), 3).await).await;
    let load = SteadyLoad::start(&server, ROOMS).await;
    for node in [2, 0] {
        step("a node is killed, and later it is back");
        database.kill9(node).await;
        load.goes_on().await;
        load.goes_on().await;
        database.start_again(node).await;
        load.goes_on().await;
    }
    assert_eq!(load.unanswered(), 0);
    load.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_three_of_each_is_durable_enough_to_start_on_and_serves() {
    let _alone = alone().await;
    let (database, nats) = (CassandraServer::start(3).await, NatsCluster::start().await);
    let keyspace = Keyspace::make_in(&database.addresses(), 3).await;
    let node = async |role| ServedNode::start_on(&nats.urls(), 3, &keyspace, "", &["--role", role]).await;
    let mut worker = node("channel,push").await;
    let mut gateways = [node("gateway").await, node("gateway").await];
    let sign_in = async |node: &ServedNode, user: &str| {
        Recording::connect_with(node.url(), &ServedNode::token(user), user, "phone", Default::default()).await
    };
    let (ann, bob) = (sign_in(&gateways[0], "ann").await, sign_in(&gateways[1], "bob").await);
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    for n in 0..20 {
        let sent = ann.client().send(info.room.as_str(), &format!("{n}")).await.unwrap();
        bob.until_seq(info.room.as_str(), sent.seq).await;
    }
    ann.finish().await;
    bob.finish().await;
    for gateway in &mut gateways {
        assert!(gateway.terminate().await.success());
    }
    assert!(worker.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_certificate_or_the_wrong_password_is_not_let_in() {
    let _alone = alone().await;
    let (database, files) = CassandraServer::start_guarded().await;
    let nodes = database.addresses().join(",");
    let path = |path: std::path::PathBuf| path.display().to_string();
    let (certificate, key) = files.client();
    let schema = async |action: &str, authority: Option<String>, has_certificate: bool, password: &str| {
        let mut args = vec!["schema", action, "--cql", &nodes, "--cql-user", "cassandra", "--cql-password", password];
        let (authority, certificate, key) =
            (authority.unwrap_or_default(), path(certificate.clone()), path(key.clone()));
        if !authority.is_empty() {
            args.extend(["--cql-ca", &authority]);
        }
        if has_certificate {
            args.extend(["--cql-certificate", &certificate, "--cql-key", &key]);
        }
        if action == "apply" {
            args.extend(["--replication", "1"]);
        }
        let output = Sendpi::run(&args).await;
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let trusted = Some(path(TestCertificates::authority(&files)));
    until("the user to be there", async || schema("apply", trusted.clone(), true, "cassandra").await.0).await;
    let (is_made, said) = schema("check", trusted.clone(), true, "cassandra").await;
    assert!(is_made, "{said}");
    for (what, authority, has_certificate, password) in [
        ("no TLS", None, false, "cassandra"),
        ("an authority that did not sign", Some(path(files.other_authority())), true, "cassandra"),
        ("no certificate", trusted.clone(), false, "cassandra"),
        ("the wrong password", trusted.clone(), true, "wrong"),
    ] {
        let (is_let_in, said) = schema("check", authority, has_certificate, password).await;
        assert!(!is_let_in && said.contains("cannot connect to the database"), "{what}: {said}");
    }
    let (_, said) = schema("check", Some("/no/such/file".into()), false, "cassandra").await;
    assert!(said.contains("cannot read /no/such/file"), "{said}");
}
