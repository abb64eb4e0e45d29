//! A node without clients, on which a test runs workers in its own process.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::sync::Arc;

use sendpi_bus::presence::{NodeInfo, NodeKey, WorkerShare, is_alive, watch_nodes};
use sendpi_bus::{Bus, setup};
use sendpi_channel::{ChannelConfig, Worker};
use sendpi_model::Partitions;
use sendpi_store::Store;
use tokio_util::sync::CancellationToken;

use crate::NatsServer;

/// A node with the name `worker`. On drop it no longer refreshes its key.
#[derive(Debug)]
pub struct WorkerNode {
    bus: Bus,
    key: NodeKey,
    stop: CancellationToken,
}

impl WorkerNode {
    /// Joins a new server, after making what Sendpi keeps there.
    pub async fn start(nats: &NatsServer) -> Self {
        let (bus, stop) = (nats.connect("worker").await, CancellationToken::new());
        setup(&bus, Partitions::DEFAULT, 1).await.unwrap();
        let info = NodeInfo::starting(vec!["channel".to_owned()], ([127, 0, 0, 1], 0).into());
        let key = NodeKey::start(&bus, info, stop.clone()).await.unwrap();
        Self { bus, key, stop }
    }

    /// Starts a worker, and waits until the server has heard of everything that it subscribed to. One at a time may
    /// run.
    pub async fn run(&self, store: Arc<dyn Store>, config: ChannelConfig) -> Worker {
        let changes = watch_nodes(&self.bus, self.stop.clone());
        let (partitions, config) = (Partitions::DEFAULT, (config, WorkerShare::default()));
        let worker = sendpi_channel::start(&self.bus, store, partitions, self.key.clone(), changes, config);
        let worker = worker.await.unwrap();
        // The server takes what one connection says in order, so this request is behind the subscriptions.
        while !is_alive(&self.bus, self.bus.node()).await.unwrap() {}
        worker
    }
}

impl Drop for WorkerNode {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
