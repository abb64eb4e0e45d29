//! Leases of partitions: claimed by compare-and-set in the partitions bucket.

use sendpi_model::{NodeId, Partition};
use serde::{Deserialize, Serialize};

use crate::{Bucket, Bus, PutError, RequestError, Revision, subject};

/// Who holds a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The worker.
    pub owner: NodeId,
    /// The random id of this claim: it tells whether a claim of unknown outcome went in.
    pub claim: String,
    /// Rises with each change of hands.
    pub epoch: u64,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The partition is ours, with the revision of the lease.
    Won(Revision),
    /// Somebody else was faster.
    Lost,
}

/// The leases of all partitions.
#[derive(Debug, Clone)]
pub struct Leases(Bucket);

impl Leases {
    /// The leases of the cluster that `bus` is connected to.
    #[must_use]
    pub fn new(bus: &Bus) -> Self {
        Self(Bucket::new(bus, subject::PARTITIONS_BUCKET))
    }

    /// The present lease of a partition, as the leader has it, with its revision (0 where there never was one).
    ///
    /// # Errors
    /// [`RequestError`] where the leader did not answer, or the value cannot be read.
    pub async fn read(&self, partition: Partition) -> Result<(Option<Lease>, Revision), RequestError> {
        let Some(entry) = self.0.read(&partition.to_string()).await? else { return Ok((None, 0)) };
        let lease = match entry.value {
            Some(value) => Some(
                serde_json::from_slice(&value)
                    .map_err(|e| RequestError::Unknown(format!("lease of {partition}: {e}")))?,
            ),
            None => None,
        };
        Ok((lease, entry.revision))
    }

    /// Writes `lease` if the present one still has `revision`. An unknown outcome is resolved by reading from the leader.
    ///
    /// # Errors
    /// [`RequestError`] where even that got no answer: the claim may have gone in; claim again with the same claim id.
    pub async fn claim(
        &self,
        partition: Partition,
        lease: &Lease,
        revision: Revision,
    ) -> Result<ClaimOutcome, RequestError> {
        let value = serde_json::to_vec(lease).map_err(|e| RequestError::Unknown(e.to_string()))?;
        match self.0.put(&partition.to_string(), value.into(), Some(revision), None).await {
            Ok(revision) => Ok(ClaimOutcome::Won(revision)),
            Err(PutError::Refused(why)) => Err(RequestError::Unknown(why)),
            Err(PutError::WrongRevision | PutError::Unknown(_)) => match self.read(partition).await? {
                (Some(present), revision) if present.claim == lease.claim => Ok(ClaimOutcome::Won(revision)),
                _ => Ok(ClaimOutcome::Lost),
            },
        }
    }
}
