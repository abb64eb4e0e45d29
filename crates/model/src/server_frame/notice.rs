//! The frames that a server sends on its own.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{HeadsAnswer, OpFrame, Resumed};
use crate::{Millis, Refusal, RoomId, RoomInfo, UserId};

/// Any frame that a server sends on its own, as a client reads it. Unknown fields are ignored.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ServerFrame {
    /// An event of a room.
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
    /// The user read on another device.
    Marker(MarkerFrame),
    /// The session missed something in these rooms.
    Heads(HeadsAnswer),
    /// The server is about to close the session.
    Bye(Bye),
    /// A refusal of something that carried no id.
    Error(Refusal),
    /// An op that this client does not know.
    #[serde(other)]
    Unknown,
}

/// `event`, as a client reads it. [`crate::Event`] writes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct EventFrame {
    /// The room.
    pub room: RoomId,
    /// The place of the event in the timeline. `None` if the event is ephemeral.
    pub seq: Option<u64>,
    /// The count after the event. `None` if the event is ephemeral.
    pub count: Option<u64>,
    /// The kind: `message`, `joined`, `typing`, …. Unknown kinds are kept as they are.
    pub kind: String,
    /// The user who caused the event.
    pub from: UserId,
    /// The time of the event.
    pub at: Millis,
    /// The sender's name for the event.
    pub nonce: Option<String>,
    /// The body of a message.
    pub body: Option<Value>,
    /// The users whom a `joined` or `left` event is about.
    #[serde(default)]
    pub users: Vec<UserId>,
    /// The user who added or removed them, if it was not the users themselves.
    pub by: Option<UserId>,
    /// Why they ceased to be members: `kicked`, `banned` or `deleted`.
    pub reason: Option<String>,
    /// The seq of the message that an edit, a deletion or a reaction is about.
    #[serde(rename = "ref")]
    pub target: Option<u64>,
    /// The seq of the event that edited this message last.
    pub edited: Option<u64>,
    /// The seq of the event that deleted this message.
    pub deleted: Option<u64>,
    /// A reaction.
    pub emoji: Option<String>,
    /// Whether the reaction is taken back.
    #[serde(default)]
    pub remove: bool,
}

impl EventFrame {
    /// Returns `body.text`.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.body.as_ref()?.get("text")?.as_str()
    }
}

/// `room_added`: the user is in a room that the session may not know.
#[derive(Debug, Serialize)]
pub struct RoomAdded<'a> {
    /// [`RoomInfo`], encoded by the room's owner. `None` if it could not be read.
    pub info: Option<&'a RawValue>,
}

impl OpFrame for RoomAdded<'_> {
    const OP: &'static str = "room_added";
}

/// `room_removed`: the user is no longer a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRemoved {
    /// The room.
    pub room: RoomId,
    /// The reason: `left`, `kicked`, `banned` or `deleted`.
    pub reason: String,
}

impl OpFrame for RoomRemoved {
    const OP: &'static str = "room_removed";
}

/// `marker`: how far the user has read on another device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkerFrame {
    /// The room.
    pub room: RoomId,
    /// The seq of the last event read.
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
    /// The reason: `drain`.
    pub reason: String,
    /// How long to wait before reconnecting, in milliseconds.
    pub reconnect_in_ms: u64,
}

impl OpFrame for Bye {
    const OP: &'static str = "bye";
}

impl Bye {
    /// Asks the client to reconnect after `reconnect_in_ms`, with the reason `drain`.
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
