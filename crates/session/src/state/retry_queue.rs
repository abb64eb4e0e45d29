//! What the owners of rooms have to be told about the users of this node, and are told again until they confirm it:
//! that a user's last session has ended (a detach), and which events no device of the user took (bounces).
//!
//! There is one entry for each room and user, however many events were under way. Its detach comes before its bounces,
//! one request at a time: for a user who is still attached, the owner would push nothing. Sessions that end together
//! may leave thousands of entries. They must not fill the flows that all sessions share, so only a limited number is
//! under way to one partition at one time. The others wait in order.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use sendpi_model::{Partition, RoomId, UserId, Verb};
use slotmap::SlotMap;
use tokio::time::Instant;

use crate::keys::{LinkId, RetryKey};

/// The most entries in the queue, under way or not. Beyond that, it takes no more.
const WAITING: usize = 1_000_000;
/// The most requests under way to one partition at one time.
const UNDER_WAY: usize = 512;
/// The most separate ranges of one entry. Beyond that, the last two become one, with what lies between them.
const RANGES: usize = 8;

/// The pause before a request is sent again that was not confirmed, which doubles with each try up to the longest one.
/// If the owner said how long to wait, it is at least that.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Where an event came from: a link, and the number of a message on it.
pub(crate) type Origin = (LinkId, u64);

/// A range of a room's events that no device of a user took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UntakenRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The first message with an event of the range, of each link that brought any. Nearly always there is one.
    pub(crate) origins: Vec<Origin>,
}

impl UntakenRange {
    /// Returns the range of one event.
    pub(crate) fn of(seq: u64, origin: Origin) -> Self {
        Self { first: seq, last: seq, origins: vec![origin] }
    }

    /// Adds an event to the range.
    pub(crate) fn add(&mut self, seq: u64, origin: Origin) {
        self.first = self.first.min(seq);
        self.last = self.last.max(seq);
        self.note(origin);
    }

    /// Notes an origin. Returns the one that the range does not need, if it has an earlier one of the same link.
    fn note(&mut self, origin: Origin) -> Option<Origin> {
        match self.origins.iter_mut().find(|known| known.0 == origin.0) {
            Some(known) if known.1 <= origin.1 => Some(origin),
            Some(known) => Some(std::mem::replace(known, origin)),
            None => {
                self.origins.push(origin);
                None
            }
        }
    }

    /// Adds another range, with what lies between both. Returns the origins that are not needed any more.
    fn join(&mut self, other: Self) -> Vec<Origin> {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        other.origins.into_iter().filter_map(|origin| self.note(origin)).collect()
    }

    /// Returns whether no event lies between this range and a later or overlapping one.
    fn touches(&self, other: &Self) -> bool {
        other.first <= self.last.saturating_add(1) && self.first <= other.last.saturating_add(1)
    }
}

/// A request that an owner is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Detach { signin: u64 },
    Bounce(UntakenRange),
}

/// What an owner confirmed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Confirmed {
    /// It removed the entries of the user with sign-in numbers up to this one.
    Detach { room: RoomId, user: UserId, signin: u64 },
    /// It took the bounce of events with these origins.
    Bounce { origins: Vec<Origin> },
}

/// The request that is asked next.
#[derive(Debug)]
pub(crate) struct RetriedRequest {
    pub(crate) key: RetryKey,
    pub(crate) room: RoomId,
    pub(crate) user: UserId,
    pub(crate) verb: Verb,
}

#[derive(Debug)]
struct QueueEntry {
    room: RoomId,
    user: UserId,
    partition: Partition,
    detach: Option<u64>,
    /// Oldest first.
    bounces: VecDeque<UntakenRange>,
    under_way: Option<Told>,
    /// How often it was asked since it was confirmed last, and when that first failed.
    tries: u32,
    refused_since: Option<Instant>,
}

impl QueueEntry {
    fn new(room: RoomId, user: UserId, partition: Partition) -> Self {
        let (bounces, tries) = (VecDeque::new(), 0);
        Self { room, user, partition, detach: None, bounces, under_way: None, tries, refused_since: None }
    }

    fn has_work(&self) -> bool {
        self.detach.is_some() || !self.bounces.is_empty()
    }

    fn next(&mut self) -> Option<Told> {
        match self.detach.take() {
            Some(signin) => Some(Told::Detach { signin }),
            None => self.bounces.pop_front().map(Told::Bounce),
        }
    }

    /// Adds a range. Returns the origins that are not needed, because an earlier range stands for them.
    fn bounce(&mut self, range: UntakenRange) -> Vec<Origin> {
        let full = self.bounces.len() >= RANGES;
        match self.bounces.back_mut() {
            Some(last) if full || last.touches(&range) => last.join(range),
            _ => {
                self.bounces.push_back(range);
                Vec::new()
            }
        }
    }
}

/// The requests to one partition.
#[derive(Debug, Default)]
struct Lane {
    under_way: usize,
    queue: VecDeque<RetryKey>,
}

/// The retried requests of a node.
#[derive(Debug, Default)]
pub(crate) struct RetryQueue {
    entries: SlotMap<RetryKey, QueueEntry>,
    index: HashMap<(RoomId, UserId), RetryKey>,
    lanes: HashMap<Partition, Lane>,
    /// Entries whose request was sent and not confirmed, with the time from which it may be sent again.
    again: BTreeSet<(Instant, RetryKey)>,
}

impl RetryQueue {
    /// Adds that the user's last session with this sign-in number has ended. Returns `false` if the queue is full.
    pub(crate) fn detach(&mut self, partition: Partition, room: &RoomId, user: &UserId, signin: u64) -> bool {
        let Some(entry) = self.entry(partition, room, user) else { return false };
        entry.detach = entry.detach.max(Some(signin));
        true
    }

    /// Adds a range that no device of the user took. Returns the origins that are not needed, because an earlier range
    /// stands for them. `None` if the queue is full.
    pub(crate) fn bounce(
        &mut self,
        partition: Partition,
        room: &RoomId,
        user: &UserId,
        range: UntakenRange,
    ) -> Option<Vec<Origin>> {
        self.entry(partition, room, user).map(|entry| entry.bounce(range))
    }

    /// Returns the entry of a user in a room, which waits for its turn from now on if nothing of it is under way.
    fn entry(&mut self, partition: Partition, room: &RoomId, user: &UserId) -> Option<&mut QueueEntry> {
        let name = (room.clone(), user.clone());
        if let Some(key) = self.index.get(&name) {
            return self.entries.get_mut(*key);
        }
        if self.entries.len() >= WAITING {
            return None;
        }
        let (room, user) = name.clone();
        let key = self.entries.insert(QueueEntry::new(room, user, partition));
        self.index.insert(name, key);
        self.lanes.entry(partition).or_default().queue.push_back(key);
        self.entries.get_mut(key)
    }

    /// Returns the next request that may be sent to a partition, and counts it as under way.
    pub(crate) fn next(&mut self, partition: Partition) -> Option<RetriedRequest> {
        let lane = self.lanes.get_mut(&partition)?;
        while lane.under_way < UNDER_WAY {
            let key = lane.queue.pop_front()?;
            // Entries that were removed in the meantime are skipped.
            let Some(entry) = self.entries.get_mut(key) else { continue };
            let Some(told) = entry.next() else { continue };
            let verb = match &told {
                Told::Detach { signin } => Verb::Detach { signin: *signin },
                Told::Bounce(range) => Verb::Bounce { first: range.first, last: range.last },
            };
            entry.under_way = Some(told);
            lane.under_way += 1;
            return Some(RetriedRequest { key, room: entry.room.clone(), user: entry.user.clone(), verb });
        }
        None
    }

    /// Removes the request of an entry that the owner confirmed, and returns it. If the entry has another one, that
    /// waits for its turn.
    pub(crate) fn confirmed(&mut self, key: RetryKey) -> Option<(Partition, Confirmed)> {
        let entry = self.entries.get_mut(key)?;
        let (told, partition) = (entry.under_way.take()?, entry.partition);
        let confirmed = match told {
            Told::Detach { signin } => Confirmed::Detach { room: entry.room.clone(), user: entry.user.clone(), signin },
            Told::Bounce(range) => Confirmed::Bounce { origins: range.origins },
        };
        (entry.tries, entry.refused_since) = (0, None);
        let has_work = entry.has_work();
        let lane = self.lanes.entry(partition).or_default();
        lane.under_way = lane.under_way.saturating_sub(1);
        if has_work {
            lane.queue.push_back(key);
        } else {
            self.remove(key);
        }
        Some((partition, confirmed))
    }

    /// Notes that the request of an entry was not confirmed. It may be sent again after a pause, which is not shorter
    /// than what the owner asked for. Returns the partition, and since when the entry is not confirmed.
    pub(crate) fn failed(&mut self, key: RetryKey, asked: Duration, now: Instant) -> Option<(Partition, Instant)> {
        let entry = self.entries.get_mut(key)?;
        match entry.under_way.take()? {
            Told::Detach { signin } => entry.detach = entry.detach.max(Some(signin)),
            Told::Bounce(range) => entry.bounces.push_front(range),
        }
        let pause = PAUSE.0.saturating_mul(1 << entry.tries.min(16)).min(PAUSE.1);
        entry.tries = entry.tries.saturating_add(1);
        if let Some(lane) = self.lanes.get_mut(&entry.partition) {
            lane.under_way = lane.under_way.saturating_sub(1);
        }
        self.again.insert((now + pause.max(asked.min(2 * PAUSE.1)), key));
        Some((entry.partition, *entry.refused_since.get_or_insert(now)))
    }

    /// Queues the entries whose pause is over behind those that have not been sent yet. Returns the partitions with
    /// requests.
    pub(crate) fn retry(&mut self, now: Instant) -> Vec<Partition> {
        while let Some((_, key)) = self.again.first().copied().filter(|(due, _)| *due <= now) {
            self.again.pop_first();
            if let Some(entry) = self.entries.get(key) {
                self.lanes.entry(entry.partition).or_default().queue.push_back(key);
            }
        }
        self.lanes.retain(|_, lane| lane.under_way > 0 || !lane.queue.is_empty());
        self.lanes.keys().copied().collect()
    }

    /// Takes the origins of the ranges of an entry, which stay in the queue.
    pub(crate) fn take_origins(&mut self, key: RetryKey) -> Vec<Origin> {
        let ranges = self.entries.get_mut(key).into_iter().flat_map(|entry| &mut entry.bounces);
        ranges.flat_map(|range| std::mem::take(&mut range.origins)).collect()
    }

    /// Removes all bounces that are not under way, because the workers of cut links make them instead.
    pub(crate) fn drop_bounces(&mut self) {
        let mut empty = Vec::new();
        for (key, entry) in &mut self.entries {
            entry.bounces.clear();
            if entry.under_way.is_none() && !entry.has_work() {
                empty.push(key);
            }
        }
        empty.into_iter().for_each(|key| self.remove(key));
    }

    fn remove(&mut self, key: RetryKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.index.remove(&(entry.room, entry.user));
        }
    }

    /// Returns the number of rooms and users about which something is not confirmed.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests;
