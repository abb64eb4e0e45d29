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

/// The pause before a request is sent again that was not confirmed, which doubles with each refusal up to the longest
/// one, and is not shorter than what the owner asked for.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// For how long a bounce that its owner refuses holds up what is settled on its link, if other events come meanwhile.
const HOLDS_UP: Duration = Duration::from_mins(1);

/// Where an event came from: a link, and the number of a message on it.
pub(crate) type Origin = (LinkId, u64);

/// A range of a room's events that no device of a user took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UntakenRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The first message with an event of the range, of each link that brought any. Nearly always there is one.
    pub(crate) origins: Vec<Origin>,
    /// How often the owner has refused it, and since when.
    refusals: u32,
    refused_since: Option<Instant>,
    /// Whether some of it counts as settled although the owner has not taken it, so that nobody else makes the bounce.
    released: bool,
}

impl UntakenRange {
    /// Returns the range of one event.
    pub(crate) fn of(seq: u64, origin: Origin) -> Self {
        let origins = vec![origin];
        Self { first: seq, last: seq, origins, refusals: 0, refused_since: None, released: false }
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
        self.released |= other.released;
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
    /// How often the owner has refused the detach.
    refusals: u32,
    /// Those that the owner has refused are behind the others.
    bounces: VecDeque<UntakenRange>,
    under_way: Option<Told>,
    /// From when it may be sent again, if it waits for that.
    again_at: Option<Instant>,
}

impl QueueEntry {
    fn new(room: RoomId, user: UserId, partition: Partition) -> Self {
        let bounces = VecDeque::new();
        Self { room, user, partition, detach: None, refusals: 0, bounces, under_way: None, again_at: None }
    }

    /// Returns how often the owner has refused what is asked next.
    fn next_refusals(&self) -> u32 {
        match self.detach {
            Some(_) => self.refusals,
            None => self.bounces.front().map_or(0, |range| range.refusals),
        }
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

    /// Puts a range back that was not asked, or not answered.
    fn put_back(&mut self, range: UntakenRange) {
        let at = if range.refusals == 0 { 0 } else { self.fresh() };
        self.bounces.insert(at, range);
    }

    /// Returns the number of ranges that the owner has not refused.
    fn fresh(&self) -> usize {
        self.bounces.partition_point(|range| range.refusals == 0)
    }

    /// Adds a range. Returns the origins that are not needed, because an earlier range stands for them. It becomes one
    /// with a range that the owner has refused only if there are too many.
    fn bounce(&mut self, range: UntakenRange) -> Vec<Origin> {
        let fresh = self.fresh();
        let last = fresh.checked_sub(1).and_then(|last| self.bounces.get_mut(last));
        if let Some(last) = last.filter(|last| last.touches(&range)) {
            return last.join(range);
        }
        if self.bounces.len() >= RANGES
            && let Some(last) = self.bounces.get_mut(fresh.max(1) - 1)
        {
            return last.join(range);
        }
        self.bounces.insert(fresh, range);
        Vec::new()
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
    hurried: bool,
}

impl RetryQueue {
    /// Adds that the user's last session with this sign-in number has ended. Returns `false` if the queue is full.
    pub(crate) fn detach(&mut self, partition: Partition, room: &RoomId, user: &UserId, signin: u64) -> bool {
        let key = self.entry(partition, room, user);
        let Some(entry) = key.and_then(|key| self.entries.get_mut(key)) else { return false };
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
        let key = self.entry(partition, room, user)?;
        let entry = self.entries.get_mut(key)?;
        let waits = entry.next_refusals() > 0;
        let not_needed = entry.bounce(range);
        // It does not wait for what the owner has refused.
        if waits
            && entry.next_refusals() == 0
            && let Some(at) = entry.again_at.take()
        {
            self.again.remove(&(at, key));
            self.lanes.entry(partition).or_default().queue.push_back(key);
        }
        Some(not_needed)
    }

    /// Returns the entry of a user in a room, which waits for its turn from now on if nothing of it is under way.
    fn entry(&mut self, partition: Partition, room: &RoomId, user: &UserId) -> Option<RetryKey> {
        let name = (room.clone(), user.clone());
        if let Some(key) = self.index.get(&name) {
            return Some(*key);
        }
        if self.entries.len() >= WAITING {
            return None;
        }
        let (room, user) = name.clone();
        let key = self.entries.insert(QueueEntry::new(room, user, partition));
        self.index.insert(name, key);
        self.lanes.entry(partition).or_default().queue.push_back(key);
        Some(key)
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
        entry.refusals = 0;
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

    /// Notes that the request of an entry was not confirmed: the owner refused it and said how long to wait, or it was
    /// not sent or not answered. It may be sent again after a pause. Returns the partition.
    ///
    /// A range that has been refused for [`HOLDS_UP`] is released if `others_go_on` since the middle of that time, and
    /// `release` is called with its origins.
    pub(crate) fn failed(
        &mut self,
        key: RetryKey,
        refused: Option<Duration>,
        now: Instant,
        others_go_on: impl FnOnce(Instant) -> bool,
        release: impl FnMut(Origin),
    ) -> Option<Partition> {
        let entry = self.entries.get_mut(key)?;
        match entry.under_way.take()? {
            Told::Detach { signin } => {
                entry.detach = entry.detach.max(Some(signin));
                entry.refusals = entry.refusals.saturating_add(u32::from(refused.is_some()));
            }
            Told::Bounce(range) if refused.is_none() => entry.put_back(range),
            Told::Bounce(mut range) => {
                range.refusals = range.refusals.saturating_add(1);
                let since = *range.refused_since.get_or_insert(now);
                if now - since >= HOLDS_UP && others_go_on(since + HOLDS_UP / 2) {
                    range.released = true;
                    range.origins.drain(..).for_each(release);
                }
                entry.bounces.push_back(range);
            }
        }
        if let Some(lane) = self.lanes.get_mut(&entry.partition) {
            lane.under_way = lane.under_way.saturating_sub(1);
        }
        let pause = match entry.next_refusals() {
            // The owner has not refused what is next, only something else.
            0 => PAUSE.0,
            _ if self.hurried => PAUSE.0,
            times => PAUSE
                .0
                .saturating_mul(1 << (times - 1).min(16))
                .min(PAUSE.1)
                .max(refused.unwrap_or_default().min(2 * PAUSE.1)),
        };
        entry.again_at = Some(now + pause);
        self.again.insert((now + pause, key));
        Some(entry.partition)
    }

    /// Notes that the request of an entry could not be sent now.
    pub(crate) fn not_sent(&mut self, key: RetryKey, now: Instant) {
        self.failed(key, None, now, |_| false, |_| {});
    }

    /// Makes everything due now, and again after a short pause whatever the owner says, because this node is stopping.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.hurried = true;
        let waiting = std::mem::take(&mut self.again);
        for (_, key) in waiting {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.again_at = Some(now);
                self.again.insert((now, key));
            }
        }
    }

    /// Queues the entries whose pause is over behind those that have not been sent yet. Returns the partitions with
    /// requests.
    pub(crate) fn retry(&mut self, now: Instant) -> Vec<Partition> {
        while let Some((_, key)) = self.again.first().copied().filter(|(due, _)| *due <= now) {
            self.again.pop_first();
            if let Some(entry) = self.entries.get_mut(key) {
                entry.again_at = None;
                self.lanes.entry(entry.partition).or_default().queue.push_back(key);
            }
        }
        self.lanes.retain(|_, lane| lane.under_way > 0 || !lane.queue.is_empty());
        self.lanes.keys().copied().collect()
    }

    /// Removes all bounces that are not under way, because the workers of cut links make them instead. What was released
    /// counts as settled there, and stays.
    pub(crate) fn drop_bounces(&mut self) {
        let mut empty = Vec::new();
        for (key, entry) in &mut self.entries {
            entry.bounces.retain(|range| range.released);
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
