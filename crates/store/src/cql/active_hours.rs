//! The hours of `active_rooms` whose row in `active_hours` this node has written.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sendpi_model::Partition;

/// The minutes of an hour.
const MINUTES: u64 = 60;

/// Returns the hour of a minute.
pub(super) fn hour(minute: u64) -> u64 {
    minute / MINUTES
}

/// The newest hour of each partition that is known to be written. Time never falls within a partition.
#[derive(Debug, Default)]
pub(super) struct ActiveHours(Mutex<HashMap<Partition, u64>>);

impl ActiveHours {
    pub(super) fn is_written(&self, partition: Partition, hour: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&partition) == Some(&hour)
    }

    pub(super) fn written(&self, partition: Partition, hour: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, hour);
    }
}
