//! Committing batches: rows, then the fence, then the rows that follow the fence.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use sendpi_bus::presence::Online;
use sendpi_model::RoomId;
use sendpi_model::faults::{FailPoint, FreezePoint, Mutant, fail_point, freeze_point, mutant};
use sendpi_store::Row;

use super::{JobContext, JobError};
use crate::room::Batch;
use crate::tenure::Tenure;

/// The most rows whose times are read at one time.
const AT_ONCE: usize = 16;
/// More epochs than wrote an event at one seq.
const EPOCHS: usize = 1_000;

/// One room's batch on its way to the store.
#[derive(Debug)]
pub(crate) struct BatchCommit {
    pub(crate) room: RoomId,
    pub(crate) tenure: Tenure,
    pub(crate) batch: Batch,
    /// Where the new members are online whose presence was read already.
    pub(crate) online: Online,
}

/// The outcome of batches that were committed together.
#[derive(Debug)]
pub(crate) struct CommitOutcome {
    pub(crate) rooms: Vec<CommittedBatch>,
    /// Where the new members are online.
    pub(crate) online: Online,
    pub(crate) result: Result<(), JobError>,
}

/// One room's part of a [`CommitOutcome`].
#[derive(Debug)]
pub(crate) struct CommittedBatch {
    pub(crate) room: RoomId,
    pub(crate) batch: Batch,
}

fn freeze_before(room: &RoomId, batch: &Batch) {
    if !batch.events.is_empty() {
        freeze_point(FreezePoint::BeforeBatch, room);
    }
}

impl JobContext {
    /// Commits batches of one partition that only write events, all of them in one store job, with one fence read.
    pub(crate) async fn commit_plain(self, tenure: Tenure, commits: Vec<BatchCommit>) -> CommitOutcome {
        let mut rows = Vec::new();
        let mut rooms = Vec::with_capacity(commits.len());
        for BatchCommit { room, mut batch, .. } in commits {
            freeze_before(&room, &batch);
            rows.append(&mut batch.events);
            rooms.push(CommittedBatch { room, batch });
        }
        let result = self.write_and_pass(tenure, rows).await;
        CommitOutcome { rooms, online: Online::new(), result }
    }

    async fn write_and_pass(&self, tenure: Tenure, rows: Vec<Row>) -> Result<(), JobError> {
        if mutant(Mutant::AnswerBeforeStore) {
            let store = Arc::clone(&self.store);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(200)).await;
                store.write(rows).await
            });
            return Ok(());
        }
        self.write(tenure, rows).await?;
        fail_point(FailPoint::AfterStore);
        self.pass_fence(tenure).await?;
        fail_point(FailPoint::AfterFence);
        Ok(())
    }

    /// Commits one room's batch that does more than write events.
    pub(crate) async fn commit(self, commit: BatchCommit) -> CommitOutcome {
        let BatchCommit { room, tenure, mut batch, mut online } = commit;
        let result = async {
            let newcomers = std::mem::take(&mut batch.newcomers);
            online.extend(self.activate(tenure, std::mem::take(&mut batch.before), newcomers).await?);
            freeze_before(&room, &batch);
            self.write_and_pass(tenure, std::mem::take(&mut batch.events)).await?;
            let after = self.keep_times(std::mem::take(&mut batch.after)).await?;
            self.write(tenure, after).await?;
            if batch.fences_rows {
                self.pass_fence(tenure).await?;
            }
            Ok(())
        }
        .await;
        CommitOutcome { rooms: vec![CommittedBatch { room, batch }], online, result }
    }

    /// Gives revised events the time at which their rows go. A revision of one that is gone is not written, because it
    /// would bring the event back.
    pub(super) async fn keep_times(&self, rows: Vec<Row>) -> Result<Vec<Row>, JobError> {
        let kept = stream::iter(rows).map(|row| async move {
            let Row::Revised(room, mut revised, by) = row else { return Ok::<_, JobError>(Some(row)) };
            let seq = revised.event.head.seq;
            let stored = self.store.timeline(&room, seq..=seq, EPOCHS, false).await?;
            let stored = stored.into_iter().find(|stored| stored.epoch == revised.epoch);
            Ok(stored.map(|stored| {
                revised.expires = stored.expires;
                Row::Revised(room, revised, by)
            }))
        });
        kept.buffered(AT_ONCE).try_filter_map(|row| async move { Ok(row) }).try_collect().await
    }
}
