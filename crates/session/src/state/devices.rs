//! The devices of a user: one session each, and a limited number.
//!
//! Sessions of one device on different nodes are ordered by their stamps, which no clock takes part in: the stamp of
//! a session is the revision of a write of its user's presence key that began after the session had joined. The
//! session with the highest stamp remains.

use std::sync::Arc;

use sendpi_bus::Revision;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{CloseCode, DeviceId, UserId, limits};
use tokio::time::Instant;

use super::State;
use crate::client::outbound::Outbound;
use crate::keys::{SessionKey, UserKey};
use crate::state::effects::Effects;

/// The open sessions of a user on one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OpenSessions {
    pub(crate) count: usize,
    /// When the one was heard last that would be closed first. `None` if there is none.
    pub(crate) heard: Option<Instant>,
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
        self.keep_sessions(user, limits::USER_SESSIONS - 1, None, effects);
    }

    /// Returns the open sessions of a user here. `newest` is counted, and would not be closed.
    pub(crate) fn open_sessions(&self, user: &UserId, newest: Option<SessionKey>) -> OpenSessions {
        let Some(user) = self.user_index.get(user) else { return OpenSessions::default() };
        let count = self.open_of(*user).count();
        let silent = self.open_of(*user).filter(|(key, _)| Some(*key) != newest).map(|(_, outbound)| outbound);
        OpenSessions { count, heard: silent.map(|outbound| outbound.last_heard()).min() }
    }

    /// Returns whether a session is the last one that its user opened here.
    pub(crate) fn is_newest(&self, key: SessionKey) -> bool {
        let user = self.sessions.get(key).and_then(|session| session.user);
        user.and_then(|user| self.open_of(user).last()).is_some_and(|(newest, _)| newest == key)
    }

    fn open_of(&self, user: UserKey) -> impl Iterator<Item = (SessionKey, &Arc<Outbound>)> {
        let keys = self.users.get(user).map(|user| user.sessions.as_slice()).unwrap_or_default();
        let sessions = keys.iter().filter_map(|key| Some((*key, &self.sessions.get(*key)?.outbound)));
        sessions.filter(|(_, outbound)| !outbound.is_closing())
    }

    /// Closes those sessions of a user here that have been silent longest, until at most so many are left. It does not
    /// close `newest`.
    fn keep_sessions(&self, user: UserKey, most: usize, newest: Option<SessionKey>, effects: &mut Effects) {
        let mut open: Vec<_> = self.open_of(user).collect();
        let more = open.len().saturating_sub(most);
        open.retain(|(key, _)| Some(*key) != newest);
        open.sort_by_key(|(_, outbound)| outbound.last_heard());
        for (_, silent) in open.into_iter().take(more) {
            silent.close(CloseCode::TooManySessions);
            effects.touch(silent);
        }
    }

    /// Does the same for a user who may have none here, because another node asks for it.
    pub(crate) fn keep_sessions_of(
        &self,
        user: &UserId,
        most: usize,
        newest: Option<SessionKey>,
        effects: &mut Effects,
    ) {
        if let Some(user) = self.user_index.get(user) {
            self.keep_sessions(*user, most, newest, effects);
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

    /// Returns all sessions that have a device and a stamp, with their users.
    pub(crate) fn stamped_devices(&self) -> Vec<(SessionKey, UserId)> {
        let stamped = self.sessions.iter().filter(|(_, session)| session.device.is_some() && session.stamp.is_some());
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
