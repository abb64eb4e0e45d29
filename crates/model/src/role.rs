//! Roles of members, access to rooms, and push settings.

use serde::{Deserialize, Serialize};

/// A member's role in a room. Each role may do everything that the roles before it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Role {
    /// May send, read and leave.
    Member,
    /// May also invite users and mention all members.
    Admin,
    /// May do everything.
    Owner,
}

/// Who may join a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Access {
    /// Only users who were invited.
    #[default]
    Invite,
    /// Anybody who is not banned.
    Open,
}

/// The purpose of a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RoomKind {
    /// A room with any number of members up to the limit.
    #[default]
    Group,
    /// A room of exactly two users.
    Direct,
    /// A user's own room, in which services write to this user.
    Inbox,
}

/// Which messages of a room cause a push to a member who is offline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Notify {
    /// All messages.
    All,
    /// Only messages that mention the member.
    Mentions,
    /// No messages.
    None,
}
