//! The devices of a user: one session each, and a limited number.
//!
//! Sessions of one device on different nodes are ordered by their stamps, which no clock takes part in: the stamp of
//! a session is the revision of a write of its user's presence key that began after the session had joined. The
//! session with the highest stamp remains.

use sendpi_bus::Revision;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{CloseCode, DeviceId, Millis, RoomId, UserId, limits};
use tokio::time::Instant;

use super::State;
use crate::keys::{SessionKey, UserKey};
use crate::state::effects::Effects;
use crate::state::session_state::SessionState;

/// The open sessions of a user on one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OpenSessions {
    pub(crate) count: usize,
    /// The one that has been silent longest, and when it was heard last. `None` if there is none that may be ended.
    pub(crate) silent: Option<(Instant, SessionKey)>,
    /// The highest stamp.
    pub(crate) stamp: Revision,
}

impl State {
    /// Closes the user's older sessions of a device. If the user still has as many sessions here as a user may have,
    /// closes the one that has been silent longest. Those on other nodes are counted later (`sign_in/other_nodes`).
    pub(super) fn make_place(&mut self, user: UserKey, device: Option<&DeviceId>, effects: &mut Effects) {
        let others = self.users.get(user).map(|user| user.sessions.as_slice()).unwrap_or_default();
        for other in others.iter().filter_map(|key| self.sessions.get(*key)) {
            if device.is_some() && other.device.as_ref() == device && !mutant(Mutant::SameDeviceStays) {
                other.outbound.close(CloseCode::Replaced);
                effects.touch(&other.outbound);
            }
        }
        let open = self.open_of(user).map(|(_, session)| &session.outbound);
        if open.clone().count() >= limits::USER_SESSIONS
            && let Some(silent) = open.min_by_key(|outbound| outbound.last_heard())
        {
            silent.close(CloseCode::TooManySessions);
            effects.touch(silent);
        }
    }

    /// Returns the open sessions of a user here. `newest` is counted, and is not the one to be ended. A session that a
    /// newer one of its device on another node ends once it has its stamp is not counted.
    pub(crate) fn open_sessions(&self, user: &UserId, newest: Option<SessionKey>) -> OpenSessions {
        let Some(user) = self.user_index.get(user) else { return OpenSessions::default() };
        let open = self.open_of(*user).filter(|(_, session)| session.stamp.is_some() || session.outranked == 0);
        let others = open.clone().filter(|(key, _)| Some(*key) != newest);
        OpenSessions {
            count: open.clone().count(),
            silent: others.map(|(key, session)| (session.outbound.last_heard(), key)).min(),
            stamp: open.filter_map(|(_, session)| session.stamp).max().unwrap_or_default(),
        }
    }

    /// Returns how many open sessions a user has here, and up to which event of a room they have. `None` if the room is
    /// not followed here for the user.
    pub(crate) fn sessions_in(&self, user: &UserId, room: &RoomId) -> (usize, Option<u64>) {
        let Some(user) = self.user_index.get(user).copied() else { return (0, None) };
        let room = self.rooms.find(room).and_then(|key| self.rooms.get(key));
        (self.open_of(user).count(), room.and_then(|room| room.member(user)?.last))
    }

    fn open_of(&self, user: UserKey) -> impl Iterator<Item = (SessionKey, &SessionState)> + Clone {
        let keys = self.users.get(user).map(|user| user.sessions.as_slice()).unwrap_or_default();
        let sessions = keys.iter().filter_map(|key| Some((*key, self.sessions.get(*key)?)));
        sessions.filter(|(_, session)| !session.outbound.is_closing())
    }

    /// Closes the sessions of a user whose tokens were issued up to `before`, or do not say when.
    pub(crate) fn revoke(&self, user: &UserId, before: Millis, effects: &mut Effects) {
        let Some(user) = self.user_index.get(user) else { return };
        for (_, session) in self.open_of(*user) {
            if session.issued_at.is_none_or(|issued| issued <= before) {
                session.outbound.close(CloseCode::SignedOut);
                effects.touch(&session.outbound);
            }
        }
    }

    /// Closes a session of a user who has too many, if it is still open.
    pub(crate) fn end_silent(&self, user: &UserId, key: SessionKey, effects: &mut Effects) {
        let Some(session) = self.sessions.get(key).filter(|session| !session.outbound.is_closing()) else { return };
        if session.user.is_some() && session.user == self.user_index.get(user).copied() {
            session.outbound.close(CloseCode::TooManySessions);
            effects.touch(&session.outbound);
        }
    }

    /// Sets the stamp of a session. Returns `false` if the session is ending, perhaps because a session of the same
    /// device with a higher stamp has asked already.
    pub(crate) fn stamp(&mut self, key: SessionKey, stamp: Revision, effects: &mut Effects) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        session.stamp = Some(stamp);
        if session.outranked > stamp {
            session.outbound.close(CloseCode::Replaced);
            effects.touch(&session.outbound);
        }
        !session.outbound.is_closing()
    }

    /// Returns the device and the stamp of a session that is not ending.
    pub(crate) fn stamped(&self, key: SessionKey) -> Option<(Option<DeviceId>, Revision)> {
        let session = self.sessions.get(key).filter(|session| !session.outbound.is_closing())?;
        Some((session.device.clone(), session.stamp?))
    }

    /// Returns all sessions that have a stamp, with their users.
    pub(crate) fn stamped_sessions(&self) -> Vec<(SessionKey, UserId)> {
        let stamped = self.sessions.iter().filter(|(_, session)| session.stamp.is_some());
        stamped.filter_map(|(key, session)| Some((key, self.users.get(session.user?)?.id.clone()))).collect()
    }

    /// Handles the question of another node on which a device of the user signed in with this stamp: closes the older
    /// sessions of the device. Returns the stamp of a newer one, if there is one.
    pub(crate) fn signed_in_elsewhere(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        stamp: Revision,
        effects: &mut Effects,
    ) -> Option<Revision> {
        let user = self.user_index.get(user).and_then(|key| self.users.get(*key))?;
        let mut newer = None;
        for key in &user.sessions {
            let Some(session) = self.sessions.get_mut(*key) else { continue };
            if session.device.as_ref() != Some(device) || session.outbound.is_closing() {
                continue;
            }
            match session.stamp {
                Some(own) if own > stamp => newer = newer.max(Some(own)),
                Some(_) => {
                    session.outbound.close(CloseCode::Replaced);
                    effects.touch(&session.outbound);
                }
                // It is decided when its own stamp comes.
                None => session.outranked = session.outranked.max(stamp),
            }
        }
        newer
    }

    /// Closes a session of whose device there is a newer one on another node.
    pub(crate) fn replaced(&mut self, key: SessionKey, effects: &mut Effects) {
        if let Some(session) = self.sessions.get(key) {
            session.outbound.close(CloseCode::Replaced);
            effects.touch(&session.outbound);
        }
    }
}
