//! The shapes of requests and answers that have no type of their own, for the OpenAPI document. They are read field by
//! field, as on a WebSocket, so that an error names the field.

#![expect(dead_code, reason = "these types only describe")]

use std::collections::BTreeMap;

use sendpi_model::{Access, EventKind, Millis, Notify, Role, RoomInfo, RoomKind};
use utoipa::ToSchema;

/// A new room.
#[derive(ToSchema)]
pub(super) struct Create {
    /// The name. Required unless the room is direct.
    name: Option<String>,
    /// How many days the room's events are kept, up to 3,650. 0 is for ever; without it the cluster's setting counts.
    retention_days: Option<u16>,
    /// The members beside the caller, up to 100. A direct room has exactly one.
    members: Option<Vec<String>>,
    access: Option<Access>,
    kind: Option<RoomKind>,
    /// A chosen id. Not for direct rooms.
    room: Option<String>,
    /// The caller's name for this creation. The same caller and nonce are the same room.
    nonce: Option<String>,
}

/// A room that was created.
#[derive(ToSchema)]
pub(super) struct CreatedRoom {
    info: RoomInfo,
    /// Whether it had been made before.
    repeat: Option<bool>,
}

/// What changes of a room.
#[derive(ToSchema)]
pub(super) struct Change {
    name: Option<String>,
    access: Option<Access>,
    /// How many days the events from now on are kept, up to 3,650. 0 is for ever.
    retention_days: Option<u16>,
}

/// What becomes of a user in a room. Without any field the user becomes a member.
#[derive(ToSchema)]
pub(super) struct Membership {
    role: Option<Role>,
    banned: Option<bool>,
}

/// A message.
#[derive(ToSchema)]
pub(super) struct Send {
    /// Any JSON object up to 16 KiB. Its `text` is what a push shows.
    #[schema(value_type = Object)]
    body: serde_json::Value,
    /// The caller's name for the message. The same room, sender and nonce are the same message.
    nonce: Option<String>,
    /// On every try but the first, the seq that the caller knew at the first one.
    retry: Option<u64>,
    /// Up to 50 users, or `*` for all members.
    mentions: Option<Vec<String>>,
}

/// The new body of a message.
#[derive(ToSchema)]
pub(super) struct Edit {
    #[schema(value_type = Object)]
    body: serde_json::Value,
}

/// What was done.
#[derive(ToSchema)]
pub(super) struct Done {
    /// The seq of the event that was made.
    seq: Option<u64>,
    /// The number of messages up to it.
    count: Option<u64>,
    /// Its time.
    at: Option<Millis>,
    /// Whether it had been done before.
    repeat: Option<bool>,
}

/// A page of a timeline.
#[derive(ToSchema)]
pub(super) struct HistoryAnswer {
    room: String,
    /// Oldest first.
    events: Vec<DurableEvent>,
    /// Whether there are more in the direction that was asked for.
    more: bool,
}

/// A durable event. Which fields it has beside the first ones depends on its kind.
#[derive(ToSchema)]
pub(super) struct DurableEvent {
    op: String,
    room: String,
    seq: u64,
    count: u64,
    kind: EventKind,
    from: String,
    at: Millis,
    nonce: Option<String>,
    #[schema(value_type = Option<Object>)]
    body: Option<BTreeMap<String, String>>,
    mentions: Option<Vec<String>>,
    /// The seq of the event that edited this message last.
    edited: Option<u64>,
    /// The seq of the event that deleted this message.
    deleted: Option<u64>,
    /// The message that an edit, a deletion or a reaction is about.
    #[schema(rename = "ref")]
    target: Option<u64>,
    emoji: Option<String>,
    remove: Option<bool>,
    users: Option<Vec<String>>,
    by: Option<String>,
    reason: Option<String>,
    name: Option<String>,
    access: Option<Access>,
    retention_days: Option<u16>,
    #[schema(value_type = Option<Object>)]
    role: Option<BTreeMap<String, String>>,
    unbanned: Option<String>,
}

/// What a step of forgetting a user has removed.
#[derive(ToSchema)]
pub(super) struct Forgotten {
    /// The messages whose bodies were removed.
    messages: usize,
    /// The rooms that were searched to their end.
    rooms: usize,
    /// The devices whose push addresses were removed.
    devices: usize,
    /// Rooms that could not be searched now. Forget the user again when their owners answer.
    skipped: Vec<String>,
    /// The `cursor` of the next step. Without it, nothing is left.
    next: Option<String>,
}

/// Up to where the caller has read.
#[derive(ToSchema)]
pub(super) struct ReadUpTo {
    seq: u64,
}

/// Which messages are pushed.
#[derive(ToSchema)]
pub(super) struct NotifyChoice {
    notify: Option<Notify>,
    /// `null` ends the mute.
    muted_until: Option<Millis>,
}
