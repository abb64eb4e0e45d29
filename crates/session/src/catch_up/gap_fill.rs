//! Reads what a room's sessions here are missing from the room's owner.

use std::sync::Arc;
use std::time::Duration;

use sendpi_model::{Verb, limits};

use crate::context::{NodeContext, lock};
use crate::keys::RoomKey;
use crate::owners::answer::HistoryPage;

/// Before what could not be read is asked for again.
const PAUSE: Duration = Duration::from_millis(500);
/// How often that is done.
const TRIES: u32 = 4;

/// Starts to fill the gaps that come up, until the node's shutdown.
pub(crate) async fn run(node: Arc<NodeContext>) {
    while node.shutdown.run_until_cancelled(node.fill_due.notified()).await.is_some() {
        for room in std::mem::take(&mut *lock(&node.fills)) {
            node.spawn(fill(Arc::clone(&node), room));
        }
    }
}

/// Reads until nobody in the room misses anything. What is too much to be read is skipped, and the sessions are told so.
async fn fill(node: Arc<NodeContext>, room: RoomKey) {
    let mut events = 0;
    let mut failures = 0;
    while let Some(missing) = node.with(|state, _| state.next_missing(room)) {
        if events >= limits::RESUME_ROOM_EVENTS || failures >= TRIES {
            node.with(|state, effects| state.skip_missing(room, None, effects));
            continue;
        }
        let history = Verb::History { before: None, after: Some(missing.after), limit: limits::PAGE_MESSAGES as u32 };
        let page =
            node.ask(&missing.room, &missing.user_id, history).await.and_then(|answer| HistoryPage::read(&answer));
        match page {
            Ok(page) => {
                events += page.events.len();
                let whole = page.events.is_empty() && !page.more;
                node.with(|state, effects| {
                    state.deliver_missing(room, &page.events, effects);
                    if whole {
                        state.skip_missing(room, Some(missing.user), effects);
                    }
                });
            }
            Err(refusal) if refusal.retry_in_ms.is_some() => {
                failures += 1;
                tokio::time::sleep(PAUSE).await;
            }
            // No member any more: the link will tell.
            Err(_) => node.with(|state, effects| state.skip_missing(room, Some(missing.user), effects)),
        }
    }
}
