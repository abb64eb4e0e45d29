//! What a member may do, who may come in, and what pushes.

use serde::{Deserialize, Serialize};

/// A member's role in a room; a later one may do all that an earlier one may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sends, reads, leaves.
    Member,
    /// Invites as well, and keeps order.
    Admin,
    /// May do everything.
    Owner,
}

/// Who may join a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Whoever was invited.
    #[default]
    Invite,
    /// Anybody who is not banned.
    Open,
}

/// What a room is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomKind {
    /// Any number of members.
    #[default]
    Group,
    /// Exactly two.
    Direct,
    /// One user's own: what services tell this user.
    Inbox,
}

/// Which of a room's messages push to a member who is offline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    /// Every one.
    All,
    /// Those that mention this member.
    Mentions,
    /// None.
    None,
}
