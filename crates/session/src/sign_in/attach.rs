//! Attaches a user to rooms. From then on the user's sessions on this node get the rooms' events live.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use sendpi_model::{Millis, Refusal, RoomId};

use crate::context::{NodeContext, answered, waiting};
use crate::owners::answer::{RoomAnswer, is_not_a_member};
use crate::owners::peek::OWNERS_IN_PARALLEL;
use crate::sign_in::room_list;
use crate::state::OnlineUser;

/// Rooms with the times of their newest order rows.
pub(crate) type Recent = Vec<(RoomId, Millis)>;

/// Lists the rooms with recent order rows, and attaches the user to those that may have a live channel. Returns the
/// list, and the answers of the rooms that the user was attached to.
///
/// # Errors
/// Returns `unavailable` if the store or an owner does not answer, or if the user's last session has ended.
pub(crate) async fn attach_recent(
    node: &Arc<NodeContext>,
    user: &OnlineUser,
    wall: Millis,
) -> Result<(Recent, HashMap<RoomId, RoomAnswer>), Refusal> {
    let recent = room_list::recent(node, &user.id, wall.before(node.config.window.unevicted())).await?;
    let horizon = wall.before(node.config.window.horizon());
    let rooms = recent.iter().filter(|(_, at)| *at >= horizon).map(|(room, _)| room.clone()).collect();
    let views = attach(node, user, rooms).await?;
    let known = views.into_iter().filter_map(|(room, view)| Some((room, view?)));
    Ok((recent, known.collect()))
}

/// Attaches a user to rooms. The answer is `None` for a room that the user is not in.
///
/// # Errors
/// Returns `unavailable` if an owner does not answer, or if the user's last session has ended.
pub(crate) async fn attach(
    node: &Arc<NodeContext>,
    user: &OnlineUser,
    rooms: Vec<RoomId>,
) -> Result<Vec<(RoomId, Option<RoomAnswer>)>, Refusal> {
    let attaches = rooms.into_iter().map(|room| async move {
        let view = attach_one(node, user, &room).await?;
        Ok::<_, Refusal>((room, view))
    });
    futures_util::stream::iter(attaches).buffer_unordered(OWNERS_IN_PARALLEL).try_collect().await
}

async fn attach_one(node: &Arc<NodeContext>, user: &OnlineUser, room: &RoomId) -> Result<Option<RoomAnswer>, Refusal> {
    let (tag, answer) = waiting();
    if !node.with(|state, effects| state.attach(user, room, tag, effects)) {
        return Err(Refusal::unavailable("the user's last session has ended", 1_000));
    }
    match answered(answer).await.and_then(|answer| RoomAnswer::read(&answer)) {
        Ok(view) => {
            node.with(|state, effects| state.attached(user, room, view.info.seq, effects));
            Ok(Some(view))
        }
        Err(refusal) if is_not_a_member(&refusal) => {
            node.with(|state, _| state.not_attached(user, room));
            Ok(None)
        }
        Err(refusal) => Err(refusal),
    }
}
