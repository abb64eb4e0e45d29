//! Fills gaps: reads the events that sessions on this node are missing from the owner of their room.

use std::sync::Arc;
use std::time::Duration;

use sendpi_model::{Verb, limits};

use crate::context::{NodeContext, lock};
use crate::keys::RoomKey;
use crate::owners::answer::HistoryPage;

/// The pause after a failed read.
const PAUSE: Duration = Duration::from_millis(500);
/// The number of failed reads of a room after which its gaps are skipped.
const TRIES: u32 = 4;

/// Spawns a task for each room that gets a gap, until the node's shutdown.
pub(crate) async fn run(node: Arc<NodeContext>) {
    while node.shutdown.run_until_cancelled(node.fill_due.notified()).await.is_some() {
        let rooms = std::mem::take(&mut *lock(&node.fills));
        for room in rooms {
            node.spawn(fill(Arc::clone(&node), room));
        }
    }
}

/// Reads until no user in the room has a gap. If too many events are missing, or reads keep failing, the gaps are
/// skipped and the sessions are told so.
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
                // What a page leaves out has expired.
                let first = page.events.first().map(|(seq, _)| *seq);
                let is_gone = first.map_or(!page.more, |first| first > missing.after + 1);
                node.with(|state, effects| {
                    state.deliver_missing(room, &page.events, effects);
                    if is_gone {
                        state.skip_missing(room, Some(missing.user), effects);
                    }
                });
            }
            Err(refusal) if refusal.retry_in_ms.is_some() => {
                failures += 1;
                tokio::time::sleep(PAUSE).await;
            }
            // Retrying would not help. As a rule, the user is not a member any more, which the link reports.
            Err(_) => node.with(|state, effects| state.skip_missing(room, Some(missing.user), effects)),
        }
    }
}
