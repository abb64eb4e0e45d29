//! Compares the heads of rooms with recent events at an interval: events that a link lost without a trace are
//! noticed here at the latest.

use std::sync::Arc;

use futures_util::StreamExt;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::server_frame::HeadsAnswer;
use sendpi_model::{RoomId, UserId, Verb};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::context::NodeContext;
use crate::owners::answer;

/// The most rooms of one request.
const ROOMS: usize = 200;
/// The most requests under way at one time.
const PARALLEL: usize = 8;

/// Compares heads until the node's shutdown.
pub(crate) async fn run(node: Arc<NodeContext>) {
    let mut ticks = interval(node.config.heads_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    while node.shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if mutant(Mutant::HeadsOff) {
            continue;
        }
        node.shutdown.run_until_cancelled(compare(&node)).await;
    }
}

async fn compare(node: &Arc<NodeContext>) {
    let since = Instant::now().checked_sub(node.config.window.horizon()).unwrap_or_else(Instant::now);
    let recent = node.state.lock().recent_rooms(node.partitions, since);
    let requests = recent.chunk_by(|a, b| a.0 == b.0).flat_map(|rooms| rooms.chunks(ROOMS));
    let requests: Vec<(RoomId, UserId, Verb)> = requests
        .filter_map(|rooms| {
            let (_, room, user) = rooms.first()?;
            let rooms = rooms.iter().map(|(_, room, _)| room.clone()).collect();
            Some((room.clone(), user.clone(), Verb::Heads { rooms }))
        })
        .collect();
    let asks = requests.into_iter().map(|(room, user, verb)| async move { node.ask(&room, &user, verb).await });
    let mut answers = futures_util::stream::iter(asks).buffer_unordered(PARALLEL);
    while let Some(answer) = answers.next().await {
        match answer.and_then(|answer| answer::read::<HeadsAnswer>(&answer)) {
            Ok(heads) => node.with(|state, effects| state.heads(heads.rooms, effects)),
            Err(refusal) => tracing::debug!(%refusal, "could not compare heads"),
        }
    }
}
