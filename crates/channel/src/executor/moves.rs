//! Planned moves: a partition that another worker should own is handed over, without an error that anybody sees.
//!
//! Its subscription ends, and what was received is finished. Then what is settled and pushed is written down, and the
//! lease is released, which the next owner sees at once. Flows send again what nobody received, as soon as the next
//! owner says that it serves. Events that nodes have not settled are dispatched again by the next owner, as one event
//! for each room, which costs a node nothing if it has them all.

use sendpi_bus::RequestError;
use sendpi_bus::lease::ClaimOutcome;
use sendpi_model::Partition;
use sendpi_store::Row;
use tokio::time::{Duration, Instant, timeout};

use super::Executor;
use super::job_result::JobResult;
use super::live_entry::LiveEntry;
use crate::job::JobContext;
use crate::tenure::Tenure;

/// The most partitions that are handed over at one time.
const AT_ONCE: usize = 4;
/// How long what was received may take before a partition is handed over all the same. The fence keeps that safe.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long a worker that stops, and that nobody takes over from, waits until nodes have settled what they were sent.
/// What is not settled by then is dispatched again by the next owner.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the last rows may take.
const ROWS_TIMEOUT: Duration = Duration::from_secs(1);

/// How far the move of a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    /// What was received is being finished, since then.
    Finishing(Instant),
    /// The lease is being released.
    Releasing,
}

impl Executor {
    /// Begins to hand over the partitions that others should own.
    pub(super) fn begin_moves(&mut self) {
        let under_way = self.partitions.values().filter(|owned| owned.moving.is_some()).count();
        let is_last = self.stopping.is_some() && self.fleet.rightful(Partition(0)).is_none();
        let most = if is_last { usize::MAX } else { AT_ONCE };
        let due = self.partitions.iter().filter(|(partition, owned)| {
            let leaves = self.stopping.is_some() || self.fleet.is_anothers(**partition);
            owned.moving.is_none() && !owned.suspended && leaves
        });
        let due: Vec<Partition> = due.map(|(partition, _)| *partition).take(most.saturating_sub(under_way)).collect();
        for partition in due {
            if let Some(owned) = self.partitions.get_mut(&partition) {
                owned.moving = Some(Move::Finishing(Instant::now()));
                owned.ingest = None;
            }
            self.inboxes.close(partition);
            self.pushes.hurry(Some(partition), Instant::now());
        }
    }

    /// Releases the partitions of which everything that was received is finished.
    pub(super) fn continue_moves(&mut self) {
        let moving = self.partitions.iter().filter_map(|(partition, owned)| match owned.moving {
            // While it is suspended, nothing of it can be finished.
            Some(Move::Finishing(since)) if !owned.suspended => Some((*partition, since)),
            _ => None,
        });
        for (partition, since) in moving.collect::<Vec<_>>() {
            let is_late = since.elapsed() >= TIMEOUT;
            if self.pushes.has(partition) {
                // What was decided since may have added some.
                self.pushes.hurry(Some(partition), Instant::now());
            }
            if is_late || self.is_finished(partition, since) {
                if is_late {
                    tracing::warn!(%partition, "the partition is handed over with work left");
                }
                self.release(partition);
            }
        }
    }

    /// Returns whether nothing of a partition is under way or waits.
    fn is_finished(&self, partition: Partition, since: Instant) -> bool {
        let Some(owned) = self.partitions.get(&partition) else { return true };
        let waits = |entry: &LiveEntry| entry.requests() > 0 || entry.stored.is_some();
        owned.jobs == 0
            && !self.pushes.has(partition)
            && !self.reads.waits(partition)
            && (self.fleet.rightful(partition).is_some()
                || self.links.is_settled()
                || since.elapsed() >= SETTLE_TIMEOUT)
            && !self.rooms.values().any(|entry| entry.partition == partition && waits(entry))
    }

    fn release(&mut self, partition: Partition) {
        let rows = self.last_rows(partition);
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        owned.moving = Some(Move::Releasing);
        let (tenure, revision) = (owned.tenure, owned.revision);
        let (context, leases, lease) = (self.context.clone(), self.leases.clone(), owned.lease.clone());
        let has_heir = self.fleet.rightful(partition).is_some();
        self.start_job(tenure, async move {
            let last = context.write_last(tenure, rows);
            let release = leases.release(partition, &lease, revision);
            // Whoever takes over at once reads them after it has claimed. If they come late, more is dispatched again.
            let outcome = if has_heir {
                tokio::join!(last, release).1
            } else {
                last.await;
                release.await
            };
            JobResult::Released { partition, outcome }
        });
    }

    /// Returns what the next owner should find: what is settled, what was pushed, and the heads of rooms if there is no
    /// next owner yet. Who takes over at once has to open the active rooms in any case.
    fn last_rows(&mut self, partition: Partition) -> Vec<Row> {
        if !self.store_serves() {
            // The rooms in memory may count events that were never stored.
            return Vec::new();
        }
        // A room that could not be opened may have something left of an earlier epoch, of which a record of this one
        // would say that it is settled.
        let has_late = self.partitions.get(&partition).is_some_and(|owned| !owned.late_rooms().is_empty());
        let mut rows = if has_late { Vec::new() } else { self.settled_rows(Some(partition)) };
        rows.extend(self.pushed_rows(Some(partition)));
        if self.fleet.rightful(partition).is_none() {
            // The head of a room with a batch under way counts events that may never be stored.
            let idle = self.rooms.values().filter(|entry| entry.partition == partition && !entry.is_busy());
            rows.extend(idle.filter_map(|entry| entry.room.as_ref()).flat_map(|room| room.head_rows()));
        }
        rows
    }

    /// Forgets a partition that was handed over.
    pub(super) async fn released(&mut self, partition: Partition, outcome: Result<ClaimOutcome, RequestError>) {
        match outcome {
            Ok(ClaimOutcome::Won(_)) => tracing::info!(%partition, "the partition was handed over"),
            Ok(ClaimOutcome::Lost) => tracing::warn!(%partition, "the partition was lost while it was handed over"),
            // If it stays this worker's, it is released again later.
            Err(error) => tracing::warn!(%error, %partition, "it is not known whether the partition was handed over"),
        }
        self.metrics.moves.inc();
        self.forget_partition(partition, Vec::new()).await;
    }
}

impl JobContext {
    /// Writes the last rows of a partition, behind the fence, as far as that is possible soon.
    async fn write_last(&self, tenure: Tenure, rows: Vec<Row>) {
        if rows.is_empty() {
            return;
        }
        let partition = tenure.partition;
        let written = async {
            self.pass_fence(tenure).await?;
            self.write(tenure, rows).await
        };
        match timeout(ROWS_TIMEOUT, written).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, %partition, "cannot write the last rows; the next owner reads more");
            }
            Err(_) => tracing::warn!(%partition, "the last rows take too long; the next owner reads more"),
        }
    }
}
