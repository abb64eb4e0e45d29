//! The task that retries what owners have not confirmed, and settles what sessions have.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::context::NodeContext;

/// How often to retry what was not confirmed, and to settle what was.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Retries what was not confirmed, and settles what was, until the node's shutdown.
pub(crate) async fn run(node: Arc<NodeContext>) {
    let mut ticks = interval(RETRY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while node.shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        node.with(|state, effects| {
            state.settle();
            state.ask_again(Instant::now(), effects);
        });
    }
}
