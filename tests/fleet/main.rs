//! A fleet of workers that come, go and die under load: nothing acknowledged is lost, nothing planned is noticed, and
//! rooms answer again soon. What it measures it prints; run it with `--nocapture` to see that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sendpi_bus::Bus;
use sendpi_bus::lease::{Lease, Leases};
use sendpi_model::{NodeId, Partition, rendezvous};
use sendpi_tests::{FleetNats, NatsCluster, NatsServer, SteadyLoad, TestFleet, step, until, within};
use tokio::sync::{Mutex, MutexGuard};

/// The rooms in which somebody sends.
const ROOMS: usize = 24;
/// A number of partitions for more workers than these.
const MANY: u16 = 256;
/// How many workers are killed, one after the other, unless `SENDPI_KILLS` says otherwise.
const KILLS: usize = 6;
/// A pause of a room beyond this one was caused by the death of its worker.
const NOTICED: Duration = Duration::from_millis(300);
/// A fleet takes the whole machine.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

async fn single() -> FleetNats {
    FleetNats::Single(Box::new(NatsServer::start().await))
}

/// Has somebody send in each of some rooms, without an end, some 10 messages a second.
async fn load(fleet: &TestFleet) -> SteadyLoad {
    let connect = async |user: &str, device: &str| fleet.connect(user, device).await;
    SteadyLoad::start_with(ROOMS, Duration::from_millis(100), connect).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_worker_is_killed_its_rooms_answer_again_soon_and_nothing_is_lost() {
    let _alone = alone().await;
    let mut fleet = TestFleet::start(single().await, 3).await;
    let load = load(&fleet).await;
    let mut pauses = Vec::new();
    let kills = std::env::var("SENDPI_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    for kill in 0..kills {
        step(format!("kill {kill}"));
        load.forget_slowest();
        fleet.kill9(kill % 3).await;
        within(Duration::from_secs(30), "all rooms answer again", async {
            // Each room was acknowledged something after the partitions had owners again.
            fleet.until_shared().await;
            load.goes_on().await;
        })
        .await;
        pauses.extend(load.slowest().into_iter().filter(|pause| *pause > NOTICED));
        fleet.add_worker(&[]).await;
        load.goes_on().await;
    }
    pauses.sort();
    let (median, longest) = (pauses[pauses.len() / 2], pauses[pauses.len() - 1]);
    println!("{kills} kills, {} rooms without a worker: median {median:?}, longest {longest:?}", pauses.len());
    // On a machine with nothing else to do it is half of that.
    assert!(median < Duration::from_millis(1_500) && longest < Duration::from_secs(4), "{pauses:?}");
    assert_eq!(load.unanswered(), 0);
    load.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_come_and_go_as_planned_are_not_noticed() {
    let _alone = alone().await;
    let mut fleet = TestFleet::start(single().await, 2).await;
    let load = load(&fleet).await;
    for round in 0..5 {
        step(format!("a worker comes, round {round}"));
        load.forget_slowest();
        fleet.add_worker(&[]).await;
        load.goes_on().await;
        println!("a worker came: longest pause {:?}, shares {:?}", load.slowest().iter().max(), fleet.shares().await);
        step(format!("a worker goes, round {round}"));
        load.forget_slowest();
        fleet.terminate(0).await;
        fleet.until_shared().await;
        load.goes_on().await;
        println!("a worker went: longest pause {:?}, shares {:?}", load.slowest().iter().max(), fleet.shares().await);
    }
    assert_eq!(load.unanswered(), 0);
    load.finish().await;
}

/// Returns the leases, once each partition is owned by the worker that should own it.
async fn settled(bus: &Bus, workers: usize) -> BTreeMap<Partition, Lease> {
    let mut leases = BTreeMap::new();
    until("each partition to be where it belongs", async || {
        leases = Leases::new(bus).all().await.unwrap_or_default();
        let owners: BTreeSet<&NodeId> = leases.values().map(|lease| &lease.owner).collect();
        let is_rightful = |(partition, lease): (&Partition, &Lease)| {
            let rightful = rendezvous::highest(&partition.to_string(), owners.iter().map(|owner| (*owner, 1)));
            !lease.released && rightful == Some(&lease.owner)
        };
        owners.len() == workers && leases.len() == usize::from(MANY) && leases.iter().all(is_rightful)
    })
    .await;
    let mut shares: BTreeMap<&NodeId, usize> = BTreeMap::new();
    leases.values().for_each(|lease| *shares.entry(&lease.owner).or_default() += 1);
    let mean = f64::from(MANY) / workers as f64;
    let shares: Vec<usize> = shares.into_values().collect();
    println!("{MANY} partitions, {workers} workers: {shares:?}");
    assert!(shares.iter().all(|share| (*share as f64 - mean).abs() <= 4.0 * mean.sqrt()), "{shares:?}");
    leases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_partitions_those_move_that_a_joiner_gets_or_a_leaver_had_and_no_others() {
    let _alone = alone().await;
    let mut fleet = TestFleet::start_with_partitions(single().await, 3, MANY).await;
    let FleetNats::Single(nats) = &fleet.nats else { panic!("it is one server") };
    let bus = nats.connect("operator").await;
    let before = settled(&bus, 3).await;
    step("a worker comes");
    fleet.add_worker(&[]).await;
    let joined = settled(&bus, 4).await;
    let old: BTreeSet<&NodeId> = before.values().map(|lease| &lease.owner).collect();
    for (partition, lease) in &joined {
        assert_eq!(before.get(partition) == Some(lease), old.contains(&lease.owner), "{partition}: {lease:?}");
    }
    let mut leases = joined;
    for (workers, goes) in [(3, "stopped"), (2, "killed")] {
        step(format!("a worker is {goes}"));
        if goes == "killed" {
            fleet.kill9(0).await
        } else {
            fleet.terminate(0).await
        }
        let after = settled(&bus, workers).await;
        let left: BTreeSet<&NodeId> = after.values().map(|lease| &lease.owner).collect();
        for (partition, lease) in &leases {
            assert_eq!(after.get(partition) == Some(lease), left.contains(&lease.owner), "{partition}: {lease:?}");
        }
        leases = after;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_frozen_and_goes_on_contradicts_nobody() {
    let _alone = alone().await;
    let fleet = TestFleet::start(single().await, 3).await;
    let load = load(&fleet).await;
    // A node key lives for 15 seconds: some of these are shorter, and one is longer.
    let mut freezes = vec![(0, 1), (1, 6), (2, 20), (0, 11)];
    let more = std::env::var("SENDPI_FREEZES").ok().and_then(|freezes| freezes.parse().ok()).unwrap_or(0);
    freezes.extend((0..more).map(|_| (rand::random_range(0..3), rand::random_range(1..=60))));
    for (worker, seconds) in freezes {
        step(format!("a worker is frozen for {seconds} s"));
        fleet.workers[worker].signal("STOP");
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        step("it goes on");
        fleet.workers[worker].signal("CONT");
        fleet.until_shared().await;
        load.goes_on().await;
    }
    load.finish().await;
}

/// NATS takes the connection of a frozen worker for alive for minutes. What is asked of its rooms must not only go
/// there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_a_frozen_worker_is_taken_over_its_rooms_answer_at_once() {
    let _alone = alone().await;
    let mut fleet = TestFleet::start(single().await, 3).await;
    let load = load(&fleet).await;
    step("a worker is frozen, until the others have its partitions");
    let frozen = fleet.workers.remove(0);
    frozen.signal("STOP");
    fleet.until_shared().await;
    load.goes_on().await;
    load.forget_slowest();
    load.goes_on().await;
    load.goes_on().await;
    let slowest = load.slowest().into_iter().max();
    println!("a worker stays frozen, and its rooms have a new owner: slowest answer {slowest:?}");
    // What goes to the frozen one is asked again after 2 seconds.
    assert!(slowest < Some(Duration::from_secs(1)), "{slowest:?}");
    step("it goes on");
    frozen.signal("CONT");
    fleet.workers.push(frozen);
    fleet.until_shared().await;
    load.goes_on().await;
    load.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_each_nats_server_is_restarted_in_turn_nobody_sees_an_error_or_is_called_dead() {
    let _alone = alone().await;
    let mut fleet = TestFleet::start(FleetNats::Cluster(NatsCluster::start().await), 3).await;
    let load = load(&fleet).await;
    let before = fleet.shares().await;
    for server in 0..3 {
        step(format!("server {server} is killed and started again"));
        let FleetNats::Cluster(cluster) = &mut fleet.nats else { panic!("it is a cluster") };
        cluster.restart(server).await;
        fleet.until_shared().await;
        load.goes_on().await;
    }
    println!("three NATS servers were restarted: slowest answer {:?}", load.slowest().iter().max());
    step("each worker has its partitions again");
    until("the shares to be as before", async || fleet.shares().await == before).await;
    for worker in &fleet.workers {
        for dead in ["a node is gone", "counts as unreachable"] {
            assert_eq!(worker.logged(dead), 0, "{dead}");
        }
    }
    assert_eq!(load.unanswered(), 0);
    load.finish().await;
}
