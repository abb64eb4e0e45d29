//! Keeps the buckets and streams: one that is lost is made anew.
//!
//! A memory stream is gone when all its servers were restarted at once, any stream by an operator's slip. Who kept
//! something there puts it anew: a node notices the loss of its own key by itself, and is told of the rest by
//! [`crate::Bus::losses`].

use sendpi_model::Partitions;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::timing::STREAMS_CHECK_EVERY;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{MadeAt, SetupError, check_config, make_missing};
use crate::Bus;

/// How often each bucket and stream was lost, as far as this node saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamLosses {
    /// The bucket of the leases.
    pub partitions: u64,
    /// The bucket of presence.
    pub presence: u64,
    /// The stream of push jobs.
    pub push: u64,
}

/// Makes the buckets and streams anew when they are lost, until `stop` is cancelled. The arguments are those of
/// [`super::setup`], which must have been called before.
pub fn keep_streams(bus: &Bus, partitions: Partitions, replicas: usize, stop: CancellationToken) {
    let bus = bus.clone();
    tokio::spawn(async move { stop.run_until_cancelled(keep(&bus, partitions, replicas)).await });
}

async fn keep(bus: &Bus, partitions: Partitions, replicas: usize) {
    let mut ticks = interval(STREAMS_CHECK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut known, mut failed) = (None, false);
    loop {
        ticks.tick().await;
        match check(bus, partitions, replicas, &mut known).await {
            Ok(()) => failed = false,
            Err(error) => {
                // Once is enough while it stays so.
                if !std::mem::replace(&mut failed, true) {
                    tracing::warn!(%error, "the buckets and streams cannot be looked after; it is tried again");
                }
            }
        }
    }
}

/// Makes what is missing, and notes what was lost since the last check, whoever made it anew.
async fn check(
    bus: &Bus,
    partitions: Partitions,
    replicas: usize,
    known: &mut Option<MadeAt>,
) -> Result<(), SetupError> {
    if mutant(Mutant::LostStreamsOff) {
        return Ok(());
    }
    let found = make_missing(bus, partitions, replicas).await?;
    let before = known.unwrap_or(found);
    if before.partitions != found.partitions {
        check_config(bus, partitions).await?;
    }
    *known = Some(found);
    if before == found {
        return Ok(());
    }
    let lost = StreamLosses {
        partitions: u64::from(before.partitions != found.partitions),
        presence: u64::from(before.presence != found.presence),
        push: u64::from(before.push != found.push),
    };
    tracing::warn!(?lost, "a bucket or stream was lost; it is made anew");
    bus.note_losses(lost);
    Ok(())
}
