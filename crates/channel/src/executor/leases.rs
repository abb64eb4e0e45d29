//! Leases: partitions that are taken over, kept over a reconnect, and lost.

use sendpi_bus::lease::{ClaimOutcome, Lease};
use sendpi_bus::{RequestError, Revision, SendError};
use sendpi_model::timing::{NODE_KEY_MAX_AGE, NODE_KEY_REFRESH};
use sendpi_model::{NodeId, Partition, RoomId};
use tokio::time::{Duration, Instant};

use super::Executor;
use super::job_result::JobResult;
use super::live_entry::LiveEntry;
use super::moves::Move;
use super::results::answered_by;
use crate::claim::ClaimedPartition;
use crate::ingest;
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
    pub(super) async fn take_over(&mut self, claimed: ClaimedPartition) -> Result<(), SendError> {
        let (mut owned, rooms) = OwnedPartition::new(claimed);
        let (partition, epoch) = (owned.tenure.partition, owned.tenure.epoch);
        tracing::info!(%partition, epoch, rooms = rooms.len(), "the partition is taken over");
        owned.ingest = Some(ingest::start(&self.context.bus, partition, &self.ask, &self.stop));
        self.partitions.insert(partition, owned);
        self.metrics.partitions.set(self.partitions.len() as i64);
        for room in &rooms {
            self.rooms.entry(room.clone()).or_insert_with(|| LiveEntry::new(partition));
        }
        self.recovery.add(partition, rooms);
        self.subscribe_requests(partition).await
    }

    /// Stops serving if this node's key has not been refreshed for too long. Serves again once the leases are
    /// renewed.
    pub(super) async fn check_leases(&mut self) {
        if self.key.watch().borrow().refreshed.elapsed() > 2 * NODE_KEY_REFRESH {
            // The keys of others may not be refreshed either.
            self.fleet.jetstream_away(Instant::now());
        }
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
        self.fleet.jetstream_away(Instant::now());
        self.links.reset_silence();
        self.suspend().await;
        self.renew_leases();
    }

    /// Writes the leases anew after their bucket was lost and made anew.
    pub(super) async fn streams_lost(&mut self) {
        let losses = *self.losses.borrow_and_update();
        if losses.presence != self.lost_presence {
            self.lost_presence = losses.presence;
            self.fleet.jetstream_away(Instant::now());
        }
        let losses = losses.partitions;
        if std::mem::replace(&mut self.lost_leases, losses) != losses {
            self.suspend().await;
            self.renew_leases();
        }
    }

    /// Writes the lease of a partition of ours again, which was deleted or overwritten with something else.
    pub(super) fn lease_vanished(&mut self, partition: Partition, revision: Revision) {
        let Some(owned) = self.partitions.get_mut(&partition).filter(|owned| owned.revision < revision) else { return };
        tracing::warn!(%partition, "the lease of a partition of this worker is gone; it is written again");
        self.suspensions += 1;
        owned.suspended = true;
        self.inboxes.close(partition);
        self.renew_leases();
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
        let is_renewed = |owned: &&OwnedPartition| owned.suspended && owned.moving != Some(Move::Releasing);
        let owned = self.partitions.values().filter(is_renewed);
        let suspended: Vec<(Tenure, Lease, Revision)> =
            owned.map(|owned| (owned.tenure, owned.lease.clone(), owned.revision)).collect();
        let (key, leases, suspensions) = (self.key.clone(), self.leases.clone(), self.suspensions);
        self.start_untenured_job(async move {
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
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        owned.suspended = false;
        if owned.moving.is_some() {
            return;
        }
        if let Err(error) = self.subscribe_requests(partition).await {
            tracing::error!(%error, %partition, "cannot subscribe");
        }
    }

    /// Forgets a partition that another worker owns now. The flows of `nodes`, and of everybody with a queued request,
    /// are refused.
    pub(super) async fn lose_partition(&mut self, partition: Partition, nodes: Vec<NodeId>) {
        if let Some(owned) = self.partitions.get(&partition) {
            tracing::warn!(%partition, epoch = owned.tenure.epoch, "the partition was lost to another worker");
            // It is claimed again if it should be this worker's, so that none is left without an owner for good.
            self.claims.pause(partition, RECLAIM_AFTER);
        }
        self.forget_partition(partition, nodes).await;
    }

    /// Forgets a partition that this worker does not own any more, with its rooms.
    pub(super) async fn forget_partition(&mut self, partition: Partition, mut nodes: Vec<NodeId>) {
        if self.partitions.remove(&partition).is_some() {
            self.metrics.partitions.set(self.partitions.len() as i64);
            self.inboxes.close(partition);
            self.pending.forget(partition);
            self.pushes.forget(partition);
            self.recovered.retain(|recovered| recovered.partition != partition);
            self.postponed.retain(|postponed| postponed.partition != partition);
        }
        let gone: Vec<RoomId> =
            self.rooms.iter().filter(|(_, entry)| entry.partition == partition).map(|(id, _)| id.clone()).collect();
        for id in gone {
            let Some(mut entry) = self.rooms.remove(&id) else { continue };
            if let Some(room) = entry.close() {
                self.links.end_audience(&room);
            }
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
}
