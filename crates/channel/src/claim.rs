//! The claim of a partition: whether it may be claimed at all, then the lease by compare-and-set, then the store's
//! fence.

use std::time::Duration;

use sendpi_bus::lease::{ClaimOutcome, Lease, Leases};
use sendpi_bus::{RequestError, Revision, presence};
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Millis, NodeId, Partition, RoomId};
use sendpi_store::{ReadError, Row, SettledRow};
use tokio::time::Instant;

use crate::config::ChannelConfig;
use crate::job::{JobContext, JobError};
use crate::tenure::Tenure;

/// How often a worker is asked whether it lives.
const ASK_EVERY: Duration = Duration::from_millis(25);

/// Why a partition could not be claimed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    /// A live worker owns it.
    #[error("partition {partition} is owned by {owner}, which is alive")]
    Held {
        /// The partition.
        partition: Partition,
        /// Its owner.
        owner: NodeId,
    },
    /// Another worker was faster.
    #[error("the claim of partition {0} was lost")]
    Lost(Partition),
    /// NATS did not answer. Claim again.
    #[error("NATS did not answer for the lease of partition {partition}")]
    Nats {
        /// The partition.
        partition: Partition,
        /// What NATS reported.
        source: RequestError,
    },
    /// The store did not answer, or refused the fence. Claim again.
    #[error("the store did not take the fence of partition {partition}")]
    Store {
        /// The partition.
        partition: Partition,
        /// What the store reported.
        source: JobError,
    },
}

/// What this worker knows of the owner in the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnerState {
    /// It has a node key, and nothing says that it is dead.
    Live,
    /// Somebody says that nobody answers for the partition. It is dead if NATS says so for a while.
    Orphaned,
    /// Another worker says that it is dead. It is if NATS says so, too.
    ToldDead,
    /// It has no node key. It is dead unless it answers.
    Gone,
    /// It has no node key, but JetStream was away. It is dead if NATS says so for a while.
    Unsure,
}

/// A claimed partition.
#[derive(Debug)]
pub(crate) struct ClaimedPartition {
    pub(crate) tenure: Tenure,
    pub(crate) lease: Lease,
    pub(crate) revision: Revision,
    /// Who died while it owned the partition.
    pub(crate) dead: Option<NodeId>,
    /// The newest record of what is settled.
    pub(crate) settled: Option<SettledRow>,
    /// The rooms in which something may not be settled.
    pub(crate) active_rooms: Vec<RoomId>,
}

/// Returns `true` once NATS has reported no responders for `owner` for the whole of `silence`. Returns `false` as
/// soon as the owner answers, or if a request has an unknown outcome.
pub(crate) async fn is_dead(context: &JobContext, owner: &NodeId, silence: Duration) -> bool {
    let end = Instant::now() + silence;
    loop {
        match presence::is_alive(&context.bus, owner).await {
            Ok(true) => return false,
            Ok(false) if Instant::now() >= end => return true,
            Ok(false) => tokio::time::sleep(ASK_EVERY).await,
            // A timeout is no proof of death. The partition is claimed again later.
            Err(_) => return false,
        }
    }
}

/// Looks at another worker for a while. Returns `true` if it is dead, as [`is_dead`] has it.
pub(crate) async fn dies_within(context: &JobContext, owner: &NodeId, look: Duration, silence: Duration) -> bool {
    let end = Instant::now() + look;
    while Instant::now() < end {
        if is_dead(context, owner, silence).await {
            return true;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    false
}

/// Returns whether the owner in a lease is dead.
async fn is_over(context: &JobContext, owner: &NodeId, state: OwnerState, config: &ChannelConfig) -> bool {
    match state {
        OwnerState::Live => false,
        OwnerState::Orphaned | OwnerState::Unsure => is_dead(context, owner, config.owner_silence).await,
        OwnerState::ToldDead => is_dead(context, owner, Duration::ZERO).await,
        // A frozen or cut-off host does not answer, and its key has expired.
        OwnerState::Gone => !matches!(presence::is_alive(&context.bus, owner).await, Ok(true)),
    }
}

/// Claims one partition, if it is nobody's or its owner is dead. `state` returns what is known of an owner.
pub(crate) async fn claim(
    context: &JobContext,
    leases: &Leases,
    partition: Partition,
    config: &ChannelConfig,
    state: impl Fn(&NodeId) -> OwnerState,
) -> Result<ClaimedPartition, ClaimError> {
    let nats = |source| ClaimError::Nats { partition, source };
    let store = |source: ReadError| ClaimError::Store { partition, source: source.into() };
    let (present, revision) = leases.read(partition).await.map_err(nats)?;
    let own = context.bus.node();
    let mut dead = None;
    if let Some(Lease { owner, .. }) = present.as_ref().filter(|lease| lease.owner != *own && !lease.released) {
        if !is_over(context, owner, state(owner), config).await {
            return Err(ClaimError::Held { partition, owner: owner.clone() });
        }
        dead = Some(owner.clone());
    }
    let ahead = tokio::try_join!(context.store.fences(partition, 0), newest_settled(context, partition));
    let (mut fences, settled_before) = ahead.map_err(store)?;
    // A restore of NATS can bring back an older lease, so the store's fence counts as well.
    let epoch = present.map_or(0, |lease| lease.epoch).max(fences.pop().map_or(0, |fence| fence.epoch)) + 1;
    let tenure = Tenure { partition, epoch, claim: rand::random() };
    let lease = Lease { owner: own.clone(), claim: tenure.claim_id(), epoch, released: false };
    let revision = match leases.claim(partition, &lease, revision).await {
        Ok(ClaimOutcome::Won(revision)) => revision,
        Ok(ClaimOutcome::Lost) => return Err(ClaimError::Lost(partition)),
        Err(error) => return Err(nats(error)),
    };
    let failed = |error| match error {
        JobError::NotOwner(_) => ClaimError::Lost(partition),
        source => ClaimError::Store { partition, source },
    };
    raise_fence(context, tenure).await.map_err(failed)?;
    // The rooms are read from further back than what is not settled, because a channel that was live and settled may
    // not have written its head yet. One more minute is added, because a row is written before the first answer of
    // its minute, by the clock of the owner at that time. There is no upper end, because that clock may have been ahead
    // of this one.
    let live = config.idle.max + config.window.order_rows_age();
    let since = settled_before.map_or(0, |row| row.at.before(live).minute().saturating_sub(1));
    let until = if mutant(Mutant::FutureRoomsOff) { Millis::now().minute() + 60 } else { u64::MAX };
    // Behind the fence, because the owner before answered until then.
    let active_rooms = async { Ok(context.store.active_rooms(partition, since..=until).await?) };
    let settled = async { Ok(newest_settled(context, partition).await?) };
    let read = tokio::try_join!(keep_fence(context, tenure), settled, active_rooms);
    let ((), settled, active_rooms) = read.map_err(failed)?;
    Ok(ClaimedPartition { tenure, lease, revision, dead, settled, active_rooms })
}

/// Returns the newest record of what is settled.
async fn newest_settled(context: &JobContext, partition: Partition) -> Result<Option<SettledRow>, ReadError> {
    Ok(context.store.settled(partition).await?.into_iter().max_by_key(|row| row.epoch))
}

/// Writes the store's fence, unless that shows another claim at or above this epoch already: a claim that comes second
/// must leave nothing behind that the first one would have to judge.
async fn raise_fence(context: &JobContext, tenure: Tenure) -> Result<(), JobError> {
    keep_fence(context, tenure).await?;
    context.write(tenure, vec![Row::Fence(tenure.partition, tenure.fence())]).await
}

/// Reads the store's fence. If it shows another claim at or above this epoch, this one is lost.
async fn keep_fence(context: &JobContext, tenure: Tenure) -> Result<(), JobError> {
    let fences = context.store.fences(tenure.partition, tenure.epoch).await?;
    let is_beaten = fences.iter().any(|fence| tenure.is_beaten_by(fence));
    if is_beaten { Err(JobError::NotOwner(tenure.partition)) } else { Ok(()) }
}
