//! The executor: one task that runs all rooms of this worker's partitions, in rounds.
//!
//! A round takes everything that waits (requests, results of jobs, answers to links), starts one store job for all rooms that only have
//! events to write, and sends one message on each link. A room with a job under way is busy, and its requests queue while other rooms go on.

mod dead_nodes;
mod leases;
mod push_queue;
mod requests;
mod results;
mod schedule;

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, SelectAll};
use futures_util::{FutureExt, Stream, StreamExt};
use sendpi_bus::lease::Leases;
use sendpi_bus::link::Undelivered;
use sendpi_bus::presence::{NodeChange, NodeKey};
use sendpi_bus::{NatsMessage, Subscription};
use sendpi_model::faults::{FailPoint, fail_point, fail_point_armed};
use sendpi_model::link::{AudienceReason, AudienceRemoved};
use sendpi_model::{Event, Head, NodeId, Partition, RoomId};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config::ChannelConfig;
use crate::job::{JobContext, JobResult};
use crate::outbound_links::OutboundLinks;
use crate::owned_partition::OwnedPartition;
use crate::pending_pushes::PendingPushes;
use crate::room::{IdleClock, Lookups, QueuedRequest, Room};

/// Messages and results that one round takes of each kind.
const ROUND_MAX: usize = 512;
/// Requests that wait at one room; what comes beyond is answered `unavailable`.
const ROOM_QUEUE: usize = 4_096;
/// PushQueue and bounces that are owed; while there are more, no room takes further requests.
const OWED_MAX: usize = 100_000;
const TICK: Duration = Duration::from_millis(100);

type JobFuture = Pin<Box<dyn Future<Output = JobResult> + Send>>;
type Requests = Pin<Box<dyn Stream<Item = (Partition, NatsMessage)> + Send>>;

/// A room in the live table.
#[derive(Debug)]
struct LiveEntry {
    partition: Partition,
    /// `None` while it is being opened.
    room: Option<Box<Room>>,
    queue: VecDeque<QueuedRequest>,
    /// A job of it is under way.
    busy: bool,
    /// What a look-up found for the requests that wait.
    lookups: Lookups,
    /// Events that an earlier owner may not have handed out to everybody.
    unsettled: Vec<Event>,
    idle: Option<IdleClock>,
    /// The minute for which `active_rooms` has this room.
    active_minute: u64,
}

/// A node that died or became unreachable, with what it did not settle.
#[derive(Debug)]
struct GivenUp {
    due: Instant,
    undelivered: Vec<Undelivered>,
}

/// Everything that one worker knows.
pub(crate) struct Executor {
    context: JobContext,
    config: ChannelConfig,
    leases: Leases,
    key: NodeKey,
    partitions: HashMap<Partition, OwnedPartition>,
    rooms: HashMap<RoomId, LiveEntry>,
    /// Rooms that have something to do and no job under way.
    ready: Vec<RoomId>,
    /// Rooms that wait for a link that is heavy, or for pushes.
    slowed: HashSet<RoomId>,
    links: OutboundLinks,
    /// Nodes whose key is there.
    live: HashSet<NodeId>,
    given_up: Vec<GivenUp>,
    owed: PendingPushes,
    pushes: push_queue::PushQueue,
    /// Whether events were handed to links since these were sent.
    has_dispatched: bool,
    jobs: FuturesUnordered<JobFuture>,
    requests: SelectAll<Requests>,
    acks: Subscription,
    changes: mpsc::Receiver<NodeChange>,
    stop: CancellationToken,
    last_settle: Instant,
    last_resume: Instant,
    /// When the connection was last made: for a moment after it, nodes may not be back.
    connected: Instant,
    connects: u64,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("partitions", &self.partitions.len()).finish_non_exhaustive()
    }
}

/// What the executor begins with.
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
            pushes: push_queue::PushQueue::new(context.bus.clone()),
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
            live: HashSet::new(),
            given_up: Vec::new(),
            owed: PendingPushes::default(),
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

    /// Runs until it is told to stop; then finishes what it has taken, and ends.
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = self.context.bus.connection();
        let stop = self.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some((partition, message)) = self.requests.next() => self.receive_flow(partition, &message).await,
                Some(done) = self.jobs.next() => self.handle_result(done).await,
                Some(message) = self.acks.next() => self.receive_link_answer(&message).await,
                Some(pushed) = self.pushes.next() => self.pushed(pushed),
                Some(change) = self.changes.recv() => self.node_change(change).await,
                Ok(()) = connection.changed() => self.connection_changed().await,
                _ = ticks.tick() => self.tick().await,
            }
            self.drain_waiting().await;
            self.start_ready_rooms();
            self.send_links().await;
        }
        self.end().await;
    }

    /// Takes whatever else waits already, so that a round is as full as it can be.
    async fn drain_waiting(&mut self) {
        for _ in 0..ROUND_MAX {
            let mut idle = true;
            if let Some(Some(done)) = self.jobs.next().now_or_never() {
                self.handle_result(done).await;
                idle = false;
            }
            if let Some(Some((partition, message))) = self.requests.next().now_or_never() {
                self.receive_flow(partition, &message).await;
                idle = false;
            }
            if let Some(Some(message)) = self.acks.next().now_or_never() {
                self.receive_link_answer(&message).await;
                idle = false;
            }
            if let Some(Some(pushed)) = self.pushes.next().now_or_never() {
                self.pushed(pushed);
                idle = false;
            }
            if idle {
                break;
            }
        }
    }

    /// Finishes what was taken: no further requests, and the jobs and pushes under way for at most 5 s.
    async fn end(mut self) {
        self.unsubscribe_requests().await;
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            self.start_ready_rooms();
            self.send_links().await;
            if self.jobs.is_empty() && self.ready.is_empty() && self.pushes.is_empty() {
                break;
            }
            tokio::select! {
                Some(done) = self.jobs.next() => self.handle_result(done).await,
                Some(pushed) = self.pushes.next() => self.pushed(pushed),
                () = tokio::time::sleep_until(deadline) => {
                    tracing::warn!(jobs = self.jobs.len(), pushes = self.owed.count(), "stopped with work under way");
                    break;
                }
            }
        }
        self.write_heads().await;
        if let Err(error) = self.context.bus.flush().await {
            tracing::debug!(%error, "the last messages may not have been sent");
        }
    }

    fn job(&mut self, job: impl Future<Output = JobResult> + Send + 'static) {
        self.jobs.push(Box::pin(job));
    }

    /// Notes that a room has something to do.
    fn make_ready(&mut self, room: &RoomId) {
        if self.rooms.get(room).is_some_and(|entry| !entry.busy) && !self.ready.contains(room) {
            self.ready.push(room.clone());
        }
    }

    /// Sends everything that waits, one message on each link.
    async fn send_links(&mut self) {
        let waiting = self.links.drain();
        for (node, messages) in waiting {
            self.send(&node, messages).await;
        }
        if std::mem::take(&mut self.has_dispatched) {
            for point in [FailPoint::AfterDispatch, FailPoint::AfterAnswer] {
                if fail_point_armed(point) {
                    // What was sent must have left the process before it ends.
                    self.context.bus.flush().await.ok();
                    fail_point(point);
                }
            }
        }
        self.pushes.fill();
    }
}

/// The head of an event that was dispatched, for the room's idle clock.
fn note_events(idle: Option<&mut IdleClock>, heads: &[Head]) {
    if let Some(idle) = idle {
        heads.iter().for_each(|head| idle.event(head.at));
    }
}

/// Tells the nodes that a channel has ended: its audience is empty, and nobody is told a reason.
fn end_audience(room: &Room, links: &mut OutboundLinks) {
    for (user, node) in room.audience.places() {
        let (room, user) = (room.id.clone(), user.clone());
        links.removed(node, AudienceRemoved { room, user, reason: AudienceReason::Presence });
    }
}
