//! What a server sends on its own.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{HeadsAnswer, OpFrame, Resumed};
use crate::{Millis, Refusal, RoomId, RoomInfo, UserId};

/// Any frame that a server sends on its own, as a client reads it. Fields that this release does not know are ignored.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ServerFrame {
    /// Something happened in a room.
    Event(EventFrame),
    /// The end of a replay.
    Resumed(Resumed),
    /// The user became a member.
    RoomAdded {
        /// The room.
        info: RoomInfo,
    },
    /// The user ceased to be a member.
    RoomRemoved(RoomRemoved),
    /// Another device of the user read.
    Marker(MarkerFrame),
    /// The session missed something in these rooms.
    Heads(HeadsAnswer),
    /// The server is about to close.
    Bye(Bye),
    /// A refusal of something that carried no id.
    Error(Refusal),
    /// An op that this client does not know.
    #[serde(other)]
    Unknown,
}

/// `event`, as a client reads it; [`crate::Event`] writes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct EventFrame {
    /// Where.
    pub room: RoomId,
    /// Its place in the timeline; `None` for an ephemeral one.
    pub seq: Option<u64>,
    /// The count after it; `None` for an ephemeral one.
    pub count: Option<u64>,
    /// `message`, `joined`, `typing`, …; kinds that this release does not know are kept as they are.
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
    /// Who brought it about, if it was not the users themselves.
    pub by: Option<UserId>,
}

impl EventFrame {
    /// `body.text`.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.body.as_ref()?.get("text")?.as_str()
    }
}

/// `room_added`: the user is in a room that the session may not know.
#[derive(Debug, Serialize)]
pub struct RoomAdded<'a> {
    /// [`RoomInfo`], encoded by the room's owner; `None` if that could not be read.
    pub info: Option<&'a RawValue>,
}

impl OpFrame for RoomAdded<'_> {
    const OP: &'static str = "room_added";
}

/// `room_removed`: the user is not a member any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRemoved {
    /// Which room.
    pub room: RoomId,
    /// `left`, `kicked`, `banned` or `deleted`.
    pub reason: String,
}

impl OpFrame for RoomRemoved {
    const OP: &'static str = "room_removed";
}

/// `marker`: up to where the user has read on another device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkerFrame {
    /// Which room.
    pub room: RoomId,
    /// The last event read.
    pub seq: u64,
    /// The count there.
    pub count: u64,
}

impl OpFrame for MarkerFrame {
    const OP: &'static str = "marker";
}

/// `bye`: the server is about to close this session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// Why: `drain`.
    pub reason: String,
    /// When to come back, in milliseconds.
    pub reconnect_in_ms: u64,
}

impl OpFrame for Bye {
    const OP: &'static str = "bye";
}

impl Bye {
    /// The node is being drained.
    #[must_use]
    pub fn drain(reconnect_in_ms: u64) -> Self {
        Self { reason: "drain".to_owned(), reconnect_in_ms }
    }
}

/// `ping`: the server asks for a sign of life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {}

impl OpFrame for Ping {
    const OP: &'static str = "ping";
}
