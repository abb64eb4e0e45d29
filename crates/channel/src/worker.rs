//! A worker: the channel role of a node.

use std::sync::Arc;

use sendpi_bus::lease::Leases;
use sendpi_bus::presence::{Barrier, NodeChange, NodeKey, dead_nodes, purge_node};
use sendpi_bus::{Bus, RequestError, SendError, subject};
use sendpi_model::Partitions;
use sendpi_store::{ReadError, Row, Store, WriteError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::ChannelConfig;
use crate::executor::{Executor, ExecutorSetup};
use crate::job::JobContext;

/// Why a worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerStartError {
    /// The connection to NATS is closed.
    #[error(transparent)]
    Send(#[from] SendError),
    /// NATS did not answer.
    #[error(transparent)]
    Nats(#[from] RequestError),
    /// The store did not answer.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store did not take what a new one is to know.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The store was made for another number of partitions.
    #[error("the store was made for {found} partitions, and this node is configured for {expected}")]
    Partitions {
        /// What the store says.
        found: u16,
        /// What this node says.
        expected: u16,
    },
}

/// A worker that runs.
#[derive(Debug)]
pub struct Worker {
    stop: CancellationToken,
    /// Cancelled when the executor has ended, in whatever way.
    ended: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    /// Cancelled when the worker has ended: before [`Worker::stop`] that is a defect, and the process should end, so that another
    /// takes its partitions.
    #[must_use]
    pub fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Stops taking requests, finishes what was taken, and ends.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the executor ended badly");
        }
    }
}

/// Claims the partitions and serves them. `changes` tells which nodes come and go.
///
/// # Errors
/// [`WorkerStartError`] where NATS or the store does not answer, or the store was made for something else.
pub async fn start(
    bus: &Bus,
    store: Arc<dyn Store>,
    partitions: Partitions,
    key: NodeKey,
    changes: mpsc::Receiver<NodeChange>,
    config: ChannelConfig,
) -> Result<Worker, WorkerStartError> {
    check_store(store.as_ref(), partitions).await?;
    for node in dead_nodes(bus).await? {
        tracing::info!(%node, "taking away what a dead node left in presence");
        purge_node(bus, &node, None).await?;
    }
    let stop = CancellationToken::new();
    let acks = bus.subscribe(subject::link_replies(bus.node())).await?;
    let context = JobContext { store, barrier: Barrier::start(bus, key.clone()), bus: bus.clone() };
    let leases = Leases::new(bus);
    let mut executor = Executor::new(ExecutorSetup { context, config, leases, key, acks, changes, stop: stop.clone() });
    let mut left = executor.claim_missing(partitions.all()).await;
    while left > 0 {
        // An owner that died leaves a key behind for its time-to-live at most.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        left = executor.claim_missing(partitions.all()).await;
    }
    let ended = CancellationToken::new();
    let guard = ended.clone().drop_guard();
    let task = tokio::spawn(async move {
        let _ended = guard;
        executor.run().await;
    });
    Ok(Worker { stop, ended, task })
}

async fn check_store(store: &dyn Store, partitions: Partitions) -> Result<(), WorkerStartError> {
    let expected = partitions.count();
    match store.partitions().await? {
        None => Ok(store.write(vec![Row::Partitions(expected)]).await?),
        Some(found) if found == expected => Ok(()),
        Some(found) => Err(WorkerStartError::Partitions { found, expected }),
    }
}
