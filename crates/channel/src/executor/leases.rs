//! Leases: partitions that are claimed, kept over a reconnect, and lost.

use sendpi_bus::lease::{ClaimOutcome, Lease};
use sendpi_bus::{RequestError, Revision, SendError};
use sendpi_model::timing::NODE_KEY_MAX_AGE;
use sendpi_model::{NodeId, Partition, RoomId};
use tokio::time::{Duration, Instant};

use super::Executor;
use super::job_result::JobResult;
use super::live_entry::LiveEntry;
use super::results::answered_by;
use crate::claim::{ClaimError, ClaimedPartition, claim};
use crate::owned_partition::OwnedPartition;
use crate::tenure::Tenure;

/// How often leases that could not be written are tried again.
const RESUME_EVERY: Duration = Duration::from_millis(500);
/// How long a partition that was lost is left alone before it is claimed again.
const RECLAIM_AFTER: Duration = Duration::from_secs(1);

/// The outcome of writing the lease of a suspended partition again.
#[derive(Debug)]
pub(super) struct Renewal {
    tenure: Tenure,
    /// How often the partitions had been suspended when it began.
    suspensions: u64,
    outcome: Result<ClaimOutcome, RequestError>,
}

impl Executor {
    /// Takes a claimed partition into service. What an earlier owner may have left is dispatched again at once.
    pub(crate) async fn take_over(&mut self, claimed: ClaimedPartition) -> Result<(), SendError> {
        let (owned, rooms) = OwnedPartition::new(claimed);
        let partition = owned.tenure.partition;
        self.partitions.insert(partition, owned);
        for room in rooms {
            self.rooms.entry(room).or_insert_with(|| LiveEntry::new(partition));
        }
        let all: Vec<RoomId> =
            self.rooms.iter().filter(|(_, entry)| entry.partition == partition).map(|(id, _)| id.clone()).collect();
        all.iter().for_each(|room| self.make_ready(room));
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
            self.renew_leases();
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
        self.renew_leases();
    }

    /// Writes the leases anew after their bucket was lost and made anew.
    pub(super) async fn streams_lost(&mut self) {
        let losses = self.losses.borrow_and_update().partitions;
        if std::mem::replace(&mut self.lost_leases, losses) != losses {
            self.suspend().await;
            self.renew_leases();
        }
    }

    async fn suspend(&mut self) {
        self.suspensions += 1;
        self.partitions.values_mut().for_each(|owned| owned.suspended = true);
        self.unsubscribe_requests().await;
    }

    /// Writes each lease again from its own revision. If the write succeeds, no other worker held the lease in the
    /// meantime.
    fn renew_leases(&mut self) {
        if std::mem::replace(&mut self.is_renewing, true) {
            return;
        }
        self.last_resume = Instant::now();
        let owned = self.partitions.values().filter(|owned| owned.suspended);
        let suspended: Vec<(Tenure, Lease, Revision)> =
            owned.map(|owned| (owned.tenure, owned.lease.clone(), owned.revision)).collect();
        let (key, leases, suspensions) = (self.key.clone(), self.leases.clone(), self.suspensions);
        self.start_lease_job(async move {
            if key.refresh().await.is_none() {
                return JobResult::Renewed { outcomes: Vec::new() };
            }
            let renewals = suspended.iter().map(|(t, lease, revision)| leases.renew(t.partition, lease, *revision));
            let renewed = futures_util::future::join_all(renewals).await;
            let outcomes = suspended.into_iter().zip(renewed);
            let outcomes = outcomes.map(|((tenure, ..), outcome)| Renewal { tenure, suspensions, outcome });
            JobResult::Renewed { outcomes: outcomes.collect() }
        });
    }

    /// Serves the partitions again whose leases were written.
    pub(super) async fn renewed(&mut self, outcomes: Vec<Renewal>) {
        self.is_renewing = false;
        for Renewal { tenure, suspensions, outcome } in outcomes {
            let partition = tenure.partition;
            let Some(owned) = self.partitions.get_mut(&partition).filter(|owned| owned.tenure == tenure) else {
                continue;
            };
            match outcome {
                Ok(ClaimOutcome::Won(revision)) => {
                    owned.revision = revision;
                    // A write from before the latest suspension says nothing about what came after it.
                    if suspensions == self.suspensions {
                        self.serve_again(partition).await;
                    }
                }
                Ok(ClaimOutcome::Lost) => self.lose_partition(partition, Vec::new()).await,
                Err(error) => tracing::warn!(%error, %partition, "the lease could not be written; it is tried again"),
            }
        }
    }

    async fn serve_again(&mut self, partition: Partition) {
        if let Some(owned) = self.partitions.get_mut(&partition) {
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
            self.pending.forget(partition);
            self.pushes.forget(partition);
            self.recovered.retain(|recovered| recovered.partition != partition);
            self.postponed.retain(|postponed| postponed.partition != partition);
            self.claim_again(partition);
        }
        let gone: Vec<RoomId> =
            self.rooms.iter().filter(|(_, entry)| entry.partition == partition).map(|(id, _)| id.clone()).collect();
        for id in gone {
            let Some(mut entry) = self.rooms.remove(&id) else { continue };
            entry.close();
            if let Some((stored, _)) = entry.stored {
                nodes.extend(stored.batch.steps.iter().filter_map(answered_by).map(|to| to.node.clone()));
                nodes.extend(stored.batch.asked.into_iter().map(|read| read.to.node));
            }
            let waiting = entry.queue;
            nodes.extend(waiting.into_iter().filter_map(|waiting| waiting.to).map(|to| to.node));
        }
        nodes.extend(self.reads.forget(partition));
        nodes.sort();
        nodes.dedup();
        for node in nodes {
            self.refuse_flow(&node, partition).await;
        }
    }

    /// Claims a lost partition again after a pause, so that no partition is left without a worker for good.
    pub(super) fn claim_again(&mut self, partition: Partition) {
        let (context, leases, config) = (self.context.clone(), self.leases.clone(), self.config);
        self.start_lease_job(async move {
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
