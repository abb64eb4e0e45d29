//! The executor: one task that runs all rooms of this worker's partitions, in rounds.
//!
//! A round drains everything that waits (requests, results of jobs, answers to links), starts the next job of every
//! room that has something to do, and sends one message on each link. Batches that only write events share one store
//! job for each partition, unless the store's rooms may fail apart.

mod aside;
mod bounces;
mod claims;
mod control;
mod dead_nodes;
mod evict;
mod inboxes;
mod input;
mod job_result;
mod leases;
mod link_output;
mod live_entry;
mod moves;
mod open_backoff;
mod own_requests;
mod push_queue;
mod read_queue;
mod reads;
mod recovery;
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
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use sendpi_bus::lease::{Leases, PartitionChange};
use sendpi_bus::presence::{NodeChange, NodeKey, WorkerShare};
use sendpi_bus::{Hearing, StreamLosses, Subscription};
use sendpi_model::{Partition, Partitions, RoomId, UserId};
use sendpi_store::StoreHealth;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::bounces::{PostponedBounce, RecoveredRoom};
use self::claims::ClaimState;
use self::dead_nodes::GivenUpNode;
use self::inboxes::Inboxes;
use self::input::{ExecutorInput, SlowestArm};
use self::job_result::{FinishedJob, JobResult};
use self::live_entry::LiveEntry;
pub(crate) use self::moves::Move;
use self::open_backoff::OpenBackoff;
use self::push_queue::PushQueue;
use self::read_queue::ReadQueue;
use self::recovery::Recovery;
use self::removal::Removal;
use crate::config::ChannelConfig;
use crate::fleet::Fleet;
use crate::ingest::OwnRequest;
use crate::job::JobContext;
use crate::liveness::Beat;
use crate::metrics::WorkerMetrics;
use crate::outbound_links::OutboundLinks;
use crate::owned_partition::OwnedPartition;
use crate::pending_pushes::PendingPushes;
use crate::room_counts::RoomCounts;
use crate::tenure::Tenure;

/// The most messages and results of each kind that one round drains.
const ROUND_MAX: usize = 512;
/// The most timelines that are read for bounces at one time.
const SCANS: usize = 4;
/// How often the executor looks at what only time brings.
const TICK: Duration = Duration::from_millis(100);
/// A round that takes longer holds up every room of the worker, and is logged.
const SLOW_ROUND: Duration = Duration::from_millis(50);
/// How long a worker that stops waits until it has handed over its partitions, and then for what is under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

type JobFuture = Pin<Box<dyn Future<Output = FinishedJob> + Send>>;

/// All state of one worker.
pub(crate) struct Executor {
    context: JobContext,
    config: ChannelConfig,
    leases: Leases,
    key: NodeKey,
    /// All partitions of the cluster.
    all: Partitions,
    fleet: Fleet,
    claims: ClaimState,
    /// The partitions that this worker owns.
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
    given_up: Vec<GivenUpNode>,
    recovered: Vec<RecoveredRoom>,
    recovery: Recovery,
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
    inboxes: Inboxes,
    acks: Subscription,
    /// The reports that nobody answers for a partition.
    orphans: Subscription,
    changes: mpsc::Receiver<NodeChange>,
    lease_changes: mpsc::Receiver<PartitionChange>,
    /// What operators ask.
    controls: Subscription,
    /// This worker's part in owning partitions, while it takes part.
    share: WorkerShare,
    /// Requests that come from no node.
    own: mpsc::Receiver<OwnRequest>,
    /// Asks this executor for others of this worker.
    ask: mpsc::Sender<OwnRequest>,
    /// Who waits for the answers to them, by number.
    own_waiting: HashMap<u64, oneshot::Sender<Bytes>>,
    /// The number of the last one.
    own_last: u64,
    metrics: WorkerMetrics,
    beat: Beat,
    stop: CancellationToken,
    /// Since when the worker hands over what it owns, to end.
    stopping: Option<Instant>,
    last_settle: Instant,
    last_resume: Instant,
    hearing: Hearing,
    /// Which buckets and streams were lost, and how often the worker has written its leases anew for that.
    losses: watch::Receiver<StreamLosses>,
    lost_leases: u64,
    lost_presence: u64,
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
    pub(crate) all: Partitions,
    pub(crate) acks: Subscription,
    pub(crate) orphans: Subscription,
    pub(crate) changes: mpsc::Receiver<NodeChange>,
    pub(crate) lease_changes: mpsc::Receiver<PartitionChange>,
    pub(crate) controls: Subscription,
    pub(crate) share: WorkerShare,
    pub(crate) ask: mpsc::Sender<OwnRequest>,
    pub(crate) own: mpsc::Receiver<OwnRequest>,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) beat: Beat,
    pub(crate) stop: CancellationToken,
    /// Told once the worker owns what it can.
    pub(crate) started: oneshot::Sender<()>,
}

impl Executor {
    pub(crate) fn new(setup: ExecutorSetup) -> Self {
        let ExecutorSetup { context, config, leases, key, all, acks, orphans, changes, lease_changes, .. } = setup;
        let ExecutorSetup { controls, share, ask, own, metrics, beat, stop, started, .. } = setup;
        let connects = context.bus.connection().borrow().connects;
        let health = context.store.health();
        let failures = health.borrow().failures;
        let losses = context.bus.losses();
        let (lost_leases, lost_presence) = (losses.borrow().partitions, losses.borrow().presence);
        let hearing = Hearing::new(&context.bus, Instant::now());
        let mut fleet = Fleet::new(key.node().clone());
        fleet.alive(key.node(), Some(share.clone()), Instant::now());
        Self {
            pushes: PushQueue::new(context.bus.clone()),
            removal: Removal::default(),
            has_dispatched: false,
            context,
            config,
            leases,
            key,
            all,
            fleet,
            claims: ClaimState::new(started),
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
            given_up: Vec::new(),
            recovered: Vec::new(),
            recovery: Recovery::default(),
            postponed: Vec::new(),
            newly_pushed: HashSet::new(),
            scans: Arc::new(Semaphore::new(SCANS)),
            room_counts: RoomCounts::default(),
            pending: PendingPushes::default(),
            reads: ReadQueue::default(),
            jobs: FuturesUnordered::new(),
            tenured_jobs: 0,
            inboxes: Inboxes::default(),
            acks,
            orphans,
            changes,
            lease_changes,
            controls,
            share,
            own,
            ask,
            own_waiting: HashMap::new(),
            own_last: 0,
            metrics,
            beat,
            stop,
            stopping: None,
            last_settle: Instant::now(),
            last_resume: Instant::now(),
            hearing,
            losses,
            lost_leases,
            lost_presence,
            connects,
            suspensions: 0,
            is_renewing: false,
            slowest: SlowestArm::default(),
            health,
            failures,
            store_closed: false,
        }
    }

    /// Runs until `stop` is cancelled. Then it hands over its partitions, and ends.
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = self.context.bus.connection();
        let mut health = self.health.clone();
        let stop = self.stop.clone();
        while !self.has_stopped() {
            self.beat.beat();
            // Every arm waits for one stream or channel, and cancelling such a wait loses nothing. The order does not
            // matter: a ready arm is chosen at random, and the rest of what is ready is drained right after it.
            let input = tokio::select! {
                () = stop.cancelled(), if self.stopping.is_none() => ExecutorInput::Stop,
                Some((partition, message)) = self.inboxes.next() => ExecutorInput::Requests(partition, message),
                Some(finished) = self.jobs.next() => ExecutorInput::Result(finished),
                Some(message) = self.acks.next() => ExecutorInput::LinkAnswer(message),
                Some(pushed) = self.pushes.next() => ExecutorInput::Pushed(pushed),
                Some(own) = self.own.recv() => ExecutorInput::Own(own),
                Some(change) = self.changes.recv() => ExecutorInput::Node(change),
                Some(change) = self.lease_changes.recv() => ExecutorInput::Lease(change),
                Some(report) = self.orphans.next() => ExecutorInput::Orphan(report),
                Some(request) = self.controls.next() => ExecutorInput::Control(request),
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
            self.recover_rooms();
            self.start_ready_rooms();
            self.start_reads();
            self.continue_moves();
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
            ExecutorInput::Result(finished) => self.handle_result(finished).await,
            ExecutorInput::LinkAnswer(message) => self.receive_link_answer(&message).await,
            ExecutorInput::Pushed(pushed) => self.pushed(pushed),
            ExecutorInput::Own(own) => self.receive_own(own),
            ExecutorInput::Node(change) => self.node_change(change),
            ExecutorInput::Lease(change) => self.lease_changed(change).await,
            ExecutorInput::Orphan(report) => self.orphaned(&report),
            ExecutorInput::Control(request) => self.control(&request).await,
            ExecutorInput::Stop => self.begin_stop(),
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
                self.inboxes.next().now_or_never().flatten().map(|(p, message)| ExecutorInput::Requests(p, message)),
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
            self.partitions.values_mut().for_each(|owned| owned.measure(self.last_settle));
            self.open_backoff.forget_old(self.last_settle);
            if self.store_serves() {
                self.settle();
                self.evict_idle();
                self.remove_lingering();
                self.remove_deleted();
            }
        }
        self.check_leases().await;
        if self.stopping.is_some() {
            // What is settled before the partitions are handed over is not dispatched again.
            for (node, messages) in self.links.announce_unsettled() {
                self.send_to_node(&node, messages).await;
            }
        }
        self.survey_if_due();
        self.look_after_others();
        self.begin_moves();
    }

    /// Begins to hand over all partitions.
    fn begin_stop(&mut self) {
        self.stopping = Some(Instant::now());
        self.take_part(None);
        self.begin_moves();
    }

    /// Changes this worker's part in owning partitions. The others see it by its node key.
    fn take_part(&mut self, share: Option<WorkerShare>) {
        let (own, key) = (self.key.node().clone(), self.key.clone());
        self.fleet.alive(&own, share.clone(), Instant::now());
        tokio::spawn(async move { key.set_share(share).await });
    }

    fn has_stopped(&self) -> bool {
        let has_nothing = || self.partitions.is_empty() && !self.claims.is_claiming();
        self.stopping.is_some_and(|since| has_nothing() || since.elapsed() >= STOP_TIMEOUT)
    }

    /// Ends the executor. It waits for the jobs and pushes under way, and until nodes have received what they were
    /// sent, for a limited time.
    async fn end(mut self) {
        self.inboxes.close_all();
        let (now, mut ticks) = (Instant::now(), interval(TICK));
        self.pushes.hurry(None, now);
        loop {
            self.start_ready_rooms();
            self.start_reads();
            self.send_links().await;
            if self.tenured_jobs == 0 && self.ready.is_empty() && self.pushes.is_empty() && self.links.is_received() {
                break;
            }
            tokio::select! {
                Some(finished) = self.jobs.next() => self.handle_result(finished).await,
                Some(pushed) = self.pushes.next() => self.pushed(pushed),
                Some(message) = self.acks.next() => self.receive_link_answer(&message).await,
                _ = ticks.tick() => self.tick_links().await,
                () = tokio::time::sleep_until(now + STOP_TIMEOUT) => {
                    let (jobs, pushes) = (self.jobs.len(), self.pending.count());
                    tracing::warn!(jobs, pushes, "stopped with work left, or with events that nodes have not received");
                    break;
                }
            }
        }
        if let Err(error) = self.context.bus.flush().await {
            tracing::debug!(%error, "the last messages may not have been sent");
        }
    }

    /// Starts a job that does something under a tenure. Its result counts only while that lasts.
    fn start_job(&mut self, tenure: Tenure, job: impl Future<Output = JobResult> + Send + 'static) {
        self.tenured_jobs += 1;
        if let Some(owned) = self.partitions.get_mut(&tenure.partition).filter(|owned| owned.tenure == tenure) {
            owned.jobs += 1;
        }
        self.jobs.push(Box::pin(async move { FinishedJob { tenure: Some(tenure), result: job.await } }));
    }

    /// Starts a job that does nothing under a tenure, such as a claim.
    fn start_untenured_job(&mut self, job: impl Future<Output = JobResult> + Send + 'static) {
        self.jobs.push(Box::pin(async move { FinishedJob { tenure: None, result: job.await } }));
    }

    /// Marks a room as having something to do, unless a job of it is under way.
    fn make_ready(&mut self, room: &RoomId) {
        if let Some(entry) = self.rooms.get_mut(room).filter(|entry| !entry.is_busy() && !entry.is_ready) {
            entry.is_ready = true;
            self.ready.push(room.clone());
        }
    }
}
