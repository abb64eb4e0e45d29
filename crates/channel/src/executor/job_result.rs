//! The results of jobs.

use std::collections::HashSet;

use sendpi_bus::RequestError;
use sendpi_bus::lease::ClaimOutcome;
use sendpi_bus::link::Undelivered;
use sendpi_bus::presence::Online;
use sendpi_model::{Millis, NodeId, Partition, RoomId, UserId};

use super::leases::Renewal;
use super::reads::BegunRead;
use crate::claim::{ClaimError, ClaimedPartition};
use crate::job::{CommitOutcome, JobError, OpenedRoom};
use crate::pending_pushes::PendingId;
use crate::room::{AnswerAddress, BounceScan, Found, Wanted};
use crate::tenure::Tenure;

/// A job that ended.
#[derive(Debug)]
pub(super) struct FinishedJob {
    /// The tenure under which it did something, if any. If that is over, the result means nothing any more.
    pub(super) tenure: Option<Tenure>,
    pub(super) result: JobResult,
}

/// The result of a job.
#[derive(Debug)]
pub(super) enum JobResult {
    /// A room was opened.
    Opened { room: RoomId, result: Result<Box<OpenedRoom>, JobError> },
    /// Nonces were looked for, and messages read that requests are about.
    LookedUp { room: RoomId, search: u64, wanted: Wanted, result: Result<Found, JobError> },
    /// Those whom requests make members were prepared.
    Prepared {
        room: RoomId,
        preparation: u64,
        at: Millis,
        newcomers: HashSet<UserId>,
        counts: Vec<(UserId, usize)>,
        result: Result<Online, JobError>,
    },
    /// The rooms of those for whom a room is made were counted.
    Counted { room: RoomId, counts: Vec<(UserId, usize)> },
    /// The order rows were written (if there is a time) and presence was read behind the barrier.
    Activated { room: RoomId, rows_at: Option<Millis>, result: Result<Online, JobError> },
    /// Batches were committed. If that succeeded, they are in the store, behind the fence.
    Committed(CommitOutcome),
    /// The head of a room that is to be evicted was written.
    Evicted { room: RoomId, result: Result<(), JobError> },
    /// A partition was claimed, or not yet.
    Claimed { partition: Partition, result: Result<Box<ClaimedPartition>, ClaimError> },
    /// The timeline was read for bounces, or not.
    Scanned { room: RoomId, partition: Partition, scans: Vec<BounceScan>, result: Result<(), JobError> },
    /// What a node that was given up did not settle was found. Until then, it was pending under these.
    Undelivered { undelivered: Vec<Undelivered>, until_found: Vec<PendingId> },
    /// What a user asked of a room was read.
    Answered { begun: BegunRead, result: Result<Vec<u8>, JobError> },
    /// The leases of partitions that were suspended were written again, or not.
    Renewed { outcomes: Vec<Renewal> },
    /// The lease of a partition that is handed over was released, or not.
    Released { partition: Partition, outcome: Result<ClaimOutcome, RequestError> },
    /// A worker that this one looks after was asked whether it lives.
    LookedAfter { node: NodeId, is_dead: bool },
    /// The other workers were asked whether they live.
    Probed { dead: Vec<NodeId> },
    /// The heads of several rooms were read.
    Heads { to: AnswerAddress, result: Result<Vec<(RoomId, u64)>, JobError> },
}

impl JobResult {
    /// Returns what log lines call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "a room was opened",
            Self::LookedUp { .. } => "nonces were looked for",
            Self::Prepared { .. } => "newcomers were prepared",
            Self::Counted { .. } => "rooms of users were counted",
            Self::Activated { .. } => "a channel was activated",
            Self::Committed(_) => "batches were committed",
            Self::Evicted { .. } => "a head was written",
            Self::Claimed { .. } => "a partition was claimed",
            Self::Scanned { .. } => "a timeline was read for bounces",
            Self::Undelivered { .. } => "what a dead node did not settle was found",
            Self::Answered { .. } => "a read was answered",
            Self::Renewed { .. } => "leases were renewed",
            Self::Released { .. } => "a partition was handed over",
            Self::LookedAfter { .. } => "another worker was asked whether it lives",
            Self::Probed { .. } => "other workers were asked whether they live",
            Self::Heads { .. } => "heads were read",
        }
    }
}
