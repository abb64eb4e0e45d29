//! A push worker: how it starts and stops, and what its tasks share.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use sendpi_bus::presence::{Barrier, NodeKey};
use sendpi_bus::{Bus, SendError};
use sendpi_fetch::FetchError;
use sendpi_store::Store;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::PushConfig;
use crate::control;
use crate::metrics::PushMetrics;
use crate::push_loop::PushLoop;
use crate::webhook::Webhook;

/// Why a push worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum PushWorkerStartError {
    /// The webhook cannot be used.
    #[error(transparent)]
    Webhook(#[from] FetchError),
    /// The connection to NATS is closed.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// A running push worker.
#[derive(Debug)]
pub struct PushWorker {
    stop: CancellationToken,
    metrics: PushMetrics,
    task: JoinHandle<()>,
}

impl PushWorker {
    /// Registers the metrics of the worker.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Stops fetching jobs, waits shortly for what is under way, and gives the rest back to the queue.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the push worker's task failed");
        }
    }
}

/// What the tasks of a push worker share.
#[derive(Debug, Clone)]
pub(crate) struct PushContext {
    pub(crate) bus: Bus,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) presence: Barrier,
    pub(crate) webhook: Option<Webhook>,
    pub(crate) give_up: Duration,
}

/// Starts a push worker.
///
/// # Errors
/// [`PushWorkerStartError`] if the webhook cannot be used, or if the connection to NATS is closed.
pub async fn start(
    bus: Bus,
    store: Arc<dyn Store>,
    key: NodeKey,
    config: PushConfig,
) -> Result<PushWorker, PushWorkerStartError> {
    let PushConfig { webhook, collapse, timeout, give_up } = config;
    let webhook = webhook.map(|webhook| Webhook::new(webhook, timeout)).transpose()?;
    let presence = Barrier::start(&bus, key);
    let context = PushContext { bus, store, presence, webhook, give_up };
    let stop = CancellationToken::new();
    control::answer(context.clone(), stop.clone()).await?;
    let metrics = PushMetrics::default();
    let worker = PushLoop::new(context, collapse, metrics.clone());
    let task = tokio::spawn(worker.run(stop.clone()));
    Ok(PushWorker { stop, metrics, task })
}
