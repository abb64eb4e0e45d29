//! Pages: of a timeline, of a user's rooms, of a room's members.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::OpFrame;
use crate::{JsonObject, Role, RoomId, RoomInfo, UserId};

/// `page`: the answer to `history`, with events oldest first, each as it was stored.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventPage<'a> {
    /// Which room.
    pub room: RoomId,
    /// The events' frames.
    #[serde(borrow)]
    pub events: Vec<&'a RawValue>,
    /// Whether there are more events in the direction asked for.
    pub more: bool,
}

impl OpFrame for EventPage<'_> {
    const OP: &'static str = "page";
}

impl EventPage<'_> {
    /// Encodes the page of these events' frames without looking into them.
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

/// `rooms`: the answer to `rooms`, newest message first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomsPage {
    /// The rooms.
    pub rooms: Vec<RoomInfo>,
    /// Where the next page begins; `None` if this is the last one.
    pub next: Option<String>,
}

impl OpFrame for RoomsPage {
    const OP: &'static str = "rooms";
}

/// `members`: the answer to `members`, by user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersPage {
    /// Which room.
    pub room: RoomId,
    /// The members.
    pub members: Vec<MemberEntry>,
    /// The user after whom the next page begins; `None` if this is the last one.
    pub next: Option<UserId>,
}

impl OpFrame for MembersPage {
    const OP: &'static str = "members";
}

/// One member of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberEntry {
    /// Who.
    pub user: UserId,
    /// What this member may do.
    pub role: Role,
    /// Whether any device of the user is connected.
    pub online: bool,
}
