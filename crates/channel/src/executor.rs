//! The executor: one task that runs all rooms of this worker's partitions, in rounds.
//!
//! A round drains everything that waits (requests, results of jobs, answers to links), starts the next job of every
//! room that has something to do, and sends one message on each link. Batches that only write events share one store
//! job, whatever their rooms and partitions.

mod dead_nodes;
mod evict;
mod leases;
mod link_output;
mod live_entry;
mod push_queue;
mod requests;
mod results;
mod schedule;
mod settle;

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, SelectAll};
use futures_util::{FutureExt, Stream, StreamExt};
use sendpi_bus::lease::Leases;
use sendpi_bus::presence::{NodeChange, NodeKey};
use sendpi_bus::{NatsMessage, Subscription};
use sendpi_model::{NodeId, Partition, RoomId};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::dead_nodes::GivenUpNode;
use self::live_entry::LiveEntry;
use self::push_queue::PushQueue;
use self::results::JobResult;
use crate::config::ChannelConfig;
use crate::job::JobContext;
use crate::outbound_links::OutboundLinks;
use crate::owned_partition::OwnedPartition;
use crate::pending_pushes::PendingPushes;
use crate::room_counts::RoomCounts;

/// The most messages and results of each kind that one round drains.
const ROUND_MAX: usize = 512;
/// The most pushes and bounces that may be pending. While there are more, no room admits further requests.
const PENDING_MAX: usize = 100_000;
/// How often the executor looks at what only time brings.
const TICK: Duration = Duration::from_millis(100);
/// A round that takes longer holds up every room of the worker, and is logged.
const SLOW_ROUND: Duration = Duration::from_millis(50);
/// How long a worker that stops waits for what is under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

type JobFuture = Pin<Box<dyn Future<Output = JobResult> + Send>>;
type Requests = Pin<Box<dyn Stream<Item = (Partition, NatsMessage)> + Send>>;

/// All state of one worker.
pub(crate) struct Executor {
    context: JobContext,
    config: ChannelConfig,
    leases: Leases,
    key: NodeKey,
    partitions: HashMap<Partition, OwnedPartition>,
    /// The live table.
    rooms: HashMap<RoomId, LiveEntry>,
    /// Rooms that have something to do and no job under way.
    ready: Vec<RoomId>,
    /// Rooms that wait for a heavy link or for pushes, or that failed with work left. The next tick tries them again.
    slowed: HashSet<RoomId>,
    links: OutboundLinks,
    /// The nodes whose node key exists.
    live_nodes: HashSet<NodeId>,
    given_up: Vec<GivenUpNode>,
    /// In how many rooms those are who joined rooms of this worker lately.
    room_counts: RoomCounts,
    pending: PendingPushes,
    pushes: PushQueue,
    /// Whether events were put on links that have not been sent since.
    has_dispatched: bool,
    jobs: FuturesUnordered<JobFuture>,
    requests: SelectAll<Requests>,
    acks: Subscription,
    changes: mpsc::Receiver<NodeChange>,
    stop: CancellationToken,
    last_settle: Instant,
    last_resume: Instant,
    /// When the connection was last made. For a moment after that, other nodes may not be back yet.
    connected: Instant,
    connects: u64,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("partitions", &self.partitions.len()).finish_non_exhaustive()
    }
}

/// What an executor begins with.
#[derive(Debug)]
pub(crate) struct ExecutorSetup {
    pub(crate) context: JobContext,
    pub(crate) config: ChannelConfig,
    pub(crate) leases: Leases,
    pub(crate) key: NodeKey,
    pub(crate) acks: Subscription,
    pub(crate) changes: mpsc::Receiver<NodeChange>,
    pub(crate) stop: CancellationToken,
}

impl Executor {
    pub(crate) fn new(setup: ExecutorSetup) -> Self {
        let ExecutorSetup { context, config, leases, key, acks, changes, stop } = setup;
        let connects = context.bus.connection().borrow().connects;
        Self {
            pushes: PushQueue::new(context.bus.clone()),
            has_dispatched: false,
            context,
            config,
            leases,
            key,
            partitions: HashMap::new(),
            rooms: HashMap::new(),
            ready: Vec::new(),
            slowed: HashSet::new(),
            links: OutboundLinks::default(),
            live_nodes: HashSet::new(),
            given_up: Vec::new(),
            room_counts: RoomCounts::default(),
            pending: PendingPushes::default(),
            jobs: FuturesUnordered::new(),
            requests: SelectAll::new(),
            acks,
            changes,
            stop,
            last_settle: Instant::now(),
            last_resume: Instant::now(),
            connected: Instant::now(),
            connects,
        }
    }

    /// Runs until `stop` is cancelled. Then it finishes what it has received, and ends.
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = self.context.bus.connection();
        let stop = self.stop.clone();
        loop {
            // Every arm waits for one stream or channel, and cancelling such a wait loses nothing. The order does not
            // matter: a ready arm is chosen at random, and the rest of what is ready is drained right after it.
            let input = tokio::select! {
                () = stop.cancelled() => break,
                Some((partition, message)) = self.requests.next() => Input::Requests(partition, message),
                Some(result) = self.jobs.next() => Input::Result(result),
                Some(message) = self.acks.next() => Input::LinkAnswer(message),
                Some(pushed) = self.pushes.next() => Input::Pushed(pushed),
                Some(change) = self.changes.recv() => Input::Node(change),
                Ok(()) = connection.changed() => Input::Connection,
                _ = ticks.tick() => Input::Tick,
            };
            let (began, arm) = (Instant::now(), input.name());
            self.handle(input).await;
            self.drain_waiting().await;
            self.start_ready_rooms();
            self.send_links().await;
            let took = began.elapsed();
            if took > SLOW_ROUND {
                tracing::warn!(?took, arm, rooms = self.rooms.len(), "a round was slow");
            }
        }
        self.end().await;
    }

    async fn handle(&mut self, input: Input) {
        match input {
            Input::Requests(partition, message) => self.receive_flow(partition, &message).await,
            Input::Result(result) => self.handle_result(result).await,
            Input::LinkAnswer(message) => self.receive_link_answer(&message).await,
            Input::Pushed(pushed) => self.pushed(pushed),
            Input::Node(change) => self.node_change(change),
            Input::Connection => self.connection_changed().await,
            Input::Tick => self.tick().await,
        }
    }

    /// Handles whatever else is ready, so that a round is as full as it can be.
    async fn drain_waiting(&mut self) {
        for _ in 0..ROUND_MAX {
            let ready = [
                self.jobs.next().now_or_never().flatten().map(Input::Result),
                self.requests.next().now_or_never().flatten().map(|(p, message)| Input::Requests(p, message)),
                self.acks.next().now_or_never().flatten().map(Input::LinkAnswer),
                self.pushes.next().now_or_never().flatten().map(Input::Pushed),
            ];
            if ready.iter().all(Option::is_none) {
                break;
            }
            for input in ready.into_iter().flatten() {
                self.handle(input).await;
            }
        }
    }

    async fn tick(&mut self) {
        self.tick_links().await;
        self.bounce_due();
        for room in std::mem::take(&mut self.slowed) {
            self.make_ready(&room);
        }
        if self.last_settle.elapsed() >= self.config.settle_every {
            self.last_settle = Instant::now();
            self.settle();
            self.evict_idle();
        }
        self.check_leases().await;
    }

    /// Ends the executor. It accepts no further requests, and waits for the jobs and pushes under way for a limited
    /// time.
    async fn end(mut self) {
        self.unsubscribe_requests().await;
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            self.start_ready_rooms();
            self.send_links().await;
            if self.jobs.is_empty() && self.ready.is_empty() && self.pushes.is_empty() {
                break;
            }
            tokio::select! {
                Some(result) = self.jobs.next() => self.handle_result(result).await,
                Some(pushed) = self.pushes.next() => self.pushed(pushed),
                () = tokio::time::sleep_until(deadline) => {
                    tracing::warn!(jobs = self.jobs.len(), pushes = self.pending.count(), "stopped with work left");
                    break;
                }
            }
        }
        self.write_heads().await;
        if let Err(error) = self.context.bus.flush().await {
            tracing::debug!(%error, "the last messages may not have been sent");
        }
    }

    fn start_job(&mut self, job: impl Future<Output = JobResult> + Send + 'static) {
        self.jobs.push(Box::pin(job));
    }

    /// Marks a room as having something to do, unless a job of it is under way.
    fn make_ready(&mut self, room: &RoomId) {
        if self.rooms.get(room).is_some_and(|entry| !entry.is_busy()) && !self.ready.contains(room) {
            self.ready.push(room.clone());
        }
    }
}

/// What an executor waits for.
#[derive(Debug)]
enum Input {
    Requests(Partition, NatsMessage),
    Result(JobResult),
    LinkAnswer(NatsMessage),
    Pushed(crate::dispatch::PendingPush),
    Node(NodeChange),
    Connection,
    Tick,
}

impl Input {
    fn name(&self) -> &'static str {
        match self {
            Self::Requests(..) => "requests",
            Self::Result(_) => "result of a job",
            Self::LinkAnswer(_) => "answer to a link",
            Self::Pushed(_) => "push job kept",
            Self::Node(_) => "node came or went",
            Self::Connection => "connection to NATS",
            Self::Tick => "tick",
        }
    }
}
