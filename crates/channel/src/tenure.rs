//! A tenure: the ownership of a partition under one epoch.

use sendpi_model::Partition;

/// The epoch under which this worker owns a partition. Everything that is done under an earlier tenure is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tenure {
    /// The partition.
    pub(crate) partition: Partition,
    /// The epoch of its lease.
    pub(crate) epoch: u64,
}
