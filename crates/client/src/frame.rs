//! What the server says, in types. Fields that this client does not know are ignored.

use std::collections::BTreeMap;

use sendpi_model::{Millis, Refusal, Role, RoomId, RoomInfo, UserId};
use serde::Deserialize;
use serde_json::Value;

/// What the server sends on its own.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Frame {
    /// Something happened in a room.
    Event(Event),
    /// The end of a replay.
    Resumed(Resumed),
    /// The user became a member.
    RoomAdded {
        /// The room.
        info: RoomInfo,
    },
    /// The user ceased to be a member.
    RoomRemoved {
        /// The room.
        room: RoomId,
        /// `left`, `kicked`, `banned` or `deleted`.
        reason: String,
    },
    /// Another device of the user read.
    Marker(Marker),
    /// The session missed something in these rooms.
    Heads {
        /// Each with the seq of its head.
        rooms: BTreeMap<RoomId, u64>,
    },
    /// The server is about to close.
    Bye {
        /// Why.
        reason: String,
        /// When to come back.
        reconnect_in_ms: u64,
    },
    /// A refusal of something that carried no id.
    Error(Refusal),
    /// An op that this client does not know.
    #[serde(other)]
    Unknown,
}

/// Something that happened in a room.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event {
    /// Where.
    pub room: RoomId,
    /// Its place in the timeline; `None` for an ephemeral one.
    pub seq: Option<u64>,
    /// The count after it; `None` for an ephemeral one.
    pub count: Option<u64>,
    /// `message`, `joined`, `typing`, …; kinds that this client does not know are kept as they are.
    pub kind: String,
    /// Who made it happen.
    pub from: UserId,
    /// When.
    pub at: Millis,
    /// The sender's name for it.
    pub nonce: Option<String>,
    /// What a message says.
    pub body: Option<Value>,
    /// Whom it is about, for `joined` and `left`.
    #[serde(default)]
    pub users: Vec<UserId>,
    /// Who brought it about, where it was not the users themselves.
    pub by: Option<UserId>,
}

impl Event {
    /// `body.text`.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.body.as_ref()?.get("text")?.as_str()
    }
}

/// The answer to `hello`.
#[derive(Debug, Clone, Deserialize)]
pub struct Welcome {
    /// Who is signed in.
    pub user: UserId,
    /// The session's name.
    pub session: String,
    /// The server's clock.
    pub now: Millis,
    /// When the token expires.
    pub expires_at: Millis,
    /// How often the server asks for a sign of life.
    pub heartbeat_ms: u64,
    /// The first page of rooms.
    pub rooms: Vec<RoomInfo>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// The answer to `send`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Sent {
    /// The event's place in the timeline.
    pub seq: u64,
    /// The count after it.
    pub count: u64,
    /// When it happened.
    pub at: Millis,
    /// Whether the nonce was known: this is the result of the first send.
    #[serde(default)]
    pub repeat: bool,
}

/// The answer to `history`: events, oldest first.
#[derive(Debug, Clone, Deserialize)]
pub struct Page {
    /// The events.
    pub events: Vec<Event>,
    /// Whether there are more in the direction asked for.
    pub more: bool,
}

/// The answer to `rooms`.
#[derive(Debug, Clone, Deserialize)]
pub struct RoomsPage {
    /// Rooms, the one with the newest message first.
    pub rooms: Vec<RoomInfo>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// The answer to `members`.
#[derive(Debug, Clone, Deserialize)]
pub struct MembersPage {
    /// The members, by user.
    pub members: Vec<Member>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// One member of a room.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// What this member may do.
    pub role: Role,
    /// Whether any device is connected.
    pub online: bool,
}

/// Up to where the user has read in a room.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Marker {
    /// The room.
    pub room: RoomId,
    /// The last event read.
    pub seq: u64,
    /// The count there.
    pub count: u64,
}

/// The end of a replay: how each room stands.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Resumed {
    /// By room.
    pub rooms: BTreeMap<RoomId, RoomState>,
}

/// How a resumed room stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct RoomState {
    /// The seq up to which the client has everything now, unless `truncated`.
    pub seq: Option<u64>,
    /// Nothing was replayed: too far behind, or ahead of the server.
    #[serde(default)]
    pub truncated: bool,
    /// The user is no member any more.
    #[serde(default)]
    pub gone: bool,
}
