//! The fields of an event that depend on its kind.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::EventKind;
use crate::{Access, Mentions, Role, UserId};

/// The fields of an event that depend on its kind.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Content<'a> {
    /// A message of a member.
    Message(Message<'a>),
    /// A message of a service.
    System(Message<'a>),
    /// The body of a message was replaced.
    Edited {
        /// The seq of the message.
        #[serde(rename = "ref")]
        target: u64,
        /// The seq of the event that edited the message again. The body is gone then.
        #[serde(skip_serializing_if = "Option::is_none")]
        edited: Option<u64>,
        /// The seq of the event that deleted the message. The body is gone then.
        #[serde(skip_serializing_if = "Option::is_none")]
        deleted: Option<u64>,
        /// The new body as the client sent it.
        body: &'a RawValue,
    },
    /// The body of a message was removed.
    Deleted {
        /// The seq of the message.
        #[serde(rename = "ref")]
        target: u64,
    },
    /// A reaction to a message.
    Reaction {
        /// The seq of the message.
        #[serde(rename = "ref")]
        target: u64,
        /// The reaction.
        emoji: &'a str,
        /// Whether it is taken back.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        remove: bool,
    },
    /// Users became members.
    Joined {
        /// The new members.
        users: &'a [UserId],
        /// The user who invited them, if somebody did.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<&'a UserId>,
    },
    /// Users ceased to be members.
    Left {
        /// The former members.
        users: &'a [UserId],
        /// The user who removed them, if somebody did.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<&'a UserId>,
        /// The reason. `None` if they left by themselves.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<LeftReason>,
    },
    /// The room changed, or a member got another role.
    Changed(&'a RoomChange),
}

/// What a message says.
#[derive(Debug, Clone, Serialize)]
pub struct Message<'a> {
    /// The seq of the event that edited it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edited: Option<u64>,
    /// The seq of the event that deleted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<u64>,
    /// The body as it was sent.
    pub body: &'a RawValue,
    /// The users whom it mentions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mentions: Option<&'a Mentions>,
}

/// Why users ceased to be members who did not leave by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeftReason {
    /// An admin kicked them.
    Kicked,
    /// An admin banned them. The event may be about users who were no members.
    Banned,
    /// The room was deleted. The event names no users, because it is about all.
    Deleted,
}

/// What changed of a room, in one event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomChange {
    /// The new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who may join from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// How many days the events from now on are kept. 0 is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<u16>,
    /// The member with another role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleChange>,
    /// The user whose ban ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbanned: Option<UserId>,
}

/// A member's new role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleChange {
    /// The member.
    pub user: UserId,
    /// The new role.
    pub role: Role,
}

impl<'a> Content<'a> {
    /// Returns a new message of a member.
    #[must_use]
    pub fn message(body: &'a RawValue, mentions: Option<&'a Mentions>) -> Self {
        Self::Message(Message { edited: None, deleted: None, body, mentions })
    }

    /// Returns a new edit of a message.
    #[must_use]
    pub fn edit(target: u64, body: &'a RawValue) -> Self {
        Self::Edited { target, edited: None, deleted: None, body }
    }

    /// Returns a new message of a service.
    #[must_use]
    pub fn system(body: &'a RawValue, mentions: Option<&'a Mentions>) -> Self {
        Self::System(Message { edited: None, deleted: None, body, mentions })
    }

    /// Returns the kind of an event with this content.
    pub(super) fn kind(&self) -> EventKind {
        match self {
            Self::Message(_) => EventKind::Message,
            Self::System(_) => EventKind::System,
            Self::Edited { .. } => EventKind::Edited,
            Self::Deleted { .. } => EventKind::Deleted,
            Self::Reaction { .. } => EventKind::Reaction,
            Self::Joined { .. } => EventKind::Joined,
            Self::Left { .. } => EventKind::Left,
            Self::Changed(_) => EventKind::Changed,
        }
    }
}
