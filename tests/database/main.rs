//! A database that fails under load: everything acknowledged is there, in order and once, nothing is acknowledged
//! without the database, and service comes back by itself.

use std::sync::Arc;
use std::time::Duration;

use sendpi_tests::{CassandraServer, Keyspace, Sendpi, SendpiSetup, SteadyLoad, step};
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
