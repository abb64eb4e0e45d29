//! Answers to the requests of clients and nodes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::OpFrame;
use crate::{Head, Mark, Millis, Rates, RoomId, RoomInfo, UserId, limits};

/// `ok`: the request was carried out. Which fields are present depends on the request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OkAnswer {
    /// The seq of the event that was created, or of the read marker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The count at that seq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The time of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Millis>,
    /// The room, for `create` and for the `attach` and `peek` of a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<RoomInfo>,
    /// Whether the room's channel is active. In the answer to an attach it means that the user is in L1.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub live: bool,
    /// Whether the request had been carried out before. The answer then has the result of the first time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeat: bool,
    /// When the renewed token expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Millis>,
}

impl OpFrame for OkAnswer {
    const OP: &'static str = "ok";
}

impl OkAnswer {
    /// Answers a request after which nothing was left to do.
    #[must_use]
    pub fn repeated() -> Self {
        Self { repeat: true, ..Self::default() }
    }

    /// Answers with the head of the event that the request created. `repeat` means that an earlier try created it.
    #[must_use]
    pub fn event(head: Head, repeat: bool) -> Self {
        Self { seq: Some(head.seq), count: Some(head.count), at: Some(head.at), repeat, ..Self::default() }
    }

    /// Answers with a room as one of its members sees it.
    #[must_use]
    pub fn room(info: RoomInfo, live: bool, repeat: bool) -> Self {
        Self { info: Some(info), live, repeat, ..Self::default() }
    }

    /// Answers with where a read marker is now.
    #[must_use]
    pub fn marker(mark: Mark) -> Self {
        Self { seq: Some(mark.seq), count: Some(mark.count), ..Self::default() }
    }

    /// Answers that the token was renewed.
    #[must_use]
    pub fn renewed(expires_at: Millis) -> Self {
        Self { expires_at: Some(expires_at), ..Self::default() }
    }

    /// Returns the place in the timeline that the answer contains. `None` if it contains none.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        Some(Mark { seq: self.seq?, count: self.count? })
    }
}

/// `heads`: the answer of a partition's owner to a node, and a node's notice to a session that it missed something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadsAnswer {
    /// Each room with the seq of its head.
    pub rooms: BTreeMap<RoomId, u64>,
}

impl OpFrame for HeadsAnswer {
    const OP: &'static str = "heads";
}

/// `pong`: the answer to a client's `ping`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {}

impl OpFrame for Pong {
    const OP: &'static str = "pong";
}

/// `welcome`: the answer to `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The user who is signed in.
    pub user: UserId,
    /// The name of the session.
    pub session: String,
    /// The time of the server's clock.
    pub now: Millis,
    /// When the token expires.
    pub expires_at: Millis,
    /// How often the server asks for a sign of life, in milliseconds.
    pub heartbeat_ms: u64,
    /// The first page of rooms.
    pub rooms: Vec<RoomInfo>,
    /// Where the next page begins. `None` if this is the last page.
    pub next: Option<String>,
    /// The limits that concern a client.
    #[serde(default)]
    pub limits: WelcomeLimits,
    /// The optional features of this server.
    #[serde(default)]
    pub caps: Vec<String>,
}

impl OpFrame for Welcome {
    const OP: &'static str = "welcome";
}

/// The limits in [`crate::limits`] that `welcome` reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "each is documented in `limits`, under a name of its own")]
pub struct WelcomeLimits {
    pub frame_bytes: usize,
    pub body_bytes: usize,
    pub requests: usize,
    pub history: usize,
    pub rooms: usize,
    pub members: usize,
    pub mentions: usize,
    pub users: usize,
    pub resume_rooms: usize,
    pub resume_room_events: usize,
    pub resume_events: usize,
    pub rates: Rates,
}

impl WelcomeLimits {
    /// Returns the limits with these rates.
    #[must_use]
    pub fn with_rates(rates: Rates) -> Self {
        Self { rates, ..Self::default() }
    }
}

impl Default for WelcomeLimits {
    fn default() -> Self {
        Self {
            frame_bytes: limits::FRAME_BYTES,
            body_bytes: limits::BODY_BYTES,
            requests: limits::SESSION_REQUESTS,
            history: limits::PAGE_MESSAGES,
            rooms: limits::PAGE_ROOMS,
            members: limits::PAGE_MEMBERS,
            mentions: limits::MENTIONS,
            users: limits::USERS_PER_REQUEST,
            resume_rooms: limits::RESUME_ROOMS,
            resume_room_events: limits::RESUME_ROOM_EVENTS,
            resume_events: limits::RESUME_EVENTS,
            rates: Rates::default(),
        }
    }
}

/// `resumed`: the end of a replay, and the state of each room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// The state of each room.
    pub rooms: BTreeMap<RoomId, ResumedRoom>,
}

impl OpFrame for Resumed {
    const OP: &'static str = "resumed";
}

/// The state of a resumed room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumedRoom {
    /// The seq up to which the client has everything. If `truncated`, it is the seq of the room's head, or the seq
    /// that the client sent if the owner did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Whether the replay is incomplete. The client then pages through `history`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Whether the user is no longer a member.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}
