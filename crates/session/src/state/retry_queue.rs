//! What the owners of rooms have to be told about the users of this node, and are told again until they confirm it:
//! that a user's last session has ended (a detach), and which events no device of the user took (bounces).
//!
//! There is one entry for each room and user, however many events were under way. Its detach comes before its bounces,
//! one request at a time: for a user who is still attached, the owner would push nothing. Sessions that end together
//! may leave thousands of entries. They must not fill the flows that all sessions share, so only a limited number is
//! under way to one partition at one time. The others wait in order.

use std::collections::{HashMap, VecDeque};

use sendpi_model::{Partition, RoomId, UserId, Verb};

use slotmap::SlotMap;

use crate::keys::{LinkId, RetryKey};

/// The most entries in the queue, under way or not. Beyond that, it takes no more.
const WAITING: usize = 1_000_000;
/// The most requests under way to one partition at one time.
const UNDER_WAY: usize = 512;
/// The most separate ranges of one entry. Beyond that, the last two become one, with what lies between them.
const RANGES: usize = 8;

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
}

impl QueueEntry {
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
    /// Entries whose request was sent and not confirmed. They are sent again in this order.
    again: Vec<RetryKey>,
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
        let entry = QueueEntry { room, user, partition, detach: None, bounces: VecDeque::new(), under_way: None };
        let key = self.entries.insert(entry);
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

    /// Notes that the request of an entry was not confirmed.
    pub(crate) fn failed(&mut self, key: RetryKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        match entry.under_way.take() {
            Some(Told::Detach { signin }) => entry.detach = entry.detach.max(Some(signin)),
            Some(Told::Bounce(range)) => entry.bounces.push_front(range),
            None => return,
        }
        if let Some(lane) = self.lanes.get_mut(&entry.partition) {
            lane.under_way = lane.under_way.saturating_sub(1);
        }
        self.again.push(key);
    }

    /// Queues the entries whose request was not confirmed again, before those that have not been sent yet. Returns the
    /// partitions with requests.
    pub(crate) fn retry(&mut self) -> Vec<Partition> {
        for key in std::mem::take(&mut self.again).into_iter().rev() {
            if let Some(entry) = self.entries.get(key) {
                self.lanes.entry(entry.partition).or_default().queue.push_front(key);
            }
        }
        self.lanes.retain(|_, lane| lane.under_way > 0 || !lane.queue.is_empty());
        self.lanes.keys().copied().collect()
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
