//! A worker: the channel role of a node.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use sendpi_bus::lease::Leases;
use sendpi_bus::presence::{Barrier, NodeChange, NodeKey, WorkerShare, answer_alive, dead_nodes, purge_node};
use sendpi_bus::{Bus, RequestError, SendError, subject};
use sendpi_model::Partitions;
use sendpi_store::{ReadError, Row, Store, WriteError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::ChannelConfig;
use crate::executor::{Executor, ExecutorSetup};
use crate::job::JobContext;
use crate::liveness::{Beat, end_if_it_hangs};
use crate::metrics::WorkerMetrics;

/// How many of the worker's own requests may wait for the executor.
const OWN_REQUESTS: usize = 256;

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
    /// The store did not accept the number of partitions, which is written to a new one.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The store was made for another number of partitions.
    #[error("the store was made for {found} partitions, and this node is configured for {expected}")]
    Partitions {
        /// The number that the store was made for.
        found: u16,
        /// The number that this node is configured for.
        expected: u16,
    },
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    stop: CancellationToken,
    /// Cancelled when the executor has ended, in whatever way.
    ended: CancellationToken,
    metrics: WorkerMetrics,
    task: JoinHandle<()>,
}

impl Worker {
    /// Returns a token that is cancelled when the worker has ended. Before [`Worker::stop`] that is a defect, and the
    /// process should end, so that another worker takes over its partitions.
    #[must_use]
    pub fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Registers the metrics of the worker.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Hands over all partitions, and ends.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the executor's task failed");
        }
    }
}

/// Starts a worker, and waits until it owns what it can: the partitions that it should own by its `share`, but for
/// those that another live worker has not handed over yet. `changes` brings the nodes that come and go.
///
/// # Errors
/// [`WorkerStartError`] if NATS or the store does not answer, or if the store was made for something else.
pub async fn start(
    bus: &Bus,
    store: Arc<dyn Store>,
    partitions: Partitions,
    key: NodeKey,
    changes: mpsc::Receiver<NodeChange>,
    (config, share): (ChannelConfig, WorkerShare),
) -> Result<Worker, WorkerStartError> {
    check_store(store.as_ref(), partitions).await?;
    for (node, before) in dead_nodes(bus).await? {
        tracing::info!(%node, "purging what a dead node left in presence");
        purge_node(bus, &node, before).await?;
    }
    let (stop, ended, beat) = (CancellationToken::new(), CancellationToken::new(), Beat::default());
    let guard = ended.clone().drop_guard();
    let acks = bus.subscribe(subject::link_replies(bus.node())).await?;
    let orphans = bus.subscribe(subject::ORPHANS.to_owned()).await?;
    let controls = bus.subscribe(subject::control_worker(bus.node())).await?;
    answer_alive(bus, ended.clone()).await?;
    end_if_it_hangs(beat.clone(), ended.clone());
    let context = JobContext::new(store, Barrier::start(bus, key.clone()), bus.clone(), config.retention_days);
    let leases = Leases::new(bus);
    let lease_changes = leases.watch(ended.clone());
    let ((ask, own), (started, is_started)) = (mpsc::channel(OWN_REQUESTS), oneshot::channel());
    let metrics = WorkerMetrics::default();
    key.set_share(Some(share.clone())).await;
    let executor = Executor::new(ExecutorSetup {
        context,
        config,
        leases,
        key,
        all: partitions,
        acks,
        orphans,
        changes,
        lease_changes,
        controls,
        share,
        ask,
        own,
        metrics: metrics.clone(),
        beat,
        stop: stop.clone(),
        started,
    });
    let task = tokio::spawn(async move {
        let _ended = guard;
        executor.run().await;
    });
    // It fails only if the executor ends first, which its token tells.
    let _ = is_started.await;
    Ok(Worker { stop, ended, metrics, task })
}

async fn check_store(store: &dyn Store, partitions: Partitions) -> Result<(), WorkerStartError> {
    let expected = partitions.count();
    match store.partitions().await? {
        None => store.write(vec![Row::Partitions(expected)]).await?,
        Some(found) if found == expected => return Ok(()),
        Some(found) => return Err(WorkerStartError::Partitions { found, expected }),
    }
    // Another worker may have written another number at the same time.
    match store.partitions().await? {
        Some(found) if found != expected => Err(WorkerStartError::Partitions { found, expected }),
        _ => Ok(()),
    }
}
