//! The rows of the store. A row is written whole; of two writes of one key the one with the higher stamp stays, and of equal
//! stamps the later one.

use sendpi_model::{Access, Event, Head, Mark, Millis, Notify, Partition, Preview, Role, RoomId, RoomKind, UserId};
use serde::{Deserialize, Serialize};

/// The highest epoch that may write a partition's rooms, and the claim that holds it. Key: partition; stamp: epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The epoch.
    pub epoch: u64,
    /// The random id of the claim that raised it.
    pub claim: String,
}

/// Where an epoch begins in a room's timeline. Key: room, epoch; written once and never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The epoch that begins.
    pub epoch: u64,
    /// The first seq that it may write.
    pub next_seq: u64,
    /// The epoch of the newest start that it saw: the one it continues.
    pub continues: Option<u64>,
}

/// An event as one epoch wrote it. Key: room, seq, epoch. Whether it counts is for [`crate::EpochChain`] to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// The epoch that wrote it.
    pub epoch: u64,
    /// The event.
    pub event: Event,
}

/// A room and its head. Key: room; never expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRow {
    /// Which room.
    pub room: RoomId,
    /// Rises with seq.
    pub stamp: u64,
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub kind: RoomKind,
    /// Who may join.
    pub access: Access,
    /// Who made it, and with which nonce: a second creation with both the same is a repeat.
    pub creator: UserId,
    /// See `creator`.
    pub nonce: String,
    /// How many members.
    pub members: u32,
    /// Where the timeline ended when this was written.
    pub head: Head,
    /// The last message.
    pub last: Option<Preview>,
    /// The room is no more; its id is never used again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// A member of a room. Key: room, user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    /// Which room.
    pub room: RoomId,
    /// Which user.
    pub user: UserId,
    /// The seq of the membership change that this row follows.
    pub stamp: u64,
    /// The member's role; `None` for one who is no member any more.
    pub role: Option<Role>,
    /// The head when the member joined.
    pub joined: Mark,
    /// When the member joined.
    pub joined_at: Millis,
    /// What pushes to the member.
    pub notify: Notify,
    /// Until when nothing does.
    pub muted_until: Option<Millis>,
}

/// A room of a user. Key: user, room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomOfUser {
    /// Which user.
    pub user: UserId,
    /// Which room.
    pub room: RoomId,
    /// Rises with seq.
    pub stamp: u64,
    /// The user's role; `None` where the user is no member any more.
    pub role: Option<Role>,
    /// The read marker, where no higher one is kept.
    pub joined: Mark,
    /// When something last happened, as far as the last eviction knew.
    pub active_at: Millis,
}

/// An order row: this room had its channel activated for a durable event at that time. Key: user, `active_at` (newest first),
/// room; appended, never deleted, gone 7 days after it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRow {
    /// Which user.
    pub user: UserId,
    /// When the write was first issued.
    pub active_at: Millis,
    /// Which room.
    pub room: RoomId,
}

/// Up to where a user has read. Key: user, room; stamp: `mark.seq`, so that it only rises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkerRow {
    /// Which user.
    pub user: UserId,
    /// Which room.
    pub room: RoomId,
    /// Up to where.
    pub mark: Mark,
}

/// A room had a durable event in that minute. Key: partition, minute, room; gone 7 days after it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveRoom {
    /// The room's partition.
    pub partition: Partition,
    /// Minutes since 1970 (UTC).
    pub minute: u64,
    /// Which room.
    pub room: RoomId,
}

/// The minute of a time, as [`ActiveRoom`] counts it.
#[must_use]
pub fn minute(at: Millis) -> u64 {
    at.0 / 60_000
}

/// Everything of this epoch up to `at` is settled, and so are all rows of earlier epochs. Key: partition, epoch; stamp: `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledRow {
    /// Which epoch.
    pub epoch: u64,
    /// Up to which event time.
    pub at: Millis,
}

/// One row to be written, with what its key needs beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// See [`Fence`].
    Fence(Partition, Fence),
    /// See [`Start`].
    Start(RoomId, Start),
    /// See [`EventRow`].
    Event(RoomId, EventRow),
    /// See [`RoomRow`].
    Room(RoomRow),
    /// See [`MemberRow`].
    Member(MemberRow),
    /// See [`RoomOfUser`].
    RoomOfUser(RoomOfUser),
    /// See [`OrderRow`].
    Order(OrderRow),
    /// See [`MarkerRow`].
    Marker(MarkerRow),
    /// See [`ActiveRoom`].
    ActiveRoom(ActiveRoom),
    /// See [`SettledRow`].
    Settled(Partition, SettledRow),
    /// The number of partitions that this store was made for; written once.
    Partitions(u16),
}
