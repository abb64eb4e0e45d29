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

pub(crate) use self::entry::{Origin, UntakenRange};
use self::entry::{QueueEntry, Told};
use crate::keys::RetryKey;

mod entry;

/// The most entries in the queue, under way or not. Beyond that, it takes no more.
const WAITING: usize = 1_000_000;
/// The most requests under way to one partition at one time.
const UNDER_WAY: usize = 512;

/// The pause before a request is sent again that was not confirmed, which doubles with each refusal up to the longest
/// one, and is not shorter than what the owner asked for.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

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
    /// A range that has been refused for a minute is released if `others_go_on` since the middle of that time:
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
        entry.not_confirmed(refused.is_some(), now, others_go_on, release)?;
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

    /// Removes all bounces that are not under way, because the workers of cut links make them instead. What was
    /// released counts as settled there, and stays.
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
