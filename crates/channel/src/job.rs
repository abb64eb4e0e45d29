//! Jobs: what the executor asks of the store and of presence. Each one is a future whose result comes back to the
//! executor.

mod commit;
mod open;
mod read;
mod scan;

use std::sync::Arc;
use std::time::Duration;

use sendpi_bus::Bus;
use sendpi_bus::presence::{Barrier, Online};
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Partition, UserId};
use sendpi_store::{ReadError, Row, Store, WriteError};
use tokio::sync::Semaphore;
use tokio::task::JoinError;

use crate::tenure::Tenure;

pub(crate) use commit::{BatchCommit, CommitOutcome, CommittedBatch};
pub(crate) use open::{LeftEvents, OpenedRoom};
pub(crate) use read::FromMemory;

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
    /// The task of the job ended early.
    #[error("a task ended early")]
    Task(#[source] Arc<JoinError>),
    /// Presence could not be read behind the barrier.
    #[error("presence could not be read")]
    Presence,
}

/// The most searches for nonces at one time. Each reads thousands of rows.
const LOOKUPS_AT_ONCE: usize = 4;

/// Runs a job that only reads on a task of its own, so that the executor is not held up by it.
pub(crate) fn spawned<T: Send + 'static>(
    job: impl Future<Output = Result<T, JobError>> + Send + 'static,
) -> impl Future<Output = Result<T, JobError>> + Send {
    let task = tokio::spawn(job);
    async move { task.await.unwrap_or_else(|error| Err(JobError::Task(Arc::new(error)))) }
}

/// What jobs work with.
#[derive(Debug, Clone)]
pub(crate) struct JobContext {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) barrier: Barrier,
    pub(crate) bus: Bus,
    /// How many days events are kept of rooms that do not say. 0 is for ever.
    retention_days: u16,
    /// Limits the searches for nonces.
    lookups: Arc<Semaphore>,
}

impl JobContext {
    pub(crate) fn new(store: Arc<dyn Store>, barrier: Barrier, bus: Bus, retention_days: u16) -> Self {
        Self { store, barrier, bus, retention_days, lookups: Arc::new(Semaphore::new(LOOKUPS_AT_ONCE)) }
    }

    /// Passes the fence: a read that begins now must show no epoch above ours.
    pub(crate) async fn pass_fence(&self, tenure: Tenure) -> Result<(), JobError> {
        pass_fence(self.store.as_ref(), tenure).await
    }

    /// Writes rows until it is known that they were written, that they were not, or that a higher epoch took the
    /// partition.
    pub(crate) async fn write(&self, tenure: Tenure, rows: Vec<Row>) -> Result<(), JobError> {
        write_until_known(self.store.as_ref(), tenure, rows).await
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
            self.write(tenure, rows).await?;
            return Ok(online);
        }
        self.write(tenure, rows).await?;
        self.online(users).await
    }
}

async fn pass_fence(store: &dyn Store, tenure: Tenure) -> Result<(), JobError> {
    if mutant(Mutant::FenceOff) {
        return Ok(());
    }
    let fences = store.fences(tenure.partition, tenure.epoch).await?;
    if fences.iter().all(|fence| tenure.passes(fence)) { Ok(()) } else { Err(JobError::NotOwner(tenure.partition)) }
}

async fn write_until_known(store: &dyn Store, tenure: Tenure, rows: Vec<Row>) -> Result<(), JobError> {
    let (mut pause, mut is_unknown) = (Duration::from_millis(20), false);
    while !rows.is_empty() {
        match store.write(rows.clone()).await {
            Ok(()) => break,
            // Once the outcome is unknown, a failed try says nothing about the tries before it.
            Err(failed @ WriteError::Failed(_)) if !is_unknown => return Err(JobError::Write(failed)),
            Err(error) => {
                let partition = tenure.partition;
                tracing::warn!(%error, %partition, "a write has an unknown outcome; it is tried again");
                is_unknown = true;
            }
        }
        if let Err(lost @ JobError::NotOwner(_)) = pass_fence(store, tenure).await {
            return Err(lost);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
