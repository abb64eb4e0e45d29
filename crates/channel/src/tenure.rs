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

    /// Returns whether this fence lets the tenure pass, which only one of a later epoch does not. Another claim of the
    /// same epoch was given up, because it saw that this one came first ([`Self::is_beaten_by`]).
    pub(crate) fn passes(self, fence: &Fence) -> bool {
        fence.epoch <= self.epoch
    }

    /// Returns whether this fence, read after the tenure's own was written, means that the claim is lost. Of two claims
    /// of one epoch the one that is written last sees the other, and both do if they are written at once.
    pub(crate) fn is_beaten_by(self, fence: &Fence) -> bool {
        fence.epoch > self.epoch || (fence.epoch == self.epoch && fence.claim != self.claim_id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_epoch_ends_a_tenure_and_another_claim_of_its_own_epoch_a_claim() {
        let tenure = Tenure { partition: Partition(1), epoch: 5, claim: 0xab };
        let of_another = Tenure { claim: 0xac, ..tenure };
        let later = Tenure { epoch: 6, ..tenure };
        let earlier = Tenure { epoch: 4, ..of_another };
        assert!([tenure, of_another, earlier].iter().all(|other| tenure.passes(&other.fence())));
        assert!(!tenure.passes(&later.fence()));
        assert!([of_another, later].iter().all(|other| tenure.is_beaten_by(&other.fence())));
        assert!(![tenure, earlier].iter().any(|other| tenure.is_beaten_by(&other.fence())));
    }
}
