//! The user channel: all sessions of one user on this node, and the user's presence.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use sendpi_bus::{Revision, UserSubscription};
use sendpi_model::UserId;
use tokio::sync::watch;

use crate::keys::{RoomKey, SessionKey};

/// A user who has sessions on this node, or who is in an audience on this node without having any.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) sessions: Vec<SessionKey>,
    /// The rooms in which the user has an entry.
    pub(crate) rooms: Vec<RoomKey>,
    pub(crate) presence: UserPresence,
    /// The number of the current sign-in, or else of the last one. 0 before the first.
    pub(crate) signin: u64,
    /// Whether the presence key was requested for the current sessions, with the number `signin`.
    pub(crate) key_requested: bool,
    /// The number of rooms in which the user has a gap.
    pub(crate) gaps: u32,
    pub(crate) subscription: Option<UserSubscription>,
    /// How many requests of all sessions here are unanswered, so that nobody fills the flows for the others.
    pub(crate) unanswered: Arc<AtomicU32>,
}

/// Whether the user counts as online on this node.
#[derive(Debug, Default)]
pub(crate) enum UserPresence {
    /// The user has no session, or the last announcement failed.
    #[default]
    Offline,
    /// The first session waits for the subscription and the presence key. The number distinguishes this
    /// announcement from others.
    Announcing(u64, watch::Receiver<Option<Revision>>),
    /// The presence key is written.
    Online,
}

impl User {
    pub(crate) fn new(id: UserId) -> Self {
        Self {
            id,
            sessions: Vec::new(),
            rooms: Vec::new(),
            presence: UserPresence::Offline,
            signin: 0,
            key_requested: false,
            gaps: 0,
            subscription: None,
            unanswered: Arc::default(),
        }
    }

    /// Returns whether the user has a session on this node, signed in or about to be.
    pub(crate) fn has_sessions(&self) -> bool {
        !self.sessions.is_empty()
    }
}
