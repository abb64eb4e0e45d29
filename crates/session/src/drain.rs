//! Drains a node: every session is told to go, and everything unfinished gets time to finish.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::context::NodeContext;

/// How often to check whether the drain is done.
const LOOK: Duration = Duration::from_millis(25);

/// Drains the node. Waits at most for the configured time.
pub(crate) async fn drain(node: &Arc<NodeContext>) {
    let spread = u64::try_from(node.config.drain_spread.as_millis()).unwrap_or(u64::MAX).max(1);
    node.with(|state, effects| state.drain(|| rand::random::<u64>() % spread, effects));
    let until = Instant::now() + node.config.drain_timeout;
    while Instant::now() < until && !is_done(node) {
        sleep(LOOK).await;
    }
    // The workers hear of it with the next answer to their links, so that nothing is dispatched again after a restart.
    node.with(|state, _| state.settle());
    node.write_markers().await;
    let (sessions, retries) = {
        let state = node.state.lock();
        (state.sessions(), state.retries.len())
    };
    let keys = node.keys.unwritten();
    if sessions + retries + keys > 0 {
        tracing::warn!(sessions, retries, keys, "the drain timed out and leaves these unfinished");
    }
}

fn is_done(node: &NodeContext) -> bool {
    let state = node.state.lock();
    state.sessions() == 0
        && state.retries.len() == 0
        && node.keys.unwritten() == 0
        && node.flows.lock().unanswered() == 0
}
