//! Pages of a timeline, of a user's rooms, and of a room's members.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::OpFrame;
use crate::{JsonObject, Role, RoomId, RoomInfo, UserId};

/// `page`: the answer to `history`, with the oldest event first and each event as it was stored.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventPage<'a> {
    /// The room.
    pub room: RoomId,
    /// The frames of the events.
    #[serde(borrow)]
    pub events: Vec<&'a RawValue>,
    /// Whether there are more events in the requested direction.
    pub more: bool,
}

impl OpFrame for EventPage<'_> {
    const OP: &'static str = "page";
}

impl EventPage<'_> {
    /// Encodes a page of these frames without parsing them.
    #[must_use]
    pub fn join(room: &RoomId, frames: &[&[u8]], more: bool) -> Vec<u8> {
        let bytes = frames.iter().map(|frame| frame.len() + 1).sum::<usize>() + room.as_str().len() + 64;
        JsonObject::with_capacity(bytes)
            .field("op", &Self::OP)
            .field("room", room)
            .encoded_list("events", frames)
            .field("more", &more)
            .finish()
    }
}

/// `rooms`: the answer to `rooms`, with the room of the newest durable event first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RoomsPage {
    /// The rooms.
    pub rooms: Vec<RoomInfo>,
    /// Where the next page begins. `None` if this is the last page.
    pub next: Option<String>,
}

impl OpFrame for RoomsPage {
    const OP: &'static str = "rooms";
}

/// `members`: the answer to `members`, ordered by user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MembersPage {
    /// The room.
    pub room: RoomId,
    /// The seq of the room that the members reflect: a later `joined` or `left` is not in them yet.
    pub seq: u64,
    /// The members.
    pub members: Vec<MemberEntry>,
    /// The user after whom the next page begins. `None` if this is the last page.
    pub next: Option<UserId>,
}

impl OpFrame for MembersPage {
    const OP: &'static str = "members";
}

/// One member of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MemberEntry {
    /// The user.
    pub user: UserId,
    /// The role of the member.
    pub role: Role,
    /// Whether the user is online.
    pub online: bool,
}
