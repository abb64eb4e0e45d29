//! The claim of a partition: first the lease by compare-and-set, then the store's fence.

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

/// A claimed partition.
#[derive(Debug)]
pub(crate) struct ClaimedPartition {
    pub(crate) tenure: Tenure,
    pub(crate) lease: Lease,
    pub(crate) revision: Revision,
    /// The newest record of what is settled.
    pub(crate) settled: Option<SettledRow>,
    /// The rooms in which something may not be settled.
    pub(crate) active_rooms: Vec<RoomId>,
}

/// Returns `true` once NATS has reported no responders for `owner` for the whole of `silence`. Returns `false` as
/// soon as the owner answers, or if a request has an unknown outcome.
async fn is_dead(context: &JobContext, owner: &NodeId, silence: Duration) -> bool {
    let end = Instant::now() + silence;
    loop {
        match presence::is_alive(&context.bus, owner).await {
            Ok(true) => return false,
            Ok(false) if Instant::now() >= end => return true,
            Ok(false) => tokio::time::sleep(Duration::from_millis(50)).await,
            // A timeout is no proof of death. The partition is claimed again later.
            Err(_) => return false,
        }
    }
}

/// Claims one partition.
pub(crate) async fn claim(
    context: &JobContext,
    leases: &Leases,
    partition: Partition,
    config: &ChannelConfig,
) -> Result<ClaimedPartition, ClaimError> {
    let nats = |source| ClaimError::Nats { partition, source };
    let store = |source: ReadError| ClaimError::Store { partition, source: source.into() };
    let (present, revision) = leases.read(partition).await.map_err(nats)?;
    let own = context.bus.node();
    if let Some(present) = present.as_ref().filter(|lease| lease.owner != *own)
        && !is_dead(context, &present.owner, config.owner_silence).await
    {
        return Err(ClaimError::Held { partition, owner: present.owner.clone() });
    }
    let fence = context.store.fences(partition, 0).await.map_err(store)?.pop();
    // A restore of NATS can bring back an older lease, so the store's fence counts as well.
    let epoch = present.map_or(0, |lease| lease.epoch).max(fence.map_or(0, |fence| fence.epoch)) + 1;
    let tenure = Tenure { partition, epoch, claim: rand::random() };
    let lease = Lease { owner: own.clone(), claim: tenure.claim_id(), epoch };
    let revision = match leases.claim(partition, &lease, revision).await {
        Ok(ClaimOutcome::Won(revision)) => revision,
        Ok(ClaimOutcome::Lost) => return Err(ClaimError::Lost(partition)),
        Err(error) => return Err(nats(error)),
    };
    raise_fence(context, tenure).await.map_err(|error| match error {
        JobError::NotOwner(_) => ClaimError::Lost(partition),
        source => ClaimError::Store { partition, source },
    })?;
    let settled = context.store.settled(partition).await.map_err(store)?;
    let settled = settled.into_iter().max_by_key(|row| row.epoch);
    // The rooms are read from further back than what is not settled, because a channel that was live and settled may
    // not have written its head yet. One more minute is added, because a row is written before the first answer of
    // its minute, by the clock of the owner at that time. There is no upper end, because that clock may have been ahead
    // of this one.
    let live = config.idle.max + config.window.order_rows_age();
    let since = settled.map_or(0, |row| row.at.before(live).minute().saturating_sub(1));
    let until = if mutant(Mutant::FutureRoomsOff) { Millis::now().minute() + 60 } else { u64::MAX };
    let active_rooms = context.store.active_rooms(partition, since..=until).await.map_err(store)?;
    Ok(ClaimedPartition { tenure, lease, revision, settled, active_rooms })
}

/// Writes the store's fence, and reads it again. If that shows another claim at or above this epoch, this one is lost.
async fn raise_fence(context: &JobContext, tenure: Tenure) -> Result<(), JobError> {
    // A claim that comes second must leave nothing behind that the first one would have to judge.
    let is_beaten = async || {
        let fences = context.store.fences(tenure.partition, tenure.epoch).await?;
        Ok::<_, JobError>(fences.iter().any(|fence| tenure.is_beaten_by(fence)))
    };
    if !is_beaten().await? {
        context.write(&[tenure], vec![Row::Fence(tenure.partition, tenure.fence())]).await?;
        if !is_beaten().await? {
            return Ok(());
        }
    }
    Err(JobError::NotOwner(tenure.partition))
}
