//! The devices of a user: one session each, and a limited number on this node.
//!
//! Sessions of one device on different nodes are ordered by their stamps, which no clock takes part in: the stamp of
//! a session is the revision of a write of its user's presence key that began after the session had joined. The
//! session with the highest stamp remains.

use sendpi_bus::Revision;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{CloseCode, DeviceId, UserId, limits};

use super::State;
use crate::keys::{SessionKey, UserKey};
use crate::state::effects::Effects;

impl State {
    /// Closes the user's older sessions of a device. If the user still has as many sessions as a user may have on a
    /// node, closes the one that has been silent longest.
    pub(super) fn make_place(&mut self, user: UserKey, device: Option<&DeviceId>, effects: &mut Effects) {
        let others = self.users.get(user).map(|user| user.sessions.as_slice()).unwrap_or_default();
        let mut open = Vec::new();
        for other in others.iter().filter_map(|key| self.sessions.get(*key)) {
            if device.is_some() && other.device.as_ref() == device && !mutant(Mutant::SameDeviceStays) {
                other.outbound.close(CloseCode::Replaced);
                effects.touch(&other.outbound);
            } else if !other.outbound.is_closing() {
                open.push(&other.outbound);
            }
        }
        if open.len() >= limits::USER_SESSIONS
            && let Some(silent) = open.into_iter().min_by_key(|outbound| outbound.last_heard())
        {
            silent.close(CloseCode::TooManySessions);
            effects.touch(silent);
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
