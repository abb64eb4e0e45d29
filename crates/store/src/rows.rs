//! The rows of the store. A row is written whole. Of two writes of one key, the one with the higher stamp stays.

use std::time::Duration;

use sendpi_model::{
    Access, DeviceId, Event, Head, Mark, Millis, Nonce, Notify, Partition, Preview, PushAddress, Role, RoomId,
    RoomKind, UserId,
};
use serde::{Deserialize, Serialize};

use crate::Stamp;

/// An epoch that was claimed, before which no other epoch of the partition may write any more. Key: partition, epoch,
/// claim. It never changes. Two claims of one epoch (the leases may go back in time) are two rows, so that whoever
/// came second sees that there is another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The epoch.
    pub epoch: u64,
    /// The random id of the claim.
    pub claim: String,
}

/// The beginning of an epoch in a room's timeline. Key: room, epoch. It is written once and never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The epoch that begins.
    pub epoch: u64,
    /// The first seq that the epoch may write.
    pub next_seq: u64,
    /// The epoch that it continues: the newest one that it saw which has a seq of its own before `next_seq`.
    pub continues: Option<u64>,
}

/// An event as one epoch wrote it. Key: room, seq, epoch. [`crate::EpochChain`] determines whether it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// The epoch that wrote the event.
    pub epoch: u64,
    /// The event.
    pub event: Event,
    /// When the row is to be gone. `None`: never. A database tells it to the second.
    pub expires: Option<Millis>,
}

/// Whose event it is and under which nonce, without the frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonceRow {
    /// The epoch that wrote the event.
    pub epoch: u64,
    /// The head after the event.
    pub head: Head,
    /// The user who caused the event.
    pub from: UserId,
    /// The sender's name for the event.
    pub nonce: Nonce,
}

/// A room and its head. Key: room. It never expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRow {
    /// The room.
    pub room: RoomId,
    /// The stamp, which rises with seq.
    pub stamp: Stamp,
    /// The name of the room.
    pub name: String,
    /// The purpose of the room.
    pub kind: RoomKind,
    /// Who may join.
    pub access: Access,
    /// The user who created the room. A second creation with the same creator and nonce is a repeat.
    pub creator: UserId,
    /// The nonce of the creation.
    pub nonce: String,
    /// The number of members.
    pub members: u32,
    /// The head of the timeline when this row was written.
    pub head: Head,
    /// The last message.
    pub last: Option<Preview>,
    /// The seq up to which the members' rows show the room in its place, if that is before the head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<u64>,
    /// How many days an event of the room is kept. 0 is for ever, and `None` is what the worker is configured for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<u16>,
    /// Whether the room has been deleted. Its id is never used again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

impl RoomRow {
    /// Returns for how long events of the room are kept. `None` is for ever. `default_days` counts if the room does not
    /// say.
    #[must_use]
    pub fn kept(&self, default_days: u16) -> Option<Duration> {
        let days = self.retention_days.unwrap_or(default_days);
        (days > 0).then(|| Duration::from_hours(24) * u32::from(days))
    }

    /// Returns the row without a last message that has expired.
    #[must_use]
    pub fn without_expired(self, default_days: u16, now: Millis) -> Self {
        let kept = self.kept(default_days);
        let is_there = |last: &Preview| kept.is_none_or(|kept| last.at > now.before(kept));
        let last = self.last.clone().filter(is_there);
        Self { last, ..self }
    }

    /// Returns the seq up to which the members' rows show the room in its place.
    #[must_use]
    pub fn listed(&self) -> u64 {
        self.listed.unwrap_or(self.head.seq)
    }
}

/// A member of a room, or somebody who is banned from it. Key: room, user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
    /// The stamp: the seq of the membership change that this row follows, with a turn for each choice of what is
    /// pushed.
    pub stamp: Stamp,
    /// The role of the member. `None` if the user is no longer a member.
    pub role: Option<Role>,
    /// The head when the member joined.
    pub joined: Mark,
    /// The time at which the member joined.
    pub joined_at: Millis,
    /// Which messages cause a push to the member.
    pub notify: Notify,
    /// The time until which no message causes a push.
    pub muted_until: Option<Millis>,
    /// Whether the user is banned, and thereby no member.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub banned: bool,
}

/// A room of a user. Key: user, room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomOfUser {
    /// The user.
    pub user: UserId,
    /// The room.
    pub room: RoomId,
    /// The stamp, which rises with seq.
    pub stamp: Stamp,
    /// The role of the user. `None` if the user is no longer a member.
    pub role: Option<Role>,
    /// The head when the user joined. It is the read marker if no higher one is stored.
    pub joined: Mark,
    /// The time of the last message when this row was written, which is at a join, a change of role, a leave or an
    /// eviction, or the time of the user's joining if that is later.
    pub active_at: Millis,
}

/// An order row, which lets a sign-in find an active room: at that time the channel of the room was activated for a
/// durable event, or the user joined. Key: user, `active_at` (newest first), room. It is appended, never deleted,
/// and expires 7 days after it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRow {
    /// The user.
    pub user: UserId,
    /// The time at which the write was first issued.
    pub active_at: Millis,
    /// The room.
    pub room: RoomId,
}

/// How far a user has read. Key: user, room. Stamp: `mark.seq`, so the marker only rises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkerRow {
    /// The user.
    pub user: UserId,
    /// The room.
    pub room: RoomId,
    /// The last event read.
    pub mark: Mark,
}

/// A room that had a durable event in that minute. Key: partition, minute, room. It expires 7 days
/// after it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveRoom {
    /// The room's partition.
    pub partition: Partition,
    /// The minute, counted since 1970 (UTC).
    pub minute: u64,
    /// The room.
    pub room: RoomId,
}

/// The time up to which an epoch is settled. All rows of earlier epochs are settled too.
/// Key: partition, epoch. Stamp: `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledRow {
    /// The epoch.
    pub epoch: u64,
    /// All events of the epoch up to this time are settled.
    pub at: Millis,
}

/// What of a room's newest events is in the push stream, so that the next owner does not push it again.
/// Key: room. Without it, or with an older one, more is pushed twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushedRow {
    /// The room.
    pub room: RoomId,
    /// The stamp: the highest seq that is in the push stream, with a turn for each row that tells less of it.
    pub stamp: Stamp,
    /// What is not settled of it, oldest first.
    pub ranges: Vec<PushedRange>,
}

/// A range of events of which everything that some users want is in the push stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushedRange {
    /// The seq of the first event.
    pub first: u64,
    /// The seq of the last event.
    pub last: u64,
    /// The users, as [`PushedRange::name`] abbreviates them.
    pub users: Vec<u64>,
}

impl PushedRange {
    /// Returns a user as 64 bits: a room has 1,000 members, so that once in 10¹³ rooms two of them are alike.
    #[must_use]
    pub fn name(user: &UserId) -> u64 {
        sendpi_model::fnv1a_64(user.as_str().bytes())
    }
}

/// That a user was signed out everywhere. Key: user. Stamp: `before`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedRow {
    /// The user, or the service.
    pub user: UserId,
    /// Tokens that were issued up to this time sign nobody in.
    pub before: Millis,
}

/// Where a device of a user gets its push notifications. Key: user, device. Stamp: `at`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// The user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// The time of this change.
    pub at: Millis,
    /// The address. `None` if the device is not pushed to any more.
    pub address: Option<PushAddress>,
}

/// A room that was deleted and of which there is something left to remove. Key: partition, room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedRoom {
    /// The room's partition.
    pub partition: Partition,
    /// The room.
    pub room: RoomId,
    /// The time at which it was deleted.
    pub at: Millis,
}

/// One row to be written, with the parts of its key that the row itself does not contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// See [`Fence`].
    Fence(Partition, Fence),
    /// See [`Start`].
    Start(RoomId, Start),
    /// See [`EventRow`].
    Event(RoomId, EventRow),
    /// An [`EventRow`] whose body was revised, in place of the one that was written first. The stamp is the seq of the
    /// event that revised it.
    Revised(RoomId, EventRow, u64),
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
    /// See [`PushedRow`].
    Pushed(PushedRow),
    /// See [`RevokedRow`].
    Revoked(RevokedRow),
    /// See [`DeviceRow`].
    Device(DeviceRow),
    /// See [`DeletedRoom`].
    Deleted(DeletedRoom),
    /// The number of partitions that this store was created for. It is written once.
    Partitions(u16),
}
