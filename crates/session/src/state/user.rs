//! A user channel: all sessions of one user on this node.

use sendpi_bus::UserSubscription;
use sendpi_model::UserId;
use tokio::sync::watch;

use crate::keys::{RoomKey, SessionKey};

/// A user who has sessions here, or who is still in an audience here after the last one ended.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) sessions: Vec<SessionKey>,
    /// The rooms in which the user has an entry.
    pub(crate) rooms: Vec<RoomKey>,
    pub(crate) presence: UserPresence,
    /// The number of the present, or else the last, sign-in; 0 before the first.
    pub(crate) signin: u64,
    /// Whether the presence key was asked for with this number.
    pub(crate) key_requested: bool,
    /// In how many rooms something is missing.
    pub(crate) gaps: u32,
    pub(crate) subscription: Option<UserSubscription>,
}

/// Whether the user counts as online here.
#[derive(Debug, Default)]
pub(crate) enum UserPresence {
    /// No session.
    #[default]
    Offline,
    /// The first session waits for the subscription and the key. The number tells this rise from others.
    Announcing(u64, watch::Receiver<bool>),
    /// The key is known to be written.
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
        }
    }

    /// Whether the user has a session here, even if it is only about to be signed in.
    pub(crate) fn has_sessions(&self) -> bool {
        !self.sessions.is_empty()
    }
}
