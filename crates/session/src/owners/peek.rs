//! Asks a room's owner how one of its members sees the room.

use std::sync::Arc;

use sendpi_model::{Refusal, RoomId, UserId, Verb};

use crate::context::NodeContext;
use crate::owners::answer::RoomAnswer;

/// Asks how the user sees the room, without attaching the user to its live events.
///
/// # Errors
/// Returns the owner's refusal, or `unavailable` if no answer came.
pub(crate) async fn peek(node: &Arc<NodeContext>, user: &UserId, room: &RoomId) -> Result<RoomAnswer, Refusal> {
    RoomAnswer::read(&node.ask(room, user, Verb::Peek).await?)
}
