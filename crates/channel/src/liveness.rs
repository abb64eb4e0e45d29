//! Whether the executor runs: only then does the worker say that it lives, and a worker whose executor hangs ends, so
//! that others take over its partitions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sendpi_model::timing::NODE_KEY_MAX_AGE;
use tokio::time::{Duration, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often it is looked whether the executor runs. It beats at least ten times as often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Counts the rounds of an executor. Clones share the count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beat(Arc<AtomicU64>);

impl Beat {
    /// Notes that a round begins.
    pub(crate) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns once no round has begun for as long as a worker may serve without a refresh of its key. Looks are
    /// counted, not the time: if the process is frozen, so is the executor.
    pub(crate) async fn stops(&self) {
        let looks = NODE_KEY_MAX_AGE.as_secs() / LOOK_EVERY.as_secs();
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last, mut missed) = (0, 0);
        while missed < looks {
            ticks.tick().await;
            let now = self.0.load(Ordering::Relaxed);
            missed = if now == last { missed + 1 } else { 0 };
            last = now;
        }
    }
}

/// Cancels `ended` if the executor hangs.
pub(crate) fn end_if_it_hangs(beat: Beat, ended: CancellationToken) {
    tokio::spawn(async move {
        if ended.run_until_cancelled(beat.stops()).await.is_some() {
            tracing::error!("the executor hangs: the worker ends, so that others take over its partitions");
            ended.cancel();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_executor_that_begins_no_round_for_ten_seconds_hangs() {
        let beat = Beat::default();
        let ended = CancellationToken::new();
        end_if_it_hangs(beat.clone(), ended.clone());
        for _ in 0..30 {
            beat.beat();
            tokio::time::sleep(LOOK_EVERY).await;
        }
        assert!(!ended.is_cancelled());
        tokio::time::sleep(NODE_KEY_MAX_AGE + 2 * LOOK_EVERY).await;
        assert!(ended.is_cancelled());
    }
}
