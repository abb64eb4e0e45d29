//! Drains a node: every session is told to go, and everything unfinished gets time to finish.

use std::sync::Arc;
use std::time::Duration;

use sendpi_model::timing::LAST_PONG_TIMEOUT;
use tokio::time::{Instant, sleep};

use crate::context::NodeContext;
use crate::owners::downlink;

/// How often to check whether the drain is done.
const LOOK: Duration = Duration::from_millis(25);

/// Drains the node by `until` at the latest.
pub(crate) async fn drain(node: &Arc<NodeContext>, until: Instant) {
    let spread = u64::try_from(node.config.drain_spread.as_millis()).unwrap_or(u64::MAX).max(1);
    let begin = Instant::now();
    node.with(|state, effects| state.begin_drain(begin, effects));
    loop {
        let now = Instant::now();
        let all = now >= begin + LAST_PONG_TIMEOUT;
        node.with(|state, effects| state.say_bye(all, || rand::random::<u64>() % spread, now, effects));
        if now >= until || is_done(node) {
            break;
        }
        sleep(LOOK).await;
    }
    node.write_markers().await;
    // The workers hear of it before this node's key is gone, so that nothing of what was confirmed is pushed.
    node.with(|state, _| state.settle());
    node.links.lock().answer_at_last();
    downlink::answer_links(node).await;
    if let Err(error) = node.bus.flush().await {
        tracing::debug!(%error, "the last answers to links may not have been sent");
    }
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
