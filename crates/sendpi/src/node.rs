//! One node, with its connection to NATS, its node key, and the roles that it runs.

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use sendpi_bus::presence::{NodeInfo, NodeKey, WorkerShare, poll_gone_nodes, watch_nodes};
use sendpi_bus::{Bus, PutError, SendError, keep_streams, setup};
use sendpi_channel::Worker;
use sendpi_gateway::Gateway;
use sendpi_model::timing::{DRAIN_TIMEOUT, NATS_REQUEST};
use sendpi_model::{NodeId, Partitions};
use sendpi_push::{PushConfig, PushWorker};
use sendpi_store::Store;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The reason why a node could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// NATS cannot be reached.
    #[error(transparent)]
    Connect(#[from] sendpi_bus::ConnectError),
    /// The buckets and streams could not be created.
    #[error(transparent)]
    Setup(#[from] sendpi_bus::SetupError),
    /// The node key could not be put.
    #[error("cannot put this node's key: {0}")]
    Key(#[from] PutError),
    /// The connection to NATS is closed.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The channel role could not start.
    #[error(transparent)]
    Channel(#[from] sendpi_channel::WorkerStartError),
    /// The push role could not start.
    #[error(transparent)]
    Push(#[from] sendpi_push::PushWorkerStartError),
    /// The user tier could not start.
    #[error(transparent)]
    Session(#[from] sendpi_session::UserTierStartError),
}

/// The parts and settings of a node.
#[derive(Debug)]
pub(crate) struct NodeOptions {
    pub(crate) bus: sendpi_bus::BusConfig,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) partitions: Partitions,
    /// How many NATS servers keep each bucket and stream.
    pub(crate) replicas: usize,
    pub(crate) sessions: sendpi_session::SessionConfig,
    /// The settings of the channel role, and its part in owning partitions, if this node has it.
    pub(crate) channel: Option<(sendpi_channel::ChannelConfig, WorkerShare)>,
    /// The settings of the push role, if this node has it.
    pub(crate) push: Option<PushConfig>,
    pub(crate) gateway: Gateway,
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    bus: Bus,
    key: NodeKey,
    sessions: sendpi_session::UserTier,
    worker: Option<Worker>,
    push: Option<PushWorker>,
    gateway: JoinHandle<()>,
    address: SocketAddr,
    /// Tells the gateway by when to have ended.
    stop_gateway: oneshot::Sender<Instant>,
    /// Ends the rest of the node, including its node key, after the gateway and the worker have ended.
    stop: CancellationToken,
}

impl Node {
    /// Starts a node.
    ///
    /// # Errors
    /// [`NodeError`], which says which part could not start.
    pub(crate) async fn start(plan: NodeOptions) -> Result<Self, NodeError> {
        let NodeOptions { bus, store, partitions, replicas, mut sessions, channel, push, gateway } = plan;
        sessions.clients = gateway.serves_clients();
        let bus = Bus::connect(&bus, fresh_id()).await?;
        setup(&bus, partitions, replicas).await?;
        let mut registry = Registry::with_prefix("sendpi");
        store.register_metrics(&mut registry);
        crate::process_metrics::register(&mut registry);
        let stop = CancellationToken::new();
        // A node that cannot start, or whose start is given up, leaves nothing running.
        let guard = stop.clone().drop_guard();
        keep_streams(&bus, partitions, replicas, stop.clone());
        let address = gateway.address();
        let roles = [("gateway", gateway.serves_clients()), ("channel", channel.is_some()), ("push", push.is_some())];
        let roles = roles.into_iter().filter(|(_, has)| *has).map(|(role, _)| role.to_owned()).collect();
        let key = NodeKey::start(&bus, NodeInfo::starting(roles, address), stop.clone()).await?;
        let sessions =
            sendpi_session::start(bus.clone(), Arc::clone(&store), partitions, key.clone(), sessions, stop.clone())
                .await?;
        if gateway.serves_clients() {
            tokio::spawn(tell_gone(poll_gone_nodes(&bus, stop.clone()), sessions.clone()));
        }
        let worker = match channel {
            Some(config) => {
                let (store, changes) = (Arc::clone(&store), watch_nodes(&bus, stop.clone()));
                Some(sendpi_channel::start(&bus, store, partitions, key.clone(), changes, config).await?)
            }
            None => None,
        };
        let push = match push {
            Some(config) => Some(sendpi_push::start(bus.clone(), store, key.clone(), config).await?),
            None => None,
        };
        sessions.register_metrics(&mut registry);
        worker.iter().for_each(|worker: &Worker| worker.register_metrics(&mut registry));
        push.iter().for_each(|push: &PushWorker| push.register_metrics(&mut registry));
        let (stop_gateway, stop_serving) = oneshot::channel();
        let gateway = tokio::spawn(gateway.serve(sessions.clone(), registry, stop_serving));
        tracing::info!(node = %bus.node(), %address, "a node is up");
        guard.disarm();
        Ok(Self { bus, key, sessions, worker, push, gateway, address, stop_gateway, stop })
    }

    /// Returns the address to which clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns a token that is cancelled when the node's worker has ended, or `None` if the node has no worker.
    pub(crate) fn worker_ended(&self) -> Option<CancellationToken> {
        self.worker.as_ref().map(Worker::ended)
    }

    /// Ends the sessions with `bye`, stops the gateway, lets the worker finish, and waits until the node key is purged.
    /// Sessions and connections have one grace period together.
    pub(crate) async fn stop(self) {
        let until = Instant::now() + DRAIN_TIMEOUT;
        self.sessions.drain(until).await;
        if self.stop_gateway.send(until).is_err() {
            tracing::error!("the gateway ended before it was stopped");
        }
        if let Err(error) = self.gateway.await {
            tracing::error!(%error, "the task of the gateway failed");
        }
        if let Some(worker) = self.worker {
            worker.stop().await;
        }
        if let Some(push) = self.push {
            push.stop().await;
        }
        self.stop.cancel();
        // A write of the key may be under way, and then comes its purge.
        if tokio::time::timeout(2 * NATS_REQUEST, self.key.ended()).await.is_err() {
            tracing::warn!("NATS does not take this node's key away; it expires by itself");
        }
        self.sessions.stopped().await;
        self.bus.close().await;
    }
}

/// Tells the user tier of the nodes that are gone.
async fn tell_gone(mut gone: mpsc::Receiver<NodeId>, sessions: sendpi_session::UserTier) {
    while let Some(node) = gone.recv().await {
        sessions.worker_gone(&node);
    }
}

/// Returns an id that no other node has.
pub(crate) fn fresh_id() -> NodeId {
    let id = format!("n{:016x}", rand::random::<u64>());
    #[expect(clippy::expect_used, reason = "letters and digits form a valid id")]
    NodeId::parse(&id).expect("letters and digits form a valid id")
}
