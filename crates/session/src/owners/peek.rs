//! Asking a room's owner how one of its members sees it.

use std::sync::Arc;

use sendpi_model::{Refusal, RoomId, UserId, Verb};

use crate::context::NodeContext;
use crate::owners::answer::RoomAnswer;

/// Owners that are asked at one time on behalf of one user.
pub(crate) const OWNERS_IN_PARALLEL: usize = 32;

/// Asks how the user sees the room, without joining its live events.
///
/// # Errors
/// What the owner refuses, or `unavailable`.
pub(crate) async fn peek(node: &Arc<NodeContext>, user: &UserId, room: &RoomId) -> Result<RoomAnswer, Refusal> {
    RoomAnswer::read(&node.ask(room, user, Verb::Peek).await?)
}
