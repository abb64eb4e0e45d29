//! The leases of partitions, which are claimed by compare-and-set in the partitions bucket.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use sendpi_model::{NodeId, Partition};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bucket::{WatchedKey, watch};
use crate::{Bucket, Bus, KeyEntry, PutError, RequestError, Revision, subject};

/// How many leases are read at one time.
const READS_AT_ONCE: usize = 16;
/// How often a release is tried again, and after which pause.
const RELEASE_TRIES: u32 = 3;
const RELEASE_PAUSE: Duration = Duration::from_millis(200);

/// A lease: which worker owns a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The owner.
    pub owner: NodeId,
    /// The random id of this claim. It shows whether a claim of unknown outcome was done.
    pub claim: String,
    /// Rises with each claim.
    pub epoch: u64,
    /// Whether the owner has handed the partition over. Then nobody owns it until the next claim.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
}

/// A lease as a watch brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseChange {
    /// The partition.
    pub partition: Partition,
    /// Its lease. `None` if it was deleted or cannot be read.
    pub lease: Option<Lease>,
    /// The revision of that.
    pub revision: Revision,
}

/// What the watch on leases brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionChange {
    /// A lease changed.
    Lease(LeaseChange),
    /// An operator moved a partition to a worker, or back to where it belongs.
    Pin(Partition, Option<NodeId>),
}

/// The outcome of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The partition is ours. Holds the revision of the lease.
    Won(Revision),
    /// Another worker was faster.
    Lost,
}

/// The leases of all partitions.
#[derive(Debug, Clone)]
pub struct Leases(Bucket);

impl Leases {
    /// Returns the leases of the cluster that `bus` is connected to.
    #[must_use]
    pub fn new(bus: &Bus) -> Self {
        Self(Bucket::new(bus, subject::PARTITIONS_BUCKET))
    }

    /// Watches all leases until `stop` is cancelled, beginning with those that there are. What it brings may lag behind
    /// the bucket. At most 1,024 changes wait.
    #[must_use]
    pub fn watch(&self, stop: CancellationToken) -> mpsc::Receiver<PartitionChange> {
        let read = |change| {
            let WatchedKey::Changed(key, KeyEntry { revision, value }) = change else { return None };
            if let Some(partition) = key.strip_prefix(subject::PIN_KEYS) {
                let node = value.and_then(|value| NodeId::parse(std::str::from_utf8(&value).ok()?).ok());
                return Some(PartitionChange::Pin(Partition(partition.parse().ok()?), node));
            }
            let lease = value.and_then(|value| serde_json::from_slice(&value).ok());
            Some(PartitionChange::Lease(LeaseChange { partition: Partition(key.parse().ok()?), lease, revision }))
        };
        watch(self.0.clone(), "*", |losses| losses.partitions, read, stop)
    }

    /// Moves a partition to a worker for as long as that one lives. `None` lets it go back to where it belongs.
    ///
    /// # Errors
    /// [`PutError`] if it is not known whether that was noted.
    pub async fn pin(&self, partition: Partition, to: Option<&NodeId>) -> Result<(), PutError> {
        let node = to.map_or_else(String::new, NodeId::to_string);
        self.0.put(&subject::pin_key(partition), node.into(), None, None).await.map(drop)
    }

    /// Returns all leases that can be read, as they are about now.
    ///
    /// # Errors
    /// [`RequestError`] if the bucket does not answer.
    pub async fn all(&self) -> Result<BTreeMap<Partition, Lease>, RequestError> {
        let keys = self.0.keys("*").await?;
        let partitions = keys.into_iter().filter_map(|key| key.parse().ok().map(Partition));
        let reads = partitions.map(|partition| async move { Ok((partition, self.read(partition).await?.0)) });
        let reads = futures_util::stream::iter(reads).buffer_unordered(READS_AT_ONCE);
        reads
            .try_filter_map(|(partition, lease)| async move { Ok(lease.map(|lease| (partition, lease))) })
            .try_collect()
            .await
    }

    /// Returns the present lease of a partition, as the leader has it, with its revision. The revision is 0 if there
    /// never was a lease. What is no lease counts as none: the store's fence tells the next epoch, too.
    ///
    /// # Errors
    /// [`RequestError`] if the leader did not answer.
    pub async fn read(&self, partition: Partition) -> Result<(Option<Lease>, Revision), RequestError> {
        let Some(entry) = self.0.read(&partition.to_string()).await? else { return Ok((None, 0)) };
        let lease = entry.value.and_then(|value| match serde_json::from_slice(&value) {
            Ok(lease) => Some(lease),
            Err(error) => {
                tracing::warn!(%error, %partition, "what the bucket has for a partition is no lease");
                None
            }
        });
        Ok((lease, entry.revision))
    }

    /// Writes a lease of ours again, from the revision of its last write. If that succeeds, nobody was between. A lease
    /// that is lost with its bucket is written anew: who claimed it meanwhile has raised the store's fence.
    ///
    /// # Errors
    /// Those of [`Leases::claim`].
    pub async fn renew(
        &self,
        partition: Partition,
        lease: &Lease,
        revision: Revision,
    ) -> Result<ClaimOutcome, RequestError> {
        let won = self.claim(partition, lease, revision).await?;
        if won == ClaimOutcome::Lost
            && let (None, revision) = self.read(partition).await?
        {
            return self.claim(partition, lease, revision).await;
        }
        Ok(won)
    }

    /// Releases a lease of ours, from the revision of its last write. If another write of the same lease was between,
    /// it is released from that one.
    ///
    /// # Errors
    /// [`RequestError`] if it is not known whether it was released, after several tries.
    pub async fn release(
        &self,
        partition: Partition,
        lease: &Lease,
        mut revision: Revision,
    ) -> Result<ClaimOutcome, RequestError> {
        let released = Lease { released: true, ..lease.clone() };
        let mut tries = 0;
        loop {
            let outcome = match self.claim(partition, &released, revision).await {
                Ok(ClaimOutcome::Won(revision)) => return Ok(ClaimOutcome::Won(revision)),
                Ok(ClaimOutcome::Lost) => self.read(partition).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok((Some(present), found)) if present == *lease => revision = found,
                Ok(_) => return Ok(ClaimOutcome::Lost),
                Err(error) if tries >= RELEASE_TRIES => return Err(error),
                Err(_) => tokio::time::sleep(RELEASE_PAUSE).await,
            }
            tries += 1;
            if tries > 2 * RELEASE_TRIES {
                return Ok(ClaimOutcome::Lost);
            }
        }
    }

    /// Writes `lease` if the present one still has `revision`. An unknown outcome is resolved by reading from the
    /// leader.
    ///
    /// # Errors
    /// [`RequestError`] if the server refused the write for another reason, or if even that read got no answer. In
    /// the second case the claim may have been done, so claim again with the same claim id.
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
                (Some(present), revision) if present == *lease => Ok(ClaimOutcome::Won(revision)),
                _ => Ok(ClaimOutcome::Lost),
            },
        }
    }
}
