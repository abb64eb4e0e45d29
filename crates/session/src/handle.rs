//! The handle of one node's user tier, which the gateway and the binary hold.

use std::sync::{Arc, Mutex};

use sendpi_bus::about_user::answer_sessions;
use sendpi_bus::presence::{Barrier, NodeKey, UserKeys};
use sendpi_bus::subject::{self, NodeSubject};
use sendpi_bus::{Bus, SendError, UserSubjects};
use sendpi_model::{Millis, NodeId, Partitions, Refusal, RoomId, UserId};
use sendpi_store::Store;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catch_up::{attach_later, gap_fill, head_check, resync};
use crate::client::outbound::Outbound;
use crate::client::session::Session;
use crate::client::transport::Transport;
use crate::config::{SessionConfig, SessionConfigError};
use crate::context::NodeContext;
use crate::markers;
use crate::markers::notice_receiver;
use crate::markers::pending::PendingMarkers;
use crate::ordered_lock::OrderedMutex;
use crate::owners::flows::Flows;
use crate::owners::{downlink, retries, uplink};
use crate::requests::CallerRequests;
use crate::sign_in::other_nodes;
use crate::sign_in::rate::SignInRate;
use crate::sign_out;
use crate::state::State;

/// Why the user tier could not be started.
#[derive(Debug, thiserror::Error)]
pub enum UserTierStartError {
    /// The settings are invalid or contradict each other.
    #[error("invalid settings of the user tier: {0}")]
    Config(#[from] SessionConfigError),
    /// A subscription failed because the connection to NATS is closed.
    #[error(transparent)]
    Bus(#[from] SendError),
}

/// The user tier of one node. It is cheap to clone.
#[derive(Debug, Clone)]
pub struct UserTier(Arc<NodeContext>);

/// Starts the user tier of the node of `bus`. It runs until `shutdown` is cancelled.
///
/// # Errors
/// Returns a [`UserTierStartError`] if the settings are invalid or NATS refuses a subscription.
pub async fn start(
    bus: Bus,
    store: Arc<dyn Store>,
    partitions: Partitions,
    node_key: NodeKey,
    config: SessionConfig,
    shutdown: CancellationToken,
) -> Result<UserTier, UserTierStartError> {
    config.check()?;
    let now = Instant::now();
    let (subjects, about_users) = UserSubjects::start(&bus);
    let (markers, notices) = PendingMarkers::new();
    let node = Arc::new(NodeContext {
        keys: UserKeys::start(&bus, shutdown.clone()),
        presence: Barrier::start(&bus, node_key.clone()),
        flows: OrderedMutex::new(Flows::new(bus.node(), partitions, now)),
        state: OrderedMutex::new(State::new(config.clone(), partitions, now)),
        admission: Mutex::new(SignInRate::new(config.sign_ins_per_second, config.sign_in_wait, now)),
        links: OrderedMutex::default(),
        callers: CallerRequests::default(),
        attaches: Mutex::default(),
        attach_due: Notify::new(),
        fills: Mutex::default(),
        fill_due: Notify::new(),
        uplink: Notify::new(),
        markers_due: Notify::new(),
        resync: Notify::new(),
        tasks: TaskTracker::new(),
        bus,
        store,
        partitions,
        config,
        node_key,
        subjects,
        markers,
        shutdown,
    });
    if !node.config.clients {
        return Ok(UserTier(node));
    }
    let bus = &node.bus;
    let messages = bus.subscribe(subject::node(bus.node(), NodeSubject::Link)).await?;
    let replies = bus.subscribe(subject::flow_replies(bus.node())).await?;
    let served = bus.subscribe(subject::SERVED.to_owned()).await?;
    let questions = bus.subscribe(subject::node(bus.node(), NodeSubject::SignIn)).await?;
    let sign_outs = bus.subscribe(subject::node(bus.node(), NodeSubject::SignOut)).await?;
    let asked = Arc::clone(&node);
    let look = move |user: &UserId, room: &RoomId| asked.state.lock().sessions_in(user, room);
    answer_sessions(bus, node.shutdown.clone(), look).await?;
    let tasks = node.tasks.clone();
    tasks.spawn(uplink::run(Arc::clone(&node), replies, served));
    tasks.spawn(downlink::run(Arc::clone(&node), messages));
    tasks.spawn(head_check::run(Arc::clone(&node)));
    tasks.spawn(retries::run(Arc::clone(&node)));
    tasks.spawn(markers::run(Arc::clone(&node)));
    tasks.spawn(markers::run_notices(Arc::clone(&node), notices));
    tasks.spawn(notice_receiver::run(Arc::clone(&node), about_users));
    tasks.spawn(other_nodes::run(Arc::clone(&node), questions));
    tasks.spawn(sign_out::run(Arc::clone(&node), sign_outs));
    tasks.spawn(gap_fill::run(Arc::clone(&node)));
    tasks.spawn(resync::run(Arc::clone(&node)));
    tasks.spawn(attach_later::run(Arc::clone(&node)));
    tasks.spawn(beat(Arc::clone(&node)));
    Ok(UserTier(node))
}

/// Drives the heartbeats of all sessions until the node's shutdown.
async fn beat(node: Arc<NodeContext>) {
    let mut ticks = interval(State::tick_of(&node.config));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while node.shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let now = Instant::now();
        node.with(|state, effects| {
            state.note_tick(now);
            state.beat(now, Millis::now(), effects);
        });
    }
}

impl UserTier {
    pub(crate) fn context(&self) -> &Arc<NodeContext> {
        &self.0
    }

    /// Opens a session on a socket.
    ///
    /// # Errors
    /// Returns `unavailable` if the node is being drained.
    pub fn open(&self, wire: Arc<dyn Transport>) -> Result<Session, Refusal> {
        let (key, outbound) = self.0.with(|state, _| {
            let outbound = Arc::new(Outbound::within(wire, state.budget()));
            state.open(Arc::clone(&outbound), Instant::now()).map(|key| (key, outbound))
        })?;
        Ok(Session::new(Arc::clone(&self.0), key, outbound))
    }

    /// Treats the link of a worker as cut, because the worker's node key is gone.
    pub fn worker_gone(&self, worker: &NodeId) {
        self.0.worker_gone(worker);
    }

    /// Returns the number of open sessions, signed in or not.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.0.state.lock().sessions()
    }

    /// Waits, after the node's shutdown, until all of its tasks have ended.
    pub async fn stopped(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Asks every client for a last sign of life, tells it to reconnect after a random delay, and closes its session.
    /// Waits, at most until `until`, until all sessions are gone, the owners of their rooms know it and their presence
    /// keys are removed. No session can be opened once the drain has begun.
    pub async fn drain(&self, until: Instant) {
        crate::drain::drain(&self.0, until).await;
    }
}
