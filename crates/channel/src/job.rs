//! Jobs: what the executor asks of the store and of presence, each a future whose result comes back to it.

mod commit;
mod open;
mod read;

use std::sync::Arc;
use std::time::Duration;

use sendpi_bus::Bus;
use sendpi_bus::presence::{Barrier, Online};
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Millis, Partition, RoomId, UserId};
use sendpi_store::{ReadError, Row, Store, WriteError};

use crate::claim::{ClaimError, ClaimedPartition};
use crate::dispatch::ReadResult;
use crate::room::{AnswerAddress, Batch, Lookups};

pub(crate) use commit::Commit;
pub(crate) use open::OpenedRoom;

/// Why a job did not do what it should.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum JobError {
    /// A higher epoch took the partition: this worker is not its owner any more.
    #[error("a higher epoch took partition {0}")]
    NotOwner(Partition),
    /// The store, or presence, said that it was not done, or did not answer a read.
    #[error("{0}")]
    Failed(String),
}

impl From<ReadError> for JobError {
    fn from(error: ReadError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The result of a job.
#[derive(Debug)]
pub(crate) enum JobResult {
    /// A room was opened.
    Opened { room: RoomId, result: Result<Box<OpenedRoom>, JobError> },
    /// Nonces were looked for.
    LookedUp { room: RoomId, result: Result<Lookups, JobError> },
    /// The order rows were written (where there is a time) and presence was read behind the barrier.
    Activated { room: RoomId, rows_at: Option<Millis>, result: Result<Online, JobError> },
    /// Batches are in the store, behind the fence.
    Committed { rooms: Vec<Committed>, online: Online, result: Result<(), JobError> },
    /// The head of a room that is to be evicted was written.
    Evicted { room: RoomId, result: Result<(), JobError> },
    /// A partition that was lost was claimed again, or not yet.
    Claimed { partition: Partition, result: Result<Box<ClaimedPartition>, ClaimError> },
    /// The heads of several rooms were read.
    Heads { to: AnswerAddress, result: Result<Vec<(RoomId, u64)>, JobError> },
}

/// One room's part of a [`JobResult::Committed`].
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) room: RoomId,
    pub(crate) batch: Batch,
    pub(crate) reads: Vec<ReadResult>,
}

/// What jobs work with.
#[derive(Debug, Clone)]
pub(crate) struct JobContext {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) barrier: Barrier,
    pub(crate) bus: Bus,
}

/// Under which epoch a job works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tenure {
    pub(crate) partition: Partition,
    pub(crate) epoch: u64,
}

impl JobContext {
    /// Passes the fence: a read that begins now shows no epoch above ours.
    pub(crate) async fn pass_fence(&self, tenure: Tenure) -> Result<(), JobError> {
        if mutant(Mutant::FenceOff) {
            return Ok(());
        }
        match self.store.fence(tenure.partition).await? {
            Some(fence) if fence.epoch > tenure.epoch => Err(JobError::NotOwner(tenure.partition)),
            _ => Ok(()),
        }
    }

    /// Writes rows until it is known that they went in, or that they did not, or that a higher epoch took the partition.
    pub(crate) async fn write(&self, tenures: &[Tenure], rows: Vec<Row>) -> Result<(), JobError> {
        let mut pause = Duration::from_millis(20);
        while !rows.is_empty() {
            match self.store.write(rows.clone()).await {
                Ok(()) => break,
                Err(WriteError::Failed(why)) => return Err(JobError::Failed(why)),
                Err(WriteError::Unknown(why)) => {
                    tracing::warn!(why, "a write has an unknown outcome; it is tried again")
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
        self.barrier.read(users).await.ok_or_else(|| JobError::Failed("presence could not be read".to_owned()))
    }

    /// Steps (1) and (3) of an activation: the order rows, then the barrier and presence. The room is in the live table already, and what
    /// asks of it meanwhile waits there.
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
