//! Push jobs: ranges of a room's events and the users who want them, published until they are kept.
//!
//! A room publishes at most once a second. What comes meanwhile for the same users joins the range that waits, so that
//! what a room costs follows its users, not its messages. Ranges that are alike become one job. A job that is under way
//! does not change any more, and is published again as it is, so that the queue recognizes it by its name.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sendpi_bus::Bus;
use sendpi_bus::push_stream::{JOB_USERS, PushJob, publish_job};
use sendpi_model::faults::{FailPoint, fail_point};
use sendpi_model::server_frame::OkAnswer;
use sendpi_model::{Partition, RoomId, UserId};
use sendpi_store::Row;
use tokio::time::Instant;

use super::Executor;
use crate::dispatch::PushOrder;
use crate::pending_pushes::{PendingId, PendingPushes};
use crate::room::{AnswerAddress, WantedRange};

/// The most rooms whose jobs are under way at one time.
const UNDER_WAY: usize = 256;
/// A room publishes at most once in this time.
const EVERY: Duration = Duration::from_secs(1);
/// A room with this many ranges that wait decides nothing more until the queue has taken some.
const RANGES: usize = 256;

type Publishing = Pin<Box<dyn Future<Output = PushRound> + Send>>;

/// A range that waits, and the users who want it.
#[derive(Debug)]
struct WaitingRange {
    users: Arc<[UserId]>,
    range: WantedRange,
    /// The bounces that are confirmed with it.
    then: Vec<AnswerAddress>,
    pending: PendingId,
}

/// What a room publishes in one go.
#[derive(Debug)]
pub(super) struct PushRound {
    partition: Partition,
    room: RoomId,
    jobs: Vec<PushJob>,
    /// The ranges that the jobs are made of.
    ranges: Vec<WaitingRange>,
}

/// The pushes of one room.
#[derive(Debug)]
struct RoomPushes {
    partition: Partition,
    waiting: VecDeque<WaitingRange>,
    under_way: bool,
    /// When the room may publish next.
    next: Instant,
}

/// The pushes of all rooms.
pub(super) struct PushQueue {
    bus: Bus,
    rooms: HashMap<RoomId, RoomPushes>,
    /// When each room of `rooms` that publishes nothing now is looked at next.
    due: BinaryHeap<Reverse<(Instant, RoomId)>>,
    under_way: FuturesUnordered<Publishing>,
}

impl PushQueue {
    pub(super) fn new(bus: Bus) -> Self {
        Self { bus, rooms: HashMap::new(), due: BinaryHeap::new(), under_way: FuturesUnordered::new() }
    }

    /// Returns whether nothing waits and nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.values().all(|room| room.waiting.is_empty() && !room.under_way)
    }

    /// Returns whether a room has to wait for the queue.
    pub(super) fn holds_up(&self, room: &RoomId) -> bool {
        self.rooms.get(room).is_some_and(|room| room.waiting.len() >= RANGES)
    }

    fn add(&mut self, partition: Partition, id: &RoomId, order: PushOrder, pending: &mut PendingPushes, now: Instant) {
        let room = match self.rooms.get_mut(id) {
            Some(room) => room,
            None => {
                self.due.push(Reverse((now, id.clone())));
                let room = RoomPushes { partition, waiting: VecDeque::new(), under_way: false, next: now };
                self.rooms.entry(id.clone()).or_insert(room)
            }
        };
        if let Some(given_back) = room.add(order, |at| pending.add(partition, at)) {
            pending.done(given_back);
        }
    }

    /// Begins to publish what is due, as far as there is room. `send_links` calls it after the links are sent, so that
    /// nobody is pushed what is not live yet.
    pub(super) fn start_due(&mut self, now: Instant) {
        while self.under_way.len() < UNDER_WAY {
            let Some(Reverse((at, _))) = self.due.peek() else { return };
            if *at > now {
                return;
            }
            let Some(Reverse((_, id))) = self.due.pop() else { return };
            let Some(room) = self.rooms.get_mut(&id) else { continue };
            if room.waiting.is_empty() {
                self.rooms.remove(&id);
                continue;
            }
            room.under_way = true;
            room.next = now + EVERY;
            let round = room.take(id);
            self.under_way.push(Box::pin(publish_until_kept(self.bus.clone(), round)));
        }
    }

    /// Drops what waits of a partition that this worker does not own any more. Its next owner dispatches the events
    /// again, and bounces are asked again.
    pub(super) fn forget(&mut self, partition: Partition) {
        self.rooms.values_mut().filter(|room| room.partition == partition).for_each(|room| room.waiting.clear());
    }

    /// Makes everything that waits of a partition due, because it is handed over. `None` is for all.
    pub(super) fn hurry(&mut self, partition: Option<Partition>, now: Instant) {
        let its = self.rooms.values_mut().filter(|room| partition.is_none_or(|partition| room.partition == partition));
        its.for_each(|room| room.next = room.next.min(now));
        let idle = self.rooms.iter().filter(|(_, room)| !room.under_way);
        self.due = idle.map(|(id, room)| Reverse((room.next, id.clone()))).collect();
    }

    /// Returns whether anything of a partition waits or is under way.
    pub(super) fn has(&self, partition: Partition) -> bool {
        let its = self.rooms.values().filter(|room| room.partition == partition);
        its.into_iter().any(|room| room.under_way || !room.waiting.is_empty())
    }

    /// Returns the next room whose jobs are kept. `None` if none is under way.
    pub(super) async fn next(&mut self) -> Option<PushRound> {
        let round = self.under_way.next().await?;
        if let Some(room) = self.rooms.get_mut(&round.room) {
            room.under_way = false;
            self.due.push(Reverse((room.next, round.room.clone())));
        }
        Some(round)
    }
}

impl RoomPushes {
    /// Adds a push to the range that waits for the same list of users, or behind the others. Returns a pending id that
    /// is not needed any more, because the range has an older one.
    fn add(&mut self, order: PushOrder, pending: impl FnOnce(sendpi_model::Millis) -> PendingId) -> Option<PendingId> {
        let PushOrder { users, range, then, pending: known } = order;
        // The same list means that nobody of it came online in between. Equal users of another list may have, and then
        // what lies between both ranges is not theirs to be pushed.
        let same = |waiting: &&mut WaitingRange| {
            let follows = waiting.range.last + 1 == range.first && waiting.users == users;
            Arc::ptr_eq(&waiting.users, &users) || follows
        };
        if let Some(waiting) = self.waiting.iter_mut().rev().find(same) {
            waiting.then.extend(then);
            waiting.range.join(range);
            let (older, newer) = match known {
                Some(known) => (known.min(waiting.pending), Some(known.max(waiting.pending))),
                None => (waiting.pending, None),
            };
            waiting.pending = older;
            return newer;
        }
        let pending = known.unwrap_or_else(|| pending(range.at));
        self.waiting.push_back(WaitingRange { users, range, then: then.into_iter().collect(), pending });
        None
    }

    /// Takes everything that waits, as jobs. Ranges that are alike become one, whose users share it.
    fn take(&mut self, room: RoomId) -> PushRound {
        let ranges: Vec<WaitingRange> = self.waiting.drain(..).collect();
        let mut alike: Vec<(&WantedRange, Vec<UserId>)> = Vec::new();
        let mut places: HashMap<(u64, u64, u64, u64), usize> = HashMap::new();
        for WaitingRange { users, range, .. } in &ranges {
            let same = (range.first, range.last, range.count, range.newest.head.seq);
            let next = alike.len();
            match alike.get_mut(*places.entry(same).or_insert(next)) {
                Some((_, all)) => all.extend(users.iter().cloned()),
                None => alike.push((range, users.to_vec())),
            }
        }
        let mut jobs = Vec::new();
        for (WantedRange { first, last, count, newest, .. }, mut users) in alike {
            users.sort();
            users.dedup();
            jobs.extend(users.chunks(JOB_USERS).map(|users| PushJob {
                v: 2,
                room: room.clone(),
                first: *first,
                last: *last,
                count: *count,
                users: users.to_vec(),
                newest: newest.frame.clone(),
            }));
        }
        PushRound { partition: self.partition, room, jobs, ranges }
    }
}

async fn publish_until_kept(bus: Bus, round: PushRound) -> PushRound {
    for job in &round.jobs {
        let mut pause = Duration::from_millis(50);
        while let Err(error) = publish_job(&bus, round.partition, job).await {
            tracing::warn!(
                %error, partition = %round.partition, room = %round.room, first = job.first, last = job.last,
                "a push job is not kept yet; it is published again"
            );
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }
    fail_point(FailPoint::AfterPush);
    round
}

impl Executor {
    /// Adds a push, which is pending until it is kept.
    pub(super) fn push(&mut self, partition: Partition, room: &RoomId, order: PushOrder) {
        self.pushes.add(partition, room, order, &mut self.pending, Instant::now());
    }

    /// Records that the pushes of a room are kept, and confirms their bounces.
    pub(super) fn pushed(&mut self, round: PushRound) {
        let mut log = self.rooms.get_mut(&round.room).map(|entry| &mut entry.pushed);
        for WaitingRange { users, range, then, pending } in round.ranges {
            self.pending.done(pending);
            for to in then {
                self.links.answer(&to, &OkAnswer::default());
            }
            if let Some(log) = &mut log {
                log.add(range.first, range.last, users);
            }
        }
        self.newly_pushed.insert(round.room);
    }

    /// Returns what was pushed since the last call, as rows for the next owner: of one partition, or of all.
    pub(super) fn pushed_rows(&mut self, partition: Option<Partition>) -> Vec<Row> {
        let mut rows = Vec::new();
        let is_its = |id: &RoomId| match (partition, self.rooms.get(id)) {
            (Some(partition), Some(entry)) => entry.partition == partition,
            _ => true,
        };
        for id in self.newly_pushed.extract_if(is_its).collect::<Vec<_>>() {
            let Some(entry) = self.rooms.get_mut(&id) else { continue };
            let settled = self.partitions.get(&entry.partition).and_then(|owned| owned.settled);
            let Some(room) = &entry.room else { continue };
            let unsettled = settled.map_or(0, |settled| room.tail.unsettled_from(settled.at));
            rows.push(Row::Pushed(entry.pushed.row(&id, unsettled)));
        }
        rows
    }

    /// Writes down what was pushed. If that fails, more is pushed twice after a crash.
    pub(super) fn write_pushed(&mut self) {
        let rows = self.pushed_rows(None);
        if !rows.is_empty() {
            let store = Arc::clone(&self.context.store);
            tokio::spawn(async move {
                let rooms = rows.len();
                match store.write(rows).await {
                    Ok(()) => tracing::debug!(rooms, "wrote down what was pushed"),
                    Err(error) => tracing::warn!(%error, "cannot write down what was pushed"),
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
