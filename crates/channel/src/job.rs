//! Jobs: what the executor asks of the store and of presence. Each one is a future whose result comes back to the
//! executor.

mod commit;
mod open;
mod read;

use std::sync::Arc;
use std::time::Duration;

use sendpi_bus::Bus;
use sendpi_bus::presence::{Barrier, Online};
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Partition, UserId};
use sendpi_store::{ReadError, Row, Store, WriteError};

use crate::tenure::Tenure;

pub(crate) use commit::{BatchCommit, CommitOutcome, CommittedBatch};
pub(crate) use open::OpenedRoom;

/// Why a job failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum JobError {
    /// A higher epoch took the partition, so this worker is not its owner any more.
    #[error("a higher epoch took partition {0}")]
    NotOwner(Partition),
    /// The store did not answer a read.
    #[error("a read failed")]
    Read(#[from] ReadError),
    /// The store refused a write. Nothing of it was done.
    #[error("a write failed")]
    Write(#[source] WriteError),
    /// Presence could not be read behind the barrier.
    #[error("presence could not be read")]
    Presence,
}

/// What jobs work with.
#[derive(Debug, Clone)]
pub(crate) struct JobContext {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) barrier: Barrier,
    pub(crate) bus: Bus,
}

impl JobContext {
    /// Passes the fence: a read that begins now must show no epoch above ours, and no other claim of our epoch.
    pub(crate) async fn pass_fence(&self, tenure: Tenure) -> Result<(), JobError> {
        if mutant(Mutant::FenceOff) {
            return Ok(());
        }
        match self.store.fence(tenure.partition).await? {
            Some(fence) if !tenure.passes(&fence) => Err(JobError::NotOwner(tenure.partition)),
            _ => Ok(()),
        }
    }

    /// Writes rows until it is known that they were written, that they were not, or that a higher epoch took the
    /// partition.
    pub(crate) async fn write(&self, tenures: &[Tenure], rows: Vec<Row>) -> Result<(), JobError> {
        let mut pause = Duration::from_millis(20);
        while !rows.is_empty() {
            match self.store.write(rows.clone()).await {
                Ok(()) => break,
                Err(failed @ WriteError::Failed(_)) => return Err(JobError::Write(failed)),
                Err(unknown @ WriteError::Unknown(_)) => {
                    let partition = tenures.first().map(|tenure| tracing::field::display(tenure.partition));
                    tracing::warn!(error = %unknown, partition, "a write has an unknown outcome; it is tried again")
                }
            }
            for tenure in tenures {
                if let Err(lost @ JobError::NotOwner(_)) = self.pass_fence(*tenure).await {
                    return Err(lost);
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        Ok(())
    }

    /// Reads presence behind the barrier.
    pub(crate) async fn online(&self, users: Vec<UserId>) -> Result<Online, JobError> {
        if users.is_empty() {
            return Ok(Online::new());
        }
        self.barrier.read(users).await.ok_or(JobError::Presence)
    }

    /// Activates a channel: writes the order rows, then reads presence behind the barrier. The room is in the live
    /// table already, and requests for it are queued there in the meantime.
    pub(crate) async fn activate(
        &self,
        tenure: Tenure,
        rows: Vec<Row>,
        users: Vec<UserId>,
    ) -> Result<Online, JobError> {
        if mutant(Mutant::BarrierOff) && !users.is_empty() {
            let online = self.online(users).await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.write(&[tenure], rows).await?;
            return Ok(online);
        }
        self.write(&[tenure], rows).await?;
        self.online(users).await
    }
}
