//! A room as one of its members sees it: ROOM in the client protocol.

use serde::{Deserialize, Serialize};

use crate::{Access, EventKind, Millis, Notify, Role, RoomId, RoomKind, UserId};

/// A place in a timeline, with the count at that place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Mark {
    /// The seq.
    pub seq: u64,
    /// The count at that seq.
    pub count: u64,
}

/// The last message of a room, shortened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Preview {
    /// The seq of the message.
    pub seq: u64,
    /// `message` or `system`.
    pub kind: EventKind,
    /// The sender.
    pub from: UserId,
    /// The time of the message.
    pub at: Millis,
    /// The first characters of `body.text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// ROOM in the client protocol: what the owner of a room reports about it to one of its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RoomInfo {
    /// The room.
    pub room: RoomId,
    /// The name of the room.
    pub name: String,
    /// The purpose of the room.
    pub kind: RoomKind,
    /// Who may join.
    pub access: Access,
    /// The role of this member.
    pub role: Role,
    /// The seq of the head.
    pub seq: u64,
    /// The count of the head.
    pub count: u64,
    /// How far this member has read. The owner reports the mark at which the member joined, or that of the member's own
    /// last message.
    pub marker: Mark,
    /// The count of the head minus the count of the marker.
    pub unread: u64,
    /// Which messages cause a push to this member.
    pub notify: Notify,
    /// The time until which no message causes a push.
    pub muted_until: Option<Millis>,
    /// The time of the last message, or of this member's joining if it is later. Lists of rooms are ordered by it.
    pub last_at: Millis,
    /// The last message.
    pub last: Option<Preview>,
    /// The number of members.
    pub members: u32,
    /// How many days events are kept, if that was chosen for this room. 0 is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<u16>,
}

impl RoomInfo {
    /// Replaces the marker with the one that the user tier holds, if that is higher, and updates `unread`.
    #[must_use]
    pub fn with_marker(mut self, marker: Option<Mark>) -> Self {
        if let Some(marker) = marker {
            self.marker = self.marker.max(marker);
        }
        self.unread = self.count.saturating_sub(self.marker.count);
        self
    }
}
