//! Attaches a user to rooms. From then on the user's sessions on this node get the rooms' events live.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt;
use sendpi_model::{Refusal, RoomId};
use tokio::sync::oneshot;

use crate::context::{NodeContext, answered};
use crate::owners::answer::{RoomAnswer, is_not_a_member};
use crate::owners::patience::Patience;
use crate::owners::reply_to::ReplyTo;
use crate::sign_in::room_list::RoomFound;
use crate::state::{AttachRequest, AttachTelling, OnlineUser};

/// The most attaches of one sign-in under way at one time. Rooms that do not answer must leave room for the others.
const AT_ONCE: usize = 256;

/// Attaches a user who signs in to rooms, and returns what was found, until no owner answers any more.
pub(crate) async fn attach_all(
    node: &Arc<NodeContext>,
    user: &OnlineUser,
    rooms: Vec<RoomId>,
) -> HashMap<RoomId, RoomFound> {
    let mut found: HashMap<RoomId, RoomFound> =
        rooms.iter().map(|room| (room.clone(), RoomFound::Unanswered)).collect();
    let attaches = rooms.into_iter().map(|room| async move {
        let answer = attach_one(node, user, &room, AttachTelling::Nothing).await;
        (room, RoomFound::of(answer))
    });
    let mut attaches = futures_util::stream::iter(attaches).buffer_unordered(AT_ONCE);
    let mut patience = Patience::new(node.config.owner_patience);
    while let Some((room, answer)) = patience.next(&mut attaches).await {
        found.insert(room, answer);
    }
    found
}

/// Attaches a user to a room. The answer is `None` for a room that the user is not in.
///
/// # Errors
/// Returns `unavailable` if the owner does not answer, or if the user's last session has ended.
pub(crate) async fn attach_one(
    node: &Arc<NodeContext>,
    user: &OnlineUser,
    room: &RoomId,
    telling: AttachTelling,
) -> Result<Option<RoomAnswer>, Refusal> {
    let (tell, answer) = oneshot::channel();
    let request = AttachRequest { user: user.clone(), room: room.clone(), telling };
    let tag = ReplyTo::Attach(Box::new(request), tell);
    if !node.with(|state, effects| state.attach(user, room, tag, effects)) {
        return Err(Refusal::unavailable("the user's last session has ended", 1_000));
    }
    match answered(answer).await.and_then(|answer| RoomAnswer::read(&answer)) {
        Ok(view) => Ok(Some(view)),
        Err(refusal) if is_not_a_member(&refusal) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}
