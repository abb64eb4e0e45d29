//! A room as one of its members sees it: ROOM of the client protocol.

use serde::{Deserialize, Serialize};

use crate::{Access, Event, EventKind, Millis, Notify, Role, RoomId, RoomKind, UserId};

/// A place in a timeline, with the count there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// The seq.
    pub seq: u64,
    /// The count at that seq.
    pub count: u64,
}

/// The last message of a room, shortened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// Its seq.
    pub seq: u64,
    /// Message or system.
    pub kind: EventKind,
    /// Who sent it.
    pub from: UserId,
    /// When.
    pub at: Millis,
    /// The first characters of `body.text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Preview {
    /// The preview of `event`.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        let (seq, at) = (event.head.seq, event.head.at);
        Self { seq, kind: event.kind, from: event.from.clone(), at, text: event.text() }
    }
}

/// ROOM of the client protocol: what the owner of a room tells about it to one of its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomInfo {
    /// Which room.
    pub room: RoomId,
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub kind: RoomKind,
    /// Who may join.
    pub access: Access,
    /// This member's role.
    pub role: Role,
    /// The seq of the head.
    pub seq: u64,
    /// The count of the head.
    pub count: u64,
    /// Up to where this member has read. The owner tells the mark at which the member joined.
    pub marker: Mark,
    /// Count of the head less count of the marker.
    pub unread: u64,
    /// What pushes to this member.
    pub notify: Notify,
    /// Until when nothing does.
    pub muted_until: Option<Millis>,
    /// When the last durable event happened.
    pub last_at: Millis,
    /// The last message.
    pub last: Option<Preview>,
    /// How many members.
    pub members: u32,
}

impl RoomInfo {
    /// With the read marker that the user tier holds, where it is higher than the one told.
    #[must_use]
    pub fn with_marker(mut self, marker: Option<Mark>) -> Self {
        if let Some(marker) = marker {
            self.marker = self.marker.max(marker);
        }
        self.unread = self.count.saturating_sub(self.marker.count);
        self
    }
}
