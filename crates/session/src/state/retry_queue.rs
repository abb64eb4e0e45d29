//! The requests that are retried until they are confirmed: detaches and bounces.
//!
//! A session that ends may leave thousands of bounces. They must not fill the flows that all sessions share, so
//! only a limited number is under way to one partition at one time. The others wait in order.

use std::collections::{HashMap, VecDeque};

use sendpi_model::{Partition, RoomId, UserId, Verb};

use slotmap::SlotMap;

use crate::keys::{LinkId, RetryKey};

/// The most requests in the queue, under way or not. Beyond that, `add` takes no more.
const WAITING: usize = 1_000_000;
/// The most requests under way to one partition at one time.
const UNDER_WAY: usize = 512;

/// A request that is retried until it is confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RetriedRequest {
    pub(crate) room: RoomId,
    pub(crate) user: UserId,
    pub(crate) what: RetriedVerb,
}

/// The kind of a retried request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetriedVerb {
    /// The user's last session with this sign-in number has ended.
    Detach { signin: u64 },
    /// No device of the user on this node confirmed this event, which message `number` of a link brought.
    Bounce { seq: u64, link: LinkId, number: u64 },
}

impl RetriedRequest {
    /// Returns the request to the owner.
    pub(crate) fn verb(&self) -> Verb {
        match self.what {
            RetriedVerb::Detach { signin } => Verb::Detach { signin },
            RetriedVerb::Bounce { seq, .. } => Verb::Bounce { seq },
        }
    }
}

#[derive(Debug)]
struct QueueEntry {
    repeat: RetriedRequest,
    partition: Partition,
    under_way: bool,
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
    lanes: HashMap<Partition, Lane>,
    /// Requests that were sent and not confirmed. They are sent again in this order.
    again: Vec<RetryKey>,
}

impl RetryQueue {
    /// Adds a request. Returns `false` if the queue is full.
    pub(crate) fn add(&mut self, partition: Partition, repeat: RetriedRequest) -> bool {
        if self.entries.len() >= WAITING {
            return false;
        }
        let key = self.entries.insert(QueueEntry { repeat, partition, under_way: false });
        self.lanes.entry(partition).or_default().queue.push_back(key);
        true
    }

    /// Returns the next request that may be sent to a partition, and counts it as under way.
    pub(crate) fn next(&mut self, partition: Partition) -> Option<(RetryKey, RetriedRequest)> {
        let lane = self.lanes.get_mut(&partition)?;
        while lane.under_way < UNDER_WAY {
            let key = lane.queue.pop_front()?;
            // Keys of requests that were removed in the meantime are skipped.
            if let Some(entry) = self.entries.get_mut(key) {
                entry.under_way = true;
                lane.under_way += 1;
                return Some((key, entry.repeat.clone()));
            }
        }
        None
    }

    /// Removes a request that the owner confirmed, and returns it.
    pub(crate) fn confirmed(&mut self, key: RetryKey) -> Option<(Partition, RetriedRequest)> {
        let entry = self.entries.remove(key)?;
        self.arrived(entry.partition, entry.under_way);
        Some((entry.partition, entry.repeat))
    }

    /// Notes that a request was not confirmed.
    pub(crate) fn failed(&mut self, key: RetryKey) {
        if let Some(entry) = self.entries.get_mut(key)
            && std::mem::take(&mut entry.under_way)
        {
            let partition = entry.partition;
            self.arrived(partition, true);
            self.again.push(key);
        }
    }

    fn arrived(&mut self, partition: Partition, under_way: bool) {
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.under_way -= usize::from(under_way);
        }
    }

    /// Queues the requests that were not confirmed again, before those that have not been sent yet. Returns the
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

    /// Removes all bounces, because the workers of cut links make them instead.
    pub(crate) fn drop_bounces(&mut self) {
        let bounces = self.entries.iter().filter(|(_, entry)| matches!(entry.repeat.what, RetriedVerb::Bounce { .. }));
        let bounces: Vec<RetryKey> = bounces.map(|(key, _)| key).collect();
        for key in bounces {
            drop(self.confirmed(key));
        }
    }

    /// Returns the number of requests that are not confirmed.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Partition = Partition(3);

    fn repeat(n: u64) -> RetriedRequest {
        let (room, user) = (RoomId::parse("r").unwrap(), UserId::parse("u").unwrap());
        RetriedRequest { room, user, what: RetriedVerb::Detach { signin: n } }
    }

    fn number(repeat: &RetriedRequest) -> u64 {
        match repeat.what {
            RetriedVerb::Detach { signin } => signin,
            RetriedVerb::Bounce { seq, .. } => seq,
        }
    }

    #[test]
    fn what_is_not_confirmed_is_asked_again_until_it_is() {
        let mut retries = RetryQueue::default();
        assert!(retries.add(P, repeat(1)) && retries.add(P, repeat(2)));
        let (first, second) = (retries.next(P).unwrap().0, retries.next(P).unwrap().0);
        retries.add(P, repeat(3));
        retries.failed(first);
        retries.failed(second);
        assert_eq!(retries.retry(), [P]);
        let again: Vec<u64> = std::iter::from_fn(|| retries.next(P)).map(|(_, repeat)| number(&repeat)).collect();
        assert_eq!(again, [1, 2, 3]);
        assert!(retries.confirmed(first).is_some() && retries.confirmed(first).is_none());
        assert_eq!(retries.len(), 2);
    }

    #[test]
    fn only_so_many_are_under_way_to_one_partition() {
        let mut retries = RetryQueue::default();
        for n in 0..UNDER_WAY as u64 + 10 {
            retries.add(P, repeat(n));
        }
        retries.add(Partition(4), repeat(0));
        let under_way: Vec<RetryKey> = std::iter::from_fn(|| retries.next(P)).map(|(key, _)| key).collect();
        assert_eq!((under_way.len(), retries.next(Partition(4)).is_some()), (UNDER_WAY, true));
        retries.confirmed(under_way[0]);
        assert_eq!(retries.next(P).map(|(_, repeat)| number(&repeat)), Some(UNDER_WAY as u64));
        assert!(retries.next(P).is_none());
    }

    #[test]
    fn forgotten_bounces_make_room() {
        let mut retries = RetryQueue::default();
        let what = RetriedVerb::Bounce { seq: 1, link: 1, number: 1 };
        retries.add(P, RetriedRequest { what, ..repeat(1) });
        let key = retries.next(P).unwrap().0;
        retries.drop_bounces();
        retries.failed(key);
        assert!(retries.retry().is_empty() && retries.len() == 0);
    }
}
