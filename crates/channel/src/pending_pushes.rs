//! Pending pushes: events whose push is not kept yet, or of which it is not decided yet whether anybody wants one. They
//! are not settled until that is done.

use std::collections::{BTreeSet, HashMap};

use sendpi_model::{Millis, Partition};

/// One pending push of a range of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PendingId {
    /// The time of the range's first event.
    at: Millis,
    number: u64,
    partition: Partition,
}

impl PendingId {
    /// Returns the time of the range's first event.
    pub(crate) fn at(self) -> Millis {
        self.at
    }
}

/// The pending pushes, by partition.
#[derive(Debug, Default)]
pub(crate) struct PendingPushes {
    pending: HashMap<Partition, BTreeSet<PendingId>>,
    last: u64,
}

impl PendingPushes {
    /// Adds one for a range whose first event has this time.
    pub(crate) fn add(&mut self, partition: Partition, at: Millis) -> PendingId {
        self.last += 1;
        let id = PendingId { at, number: self.last, partition };
        self.pending.entry(partition).or_default().insert(id);
        id
    }

    /// Removes one. What was forgotten already is ignored.
    pub(crate) fn done(&mut self, id: PendingId) {
        if let Some(pending) = self.pending.get_mut(&id.partition) {
            pending.remove(&id);
        }
    }

    /// Forgets everything of a partition that this worker does not own any more. Its next owner dispatches again what
    /// is not settled.
    pub(crate) fn forget(&mut self, partition: Partition) {
        self.pending.remove(&partition);
    }

    /// Returns the time of the oldest event for which anything is pending.
    pub(crate) fn oldest(&self, partition: Partition) -> Option<Millis> {
        self.pending.get(&partition)?.first().map(|id| id.at)
    }

    /// Returns how many are pending in all.
    pub(crate) fn count(&self) -> usize {
        self.pending.values().map(BTreeSet::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_counts_until_it_is_done_once() {
        let mut pending = PendingPushes::default();
        let (newer, older) = (pending.add(Partition(1), Millis(9)), pending.add(Partition(1), Millis(5)));
        assert_eq!((pending.oldest(Partition(1)), pending.oldest(Partition(2))), (Some(Millis(5)), None));
        pending.done(older);
        pending.done(older);
        assert_eq!((pending.oldest(Partition(1)), pending.count()), (Some(Millis(9)), 1));
        pending.forget(Partition(1));
        pending.add(Partition(1), Millis(7));
        pending.done(newer);
        assert_eq!(pending.oldest(Partition(1)), Some(Millis(7)), "an id of an earlier holding removes nothing");
    }
}
