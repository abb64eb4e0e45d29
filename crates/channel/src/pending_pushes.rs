//! Pending pushes and bounces: events whose push is not kept yet, and events of nodes that were given up. They are
//! not settled until that is done.

use std::collections::{BTreeMap, HashMap};

use sendpi_model::{Millis, Partition};

/// How many pushes and bounces are pending for events of each time, by partition.
#[derive(Debug, Default)]
pub(crate) struct PendingPushes {
    times: HashMap<Partition, BTreeMap<Millis, usize>>,
    count: usize,
}

impl PendingPushes {
    /// Adds one for an event of this time.
    pub(crate) fn add(&mut self, partition: Partition, at: Millis) {
        *self.times.entry(partition).or_default().entry(at).or_default() += 1;
        self.count += 1;
    }

    /// Removes one for an event of this time.
    pub(crate) fn done(&mut self, partition: Partition, at: Millis) {
        let Some(times) = self.times.get_mut(&partition) else { return };
        let Some(count) = times.get_mut(&at) else { return };
        *count -= 1;
        self.count -= 1;
        if *count == 0 {
            times.remove(&at);
        }
    }

    /// Returns the time of the oldest event for which anything is pending.
    pub(crate) fn oldest(&self, partition: Partition) -> Option<Millis> {
        self.times.get(&partition)?.keys().next().copied()
    }

    /// Returns how many are pending in all.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}
