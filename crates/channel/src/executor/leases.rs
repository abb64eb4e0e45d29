//! Leases: partitions that are claimed, kept over a reconnect, and lost.

use sendpi_bus::SendError;
use sendpi_bus::lease::ClaimOutcome;
use sendpi_model::timing::NODE_KEY_MAX_AGE;
use sendpi_model::{NodeId, Partition, RoomId};
use tokio::time::{Duration, Instant};

use super::Executor;
use super::live_entry::LiveEntry;
use super::results::JobResult;
use crate::claim::{ClaimError, ClaimedPartition, claim};
use crate::owned_partition::OwnedPartition;

/// How often leases that could not be written are tried again.
const RESUME_EVERY: Duration = Duration::from_millis(500);
/// How long a partition that was lost is left alone before it is claimed again.
const RECLAIM_AFTER: Duration = Duration::from_secs(1);

impl Executor {
    /// Takes a claimed partition into service. What an earlier owner may have left is dispatched again at once.
    pub(crate) async fn take_over(&mut self, claimed: ClaimedPartition) -> Result<(), SendError> {
        let (owned, rooms) = OwnedPartition::new(claimed);
        let partition = owned.tenure.partition;
        self.partitions.insert(partition, owned);
        for room in rooms {
            self.rooms.entry(room.clone()).or_insert_with(|| LiveEntry::new(partition));
            self.make_ready(&room);
        }
        self.subscribe_requests(partition).await
    }

    /// Stops serving if this node's key has not been refreshed for too long. Serves again once the leases are
    /// renewed.
    pub(super) async fn check_leases(&mut self) {
        let all_suspended = !self.partitions.is_empty() && self.partitions.values().all(|owned| owned.suspended);
        if self.key.watch().borrow().refreshed.elapsed() > NODE_KEY_MAX_AGE && !all_suspended {
            tracing::warn!("this node's key has not been refreshed for {NODE_KEY_MAX_AGE:?}: it stops serving");
            self.suspend().await;
        } else if self.partitions.values().any(|owned| owned.suspended)
            && self.context.bus.connection().borrow().up
            && self.last_resume.elapsed() >= RESUME_EVERY
        {
            self.renew_leases().await;
        }
    }

    /// Stops serving after a reconnect until the leases are renewed. The client has subscribed again by itself, so a
    /// worker that was away must first find out that no other worker held its leases in the meantime.
    pub(super) async fn connection_changed(&mut self) {
        let connection = *self.context.bus.connection().borrow();
        if !connection.up || connection.connects == self.connects {
            return;
        }
        self.connects = connection.connects;
        self.links.reset_silence();
        self.suspend().await;
        self.renew_leases().await;
    }

    /// Writes the leases anew after their bucket was lost and made anew.
    pub(super) async fn streams_lost(&mut self) {
        let losses = self.losses.borrow_and_update().partitions;
        if std::mem::replace(&mut self.lost_leases, losses) != losses {
            self.suspend().await;
            self.renew_leases().await;
        }
    }

    async fn suspend(&mut self) {
        self.partitions.values_mut().for_each(|owned| owned.suspended = true);
        self.unsubscribe_requests().await;
    }

    /// Writes each lease again from its own revision. If the write succeeds, no other worker held the lease in the
    /// meantime.
    async fn renew_leases(&mut self) {
        self.last_resume = Instant::now();
        if self.key.refresh().await.is_none() {
            return;
        }
        let suspended: Vec<_> = self
            .partitions
            .iter()
            .filter(|(_, owned)| owned.suspended)
            .map(|(partition, owned)| (*partition, owned.lease.clone(), owned.revision))
            .collect();
        let leases = self.leases.clone();
        let renewals = suspended.iter().map(|(p, lease, revision)| leases.renew(*p, lease, *revision));
        let renewed = futures_util::future::join_all(renewals).await;
        for ((partition, ..), outcome) in suspended.into_iter().zip(renewed) {
            match outcome {
                Ok(ClaimOutcome::Won(revision)) => self.serve_again(partition, revision).await,
                Ok(ClaimOutcome::Lost) => self.lose_partition(partition, Vec::new()).await,
                Err(error) => tracing::warn!(%error, %partition, "the lease could not be written; it is tried again"),
            }
        }
    }

    async fn serve_again(&mut self, partition: Partition, revision: u64) {
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.revision = revision;
            owned.suspended = false;
        }
        if let Err(error) = self.subscribe_requests(partition).await {
            tracing::error!(%error, %partition, "cannot subscribe");
        }
    }

    /// Forgets a partition that another worker owns now, with its rooms. The flows of `nodes`, and of everybody with
    /// a queued request, are refused.
    pub(super) async fn lose_partition(&mut self, partition: Partition, mut nodes: Vec<NodeId>) {
        if let Some(owned) = self.partitions.remove(&partition) {
            tracing::warn!(%partition, epoch = owned.tenure.epoch, "the partition was lost to another worker");
            self.claim_again(partition);
        }
        let gone: Vec<RoomId> =
            self.rooms.iter().filter(|(_, entry)| entry.partition == partition).map(|(id, _)| id.clone()).collect();
        for id in gone {
            let waiting = self.rooms.remove(&id).map(|entry| entry.queue).unwrap_or_default();
            nodes.extend(waiting.into_iter().filter_map(|waiting| waiting.to).map(|to| to.node));
        }
        nodes.sort();
        nodes.dedup();
        for node in nodes {
            self.refuse_flow(&node, partition).await;
        }
    }

    /// Claims a lost partition again after a pause, so that no partition is left without a worker for good.
    fn claim_again(&mut self, partition: Partition) {
        let (context, leases, config) = (self.context.clone(), self.leases.clone(), self.config);
        self.start_job(async move {
            tokio::time::sleep(RECLAIM_AFTER).await;
            let result = claim(&context, &leases, partition, &config).await.map(Box::new);
            JobResult::Claimed { partition, result }
        });
    }

    pub(super) async fn claimed(&mut self, partition: Partition, result: Result<Box<ClaimedPartition>, ClaimError>) {
        if let Err(error) = self.take_over_if_claimed(result.map(|claimed| *claimed)).await {
            tracing::debug!(error = &*error, %partition, "the partition is not claimed yet");
            self.claim_again(partition);
        }
    }

    async fn take_over_if_claimed(
        &mut self,
        result: Result<ClaimedPartition, ClaimError>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.take_over(result?).await?)
    }

    /// Claims what this worker does not hold yet. Returns how many partitions are still missing.
    pub(crate) async fn claim_missing(&mut self, partitions: impl Iterator<Item = Partition>) -> usize {
        let missing: Vec<Partition> = partitions.filter(|p| !self.partitions.contains_key(p)).collect();
        let claims = missing.iter().map(|partition| claim(&self.context, &self.leases, *partition, &self.config));
        let claimed = futures_util::future::join_all(claims).await;
        let mut left = 0;
        for (partition, result) in missing.into_iter().zip(claimed) {
            if let Err(error) = self.take_over_if_claimed(result).await {
                tracing::warn!(error = &*error, %partition, "the partition is not claimed yet");
                left += 1;
            }
        }
        left
    }
}
