//! A test's own fleet: a gateway and some workers, each a process, on one NATS and one keyspace.

#![expect(clippy::missing_panics_doc, reason = "a test ends at what it does not expect")]

use std::time::Duration;

use sendpi_model::Partitions;

use crate::{Keyspace, NatsCluster, NatsServer, Recording, ServedNode, get, metric, within};

/// How soon the partitions are shared again after a change.
const SHARED: Duration = Duration::from_secs(40);

/// The NATS of a fleet.
#[derive(Debug)]
pub enum FleetNats {
    /// One server.
    Single(Box<NatsServer>),
    /// Three of them.
    Cluster(NatsCluster),
}

/// A gateway and some workers.
#[derive(Debug)]
pub struct TestFleet {
    /// The NATS that they talk by.
    pub nats: FleetNats,
    keyspace: Keyspace,
    gateway: ServedNode,
    /// The workers, in the order in which they came.
    pub workers: Vec<ServedNode>,
    lines: String,
    partitions: u16,
}

impl TestFleet {
    /// Starts a gateway and so many workers.
    pub async fn start(nats: FleetNats, workers: usize) -> Self {
        Self::start_with_partitions(nats, workers, Partitions::DEFAULT.count()).await
    }

    /// Starts a gateway and so many workers, which share so many partitions.
    pub async fn start_with_partitions(nats: FleetNats, workers: usize, partitions: u16) -> Self {
        let keyspace = Keyspace::make().await;
        let lines = format!("durability = \"relaxed\"\npartition-count = {partitions}");
        let gateway = start(&nats, &keyspace, &lines, &["--role", "gateway,push", "--no-rates", "--no-push"]).await;
        let mut fleet = Self { nats, keyspace, gateway, workers: Vec::new(), lines, partitions };
        for _ in 0..workers {
            fleet.add_worker(&[]).await;
        }
        fleet
    }

    /// Starts one more worker with these arguments, and waits until it has its share.
    pub async fn add_worker(&mut self, args: &[&str]) {
        let args = [&["--role", "channel"], args].concat();
        let worker = start(&self.nats, &self.keyspace, &self.lines, &args).await;
        self.workers.push(worker);
        self.until_shared().await;
    }

    /// Kills a worker.
    pub async fn kill9(&mut self, worker: usize) {
        self.workers.remove(worker).kill9().await;
    }

    /// Stops a worker as an operator would. It must say that all went well.
    pub async fn terminate(&mut self, worker: usize) {
        let mut worker = self.workers.remove(worker);
        assert!(worker.terminate().await.success());
    }

    /// Returns how many partitions each worker owns.
    pub async fn shares(&self) -> Vec<u64> {
        let mut shares = Vec::new();
        for worker in &self.workers {
            shares.push(metric_of(worker, "sendpi_owned_partitions").await);
        }
        shares
    }

    /// Waits until the live workers own all partitions, each some.
    pub async fn until_shared(&self) {
        within(SHARED, "all partitions are owned", async {
            loop {
                let shares = self.shares().await;
                if shares.iter().sum::<u64>() == u64::from(self.partitions) && !shares.contains(&0) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Signs a user in.
    pub async fn connect(&self, user: &str, device: &str) -> Recording {
        let token = ServedNode::token(user);
        Recording::connect_with(self.gateway.url(), &token, user, device, Default::default()).await
    }
}

async fn start(nats: &FleetNats, keyspace: &Keyspace, lines: &str, args: &[&str]) -> ServedNode {
    match nats {
        FleetNats::Single(server) => ServedNode::start(server, keyspace, lines, args).await,
        FleetNats::Cluster(cluster) => ServedNode::start_on(&cluster.urls(), 3, keyspace, lines, args).await,
    }
}

/// Returns a metric of a node, or 0 if the node does not answer.
async fn metric_of(node: &ServedNode, name: &str) -> u64 {
    get(node.url(), "/metrics", &[]).await.map_or(0, |answer| metric(&answer.body, name))
}
