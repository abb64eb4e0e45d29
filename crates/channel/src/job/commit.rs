//! Committing batches: rows, then the fence, then what follows the fence, then reads.

use std::sync::Arc;
use std::time::Duration;

use sendpi_bus::presence::Online;
use sendpi_model::RoomId;
use sendpi_model::faults::{FailPoint, Mutant, fail_point, mutant};
use sendpi_store::EpochChain;

use super::{Committed, JobContext, JobError, JobResult, Tenure};
use crate::room::Batch;

/// One room's batch on its way to the store.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) room: RoomId,
    pub(crate) tenure: Tenure,
    pub(crate) chain: EpochChain,
    pub(crate) batch: Batch,
}

impl JobContext {
    /// Commits batches that only write events: all of them in one store job, and one fence read for each partition.
    pub(crate) async fn commit_plain(self, commits: Vec<Commit>) -> JobResult {
        let mut rows = Vec::new();
        let mut tenures: Vec<Tenure> = Vec::new();
        let mut rooms = Vec::with_capacity(commits.len());
        for Commit { room, tenure, mut batch, .. } in commits {
            rows.append(&mut batch.events);
            if !tenures.contains(&tenure) {
                tenures.push(tenure);
            }
            rooms.push(Committed { room, batch, reads: Vec::new() });
        }
        let result = self.write_and_pass(&tenures, rows).await;
        JobResult::Committed { rooms, online: Online::new(), result }
    }

    async fn write_and_pass(&self, tenures: &[Tenure], rows: Vec<sendpi_store::Row>) -> Result<(), JobError> {
        if mutant(Mutant::AnswerBeforeStore) {
            let store = Arc::clone(&self.store);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(200)).await;
                store.write(rows).await
            });
            return Ok(());
        }
        self.write(tenures, rows).await?;
        fail_point(FailPoint::AfterStore);
        for tenure in tenures {
            self.pass_fence(*tenure).await?;
        }
        fail_point(FailPoint::AfterFence);
        Ok(())
    }

    /// Commits one room's batch that has more to it.
    pub(crate) async fn commit(self, commit: Commit) -> JobResult {
        let Commit { room, tenure, chain, mut batch } = commit;
        let (mut online, mut reads) = (Online::new(), Vec::new());
        let result = async {
            let newcomers = std::mem::take(&mut batch.newcomers);
            online = self.activate(tenure, std::mem::take(&mut batch.before), newcomers).await?;
            self.write_and_pass(&[tenure], std::mem::take(&mut batch.events)).await?;
            self.write(&[tenure], std::mem::take(&mut batch.after)).await?;
            for read in &batch.reads {
                reads.push(self.read(tenure, &room, &chain, read).await?);
            }
            Ok(())
        }
        .await;
        JobResult::Committed { rooms: vec![Committed { room, batch, reads }], online, result }
    }
}
