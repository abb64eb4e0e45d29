//! The executor: one task that runs all rooms of this worker's partitions, in rounds.
//!
//! A round drains everything that waits (requests, results of jobs, answers to links), starts the next job of every
//! room that has something to do, and sends one message on each link. Batches that only write events share one store
//! job, whatever their rooms and partitions, unless the store's rooms may fail apart.

mod aside;
mod bounces;
mod dead_nodes;
mod evict;
mod input;
mod job_result;
mod leases;
mod link_output;
mod live_entry;
mod open_backoff;
mod own_requests;
mod push_queue;
mod read_queue;
mod reads;
mod removal;
mod requests;
mod results;
mod schedule;
mod settle;
mod store_failure;

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, SelectAll};
use futures_util::{FutureExt, Stream, StreamExt};
use sendpi_bus::lease::Leases;
use sendpi_bus::presence::{NodeChange, NodeKey};
use sendpi_bus::{Hearing, NatsMessage, StreamLosses, Subscription};
use sendpi_model::{NodeId, Partition, RoomId, UserId};
use sendpi_store::StoreHealth;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::bounces::{PostponedBounce, RecoveredRoom};
use self::dead_nodes::GivenUpNode;
use self::input::{ExecutorInput, SlowestArm};
use self::job_result::JobResult;
use self::live_entry::LiveEntry;
use self::open_backoff::OpenBackoff;
use self::push_queue::PushQueue;
use self::read_queue::ReadQueue;
use self::removal::Removal;
use crate::config::ChannelConfig;
use crate::ingest::OwnRequest;
use crate::job::JobContext;
use crate::metrics::WorkerMetrics;
use crate::outbound_links::OutboundLinks;
use crate::owned_partition::OwnedPartition;
use crate::pending_pushes::PendingPushes;
use crate::room_counts::RoomCounts;

/// The most messages and results of each kind that one round drains.
const ROUND_MAX: usize = 512;
/// The most timelines that are read for bounces at one time.
const SCANS: usize = 4;
/// How often the executor looks at what only time brings.
const TICK: Duration = Duration::from_millis(100);
/// A round that takes longer holds up every room of the worker, and is logged.
const SLOW_ROUND: Duration = Duration::from_millis(50);
/// How long a worker that stops waits for what is under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a worker that stops waits, with nothing under way, until nodes have settled what they were sent. What is
/// not settled by then is dispatched, and pushed, again by the next owner.
const STOP_SETTLE: Duration = Duration::from_secs(2);

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
    /// The rooms that are open and not active, about in the order in which something was last asked of them.
    lingering: VecDeque<RoomId>,
    /// The users for whom nonces are looked for.
    searching: HashSet<UserId>,
    /// Rooms that have set something aside for users for whom a search is under way in another room.
    search_later: HashSet<RoomId>,
    /// How many searches were begun.
    searches: u64,
    open_backoff: OpenBackoff,
    links: OutboundLinks,
    /// The nodes whose node key exists.
    live_nodes: HashSet<NodeId>,
    given_up: Vec<GivenUpNode>,
    recovered: Vec<RecoveredRoom>,
    postponed: Vec<PostponedBounce>,
    /// In how many rooms those are who joined rooms of this worker lately.
    room_counts: RoomCounts,
    pending: PendingPushes,
    /// What users asked of rooms.
    reads: ReadQueue,
    pushes: PushQueue,
    removal: Removal,
    /// The rooms whose pushes were kept since that was last written down.
    newly_pushed: HashSet<RoomId>,
    /// One permit for each timeline that may be read for bounces.
    scans: Arc<Semaphore>,
    /// Whether events were put on links that have not been sent since.
    has_dispatched: bool,
    jobs: FuturesUnordered<JobFuture>,
    /// How many of the jobs do something under a tenure.
    tenured_jobs: usize,
    requests: SelectAll<Requests>,
    acks: Subscription,
    changes: mpsc::Receiver<NodeChange>,
    /// Requests that come from no node.
    own: mpsc::Receiver<OwnRequest>,
    /// Who waits for the answers to them, by number.
    own_waiting: HashMap<u64, oneshot::Sender<Bytes>>,
    /// The number of the last one.
    own_last: u64,
    metrics: WorkerMetrics,
    stop: CancellationToken,
    last_settle: Instant,
    last_resume: Instant,
    hearing: Hearing,
    /// Which buckets and streams were lost, and how often the worker has written its leases anew for that.
    losses: watch::Receiver<StreamLosses>,
    lost_leases: u64,
    connects: u64,
    /// How often the partitions were suspended.
    suspensions: u64,
    /// Whether leases are being renewed.
    is_renewing: bool,
    slowest: SlowestArm,
    health: watch::Receiver<StoreHealth>,
    /// The failures of the store after which the partitions were claimed anew.
    failures: u64,
    /// Whether it was noticed that the store is closed.
    store_closed: bool,
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
    pub(crate) own: mpsc::Receiver<OwnRequest>,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) stop: CancellationToken,
}

impl Executor {
    pub(crate) fn new(setup: ExecutorSetup) -> Self {
        let ExecutorSetup { context, config, leases, key, acks, changes, own, metrics, stop } = setup;
        let connects = context.bus.connection().borrow().connects;
        let health = context.store.health();
        let failures = health.borrow().failures;
        let losses = context.bus.losses();
        let lost_leases = losses.borrow().partitions;
        let hearing = Hearing::new(&context.bus, Instant::now());
        Self {
            pushes: PushQueue::new(context.bus.clone()),
            removal: Removal::default(),
            has_dispatched: false,
            context,
            config,
            leases,
            key,
            partitions: HashMap::new(),
            rooms: HashMap::new(),
            ready: Vec::new(),
            slowed: HashSet::new(),
            lingering: VecDeque::new(),
            searching: HashSet::new(),
            search_later: HashSet::new(),
            searches: 0,
            open_backoff: OpenBackoff::default(),
            links: OutboundLinks::default(),
            live_nodes: HashSet::new(),
            given_up: Vec::new(),
            recovered: Vec::new(),
            postponed: Vec::new(),
            newly_pushed: HashSet::new(),
            scans: Arc::new(Semaphore::new(SCANS)),
            room_counts: RoomCounts::default(),
            pending: PendingPushes::default(),
            reads: ReadQueue::default(),
            jobs: FuturesUnordered::new(),
            tenured_jobs: 0,
            requests: SelectAll::new(),
            acks,
            changes,
            own,
            own_waiting: HashMap::new(),
            own_last: 0,
            metrics,
            stop,
            last_settle: Instant::now(),
            last_resume: Instant::now(),
            hearing,
            losses,
            lost_leases,
            connects,
            suspensions: 0,
            is_renewing: false,
            slowest: SlowestArm::default(),
            health,
            failures,
            store_closed: false,
        }
    }

    /// Runs until `stop` is cancelled. Then it finishes what it has received, and ends.
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = self.context.bus.connection();
        let mut health = self.health.clone();
        let stop = self.stop.clone();
        loop {
            // Every arm waits for one stream or channel, and cancelling such a wait loses nothing. The order does not
            // matter: a ready arm is chosen at random, and the rest of what is ready is drained right after it.
            let input = tokio::select! {
                () = stop.cancelled() => break,
                Some((partition, message)) = self.requests.next() => ExecutorInput::Requests(partition, message),
                Some(result) = self.jobs.next() => ExecutorInput::Result(result),
                Some(message) = self.acks.next() => ExecutorInput::LinkAnswer(message),
                Some(pushed) = self.pushes.next() => ExecutorInput::Pushed(pushed),
                Some(own) = self.own.recv() => ExecutorInput::Own(own),
                Some(change) = self.changes.recv() => ExecutorInput::Node(change),
                Ok(()) = connection.changed() => ExecutorInput::Connection,
                Ok(()) = health.changed() => ExecutorInput::Store,
                Ok(()) = self.losses.changed() => ExecutorInput::Streams,
                _ = ticks.tick() => ExecutorInput::Tick,
            };
            let began = Instant::now();
            self.slowest = SlowestArm::default();
            self.handle(input).await;
            self.drain_waiting().await;
            let starts = Instant::now();
            self.start_ready_rooms();
            self.start_reads();
            self.slowest.note(starts, "starting jobs");
            let sends = Instant::now();
            self.send_links().await;
            self.slowest.note(sends, "sending links");
            let took = began.elapsed();
            self.metrics.rounds.observe(took.as_secs_f64());
            if took > SLOW_ROUND {
                self.metrics.slow_rounds.inc();
                let SlowestArm { arm, took: arm_took } = self.slowest;
                tracing::warn!(?took, arm, ?arm_took, rooms = self.rooms.len(), "a round was slow");
            }
        }
        self.end().await;
    }

    async fn handle(&mut self, input: ExecutorInput) {
        let (began, arm) = (Instant::now(), input.name());
        self.handle_input(input).await;
        self.slowest.note(began, arm);
    }

    async fn handle_input(&mut self, input: ExecutorInput) {
        match input {
            ExecutorInput::Requests(partition, message) => self.receive_flow(partition, &message).await,
            ExecutorInput::Result(result) => self.handle_result(result).await,
            ExecutorInput::LinkAnswer(message) => self.receive_link_answer(&message).await,
            ExecutorInput::Pushed(pushed) => self.pushed(pushed),
            ExecutorInput::Own(own) => self.receive_own(own),
            ExecutorInput::Node(change) => self.node_change(change),
            ExecutorInput::Connection => self.connection_changed().await,
            ExecutorInput::Store => self.store_changed().await,
            ExecutorInput::Streams => self.streams_lost().await,
            ExecutorInput::Tick => self.tick().await,
        }
    }

    /// Handles whatever else is ready, so that a round is as full as it can be.
    async fn drain_waiting(&mut self) {
        for _ in 0..ROUND_MAX {
            let ready = [
                self.jobs.next().now_or_never().flatten().map(ExecutorInput::Result),
                self.requests.next().now_or_never().flatten().map(|(p, message)| ExecutorInput::Requests(p, message)),
                self.acks.next().now_or_never().flatten().map(ExecutorInput::LinkAnswer),
                self.pushes.next().now_or_never().flatten().map(ExecutorInput::Pushed),
                self.own.try_recv().ok().map(ExecutorInput::Own),
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
        self.metrics.partitions.set(self.partitions.len() as i64);
        self.metrics.rooms.set(self.rooms.len() as i64);
        self.metrics.waiting_pushes.set(self.pending.count() as i64);
        self.store_changed().await;
        self.tick_links().await;
        self.bounce_due();
        self.write_pushed();
        for room in std::mem::take(&mut self.slowed) {
            self.make_ready(&room);
        }
        if self.last_settle.elapsed() >= self.config.settle_every {
            self.last_settle = Instant::now();
            self.open_backoff.forget_old(self.last_settle);
            if self.store_serves() {
                self.settle();
                self.evict_idle();
                self.remove_lingering();
                self.remove_deleted();
            }
        }
        self.check_leases().await;
    }

    /// Ends the executor. It accepts no further requests, and waits for the jobs and pushes under way for a limited
    /// time.
    async fn end(mut self) {
        self.unsubscribe_requests().await;
        let began = Instant::now();
        self.pushes.hurry(began);
        loop {
            self.start_ready_rooms();
            self.start_reads();
            self.send_links().await;
            let is_idle = self.jobs.is_empty() && self.ready.is_empty() && self.pushes.is_empty();
            if is_idle && self.links.is_settled() {
                break;
            }
            tokio::select! {
                Some(result) = self.jobs.next() => self.handle_result(result).await,
                Some(pushed) = self.pushes.next() => self.pushed(pushed),
                Some(message) = self.acks.next() => self.receive_link_answer(&message).await,
                () = tokio::time::sleep_until(began + if is_idle { STOP_SETTLE } else { STOP_TIMEOUT }) => {
                    let (jobs, pushes) = (self.jobs.len(), self.pending.count());
                    tracing::warn!(jobs, pushes, "stopped with work left, or with events that are not settled");
                    break;
                }
                () = tokio::time::sleep(TICK) => {
                    for (node, messages) in self.links.announce_unsettled() {
                        self.send_to_node(&node, messages).await;
                    }
                }
            }
        }
        // After the store failed, the rooms in memory may count events that were never stored.
        if self.store_serves() {
            self.write_heads().await;
        }
        if let Err(error) = self.context.bus.flush().await {
            tracing::debug!(%error, "the last messages may not have been sent");
        }
    }

    fn start_job(&mut self, job: impl Future<Output = JobResult> + Send + 'static) {
        self.tenured_jobs += 1;
        self.jobs.push(Box::pin(job));
    }

    /// Starts a job that does nothing under a tenure: one that claims or renews leases.
    fn start_lease_job(&mut self, job: impl Future<Output = JobResult> + Send + 'static) {
        self.jobs.push(Box::pin(job));
    }

    /// Marks a room as having something to do, unless a job of it is under way.
    fn make_ready(&mut self, room: &RoomId) {
        if let Some(entry) = self.rooms.get_mut(room).filter(|entry| !entry.is_busy() && !entry.is_ready) {
            entry.is_ready = true;
            self.ready.push(room.clone());
        }
    }
}
