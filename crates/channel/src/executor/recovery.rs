//! Recovery: after a partition is taken over, the rooms in which an earlier owner may have left something are opened,
//! some at a time. One of which something is asked is opened at once.

use std::collections::{HashSet, VecDeque};

use sendpi_model::{Partition, RoomId};

use super::Executor;

/// The most rooms that are recovered at one time, so that those of which something is asked need not wait behind
/// thousands.
const AT_ONCE: usize = 32;

/// The rooms that are to be recovered.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    waiting: VecDeque<(Partition, RoomId)>,
    under_way: HashSet<(Partition, RoomId)>,
}

impl Recovery {
    /// Adds rooms of a partition.
    pub(super) fn add(&mut self, partition: Partition, rooms: impl IntoIterator<Item = RoomId>) {
        self.waiting.extend(rooms.into_iter().map(|room| (partition, room)));
    }

    /// Returns whether a room waits for its turn.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }
}

impl Executor {
    /// Begins to recover further rooms, as far as others are done.
    pub(super) fn recover_rooms(&mut self) {
        if self.recovery.is_empty() {
            return;
        }
        let partitions = &self.partitions;
        let is_open = |(partition, room): &(Partition, RoomId)| {
            partitions.get(partition).is_some_and(|owned| owned.recovering.contains(room))
        };
        self.recovery.under_way.retain(is_open);
        while self.recovery.under_way.len() < AT_ONCE {
            let Some(next) = self.recovery.waiting.pop_front() else { return };
            if self.partitions.get(&next.0).is_some_and(|owned| owned.recovering.contains(&next.1)) {
                self.make_ready(&next.1);
                self.recovery.under_way.insert(next);
            }
        }
    }
}
