//! A tenure: the ownership of a partition under one epoch.

use sendpi_model::Partition;
use sendpi_store::Fence;

/// The epoch under which this worker owns a partition, and the claim that it was won by. Everything that is done under
/// an earlier tenure is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tenure {
    /// The partition.
    pub(crate) partition: Partition,
    /// The epoch of its lease.
    pub(crate) epoch: u64,
    /// The random id of the claim. Two claims may have one epoch, if the bucket of the leases went back in time.
    pub(crate) claim: u64,
}

impl Tenure {
    /// Returns the id of the claim, as the lease and the fence have it.
    pub(crate) fn claim_id(self) -> String {
        format!("{:016x}", self.claim)
    }

    /// Returns the fence that this tenure raises.
    pub(crate) fn fence(self) -> Fence {
        Fence { epoch: self.epoch, claim: self.claim_id() }
    }

    /// Returns whether this fence lets the tenure pass: it is the tenure's own, or one of an earlier epoch.
    pub(crate) fn passes(self, fence: &Fence) -> bool {
        let is_own = || u64::from_str_radix(&fence.claim, 16) == Ok(self.claim);
        fence.epoch < self.epoch || (fence.epoch == self.epoch && is_own())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_fence_and_earlier_ones_let_a_tenure_pass() {
        let tenure = Tenure { partition: Partition(1), epoch: 5, claim: 0xab };
        let of_another = Tenure { claim: 0xac, ..tenure };
        let later = Tenure { epoch: 6, ..tenure };
        let earlier = Tenure { epoch: 4, ..of_another };
        assert!(tenure.passes(&tenure.fence()) && tenure.passes(&earlier.fence()));
        assert!(!tenure.passes(&of_another.fence()), "another claim has the same epoch");
        assert!(!tenure.passes(&later.fence()));
    }
}
