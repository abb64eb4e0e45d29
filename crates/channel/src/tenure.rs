//! A tenure: one holding of a partition's lease.

use sendpi_model::Partition;

/// Under which epoch this worker owns a partition. Whatever is done under an earlier tenure is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tenure {
    /// The partition.
    pub(crate) partition: Partition,
    /// The epoch of its lease.
    pub(crate) epoch: u64,
}
