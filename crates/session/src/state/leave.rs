//! The end of a session, however it came: bounces what no device of the user confirmed, and signs the user out with
//! the last session. Also what informs sessions from outside: read markers.

use sendpi_model::server_frame::{MarkerFrame, OpFrame};
use sendpi_model::{RoomId, UserId};

use super::State;
use crate::client::ws_frame;
use crate::keys::{SessionKey, UserKey};
use crate::state::effects::Effects;
use crate::state::retry_queue::UntakenRange;
use crate::state::session_state::Delivery;
use crate::state::user::UserPresence;

impl State {
    /// Removes a session that has ended.
    pub(crate) fn leave(&mut self, key: SessionKey, effects: &mut Effects) {
        let Some(session) = self.sessions.remove(key) else { return };
        session.outbound.end();
        let Some(user_key) = session.user else { return };
        let Some(user) = self.users.get_mut(user_key) else { return };
        user.sessions.retain(|session| *session != key);
        let last = user.sessions.is_empty();
        if last {
            self.detach(user_key, effects);
        }
        self.bounce_untaken(user_key, session.confirmed, effects);
        if last {
            self.sign_out(user_key, effects);
        }
    }

    fn detach(&mut self, user_key: UserKey, effects: &mut Effects) {
        let Some(user) = self.users.get(user_key).filter(|user| user.key_requested) else { return };
        let (id, signin) = (user.id.clone(), user.signin);
        let there = user.rooms.iter().filter_map(|key| self.rooms.get(*key));
        let there: Vec<RoomId> = there
            .filter(|room| room.is_in_audience(user_key) || room.member(user_key).is_some_and(|member| member.attached))
            .map(|room| room.id.clone())
            .collect();
        for room in there {
            self.owe_detach(&room, &id, signin, effects);
        }
    }

    /// Bounces what came after the ended session's last confirmation, up to the point from which another session of
    /// the user got the events as well: one range for each room.
    fn bounce_untaken(&mut self, user_key: UserKey, confirmed: u64, effects: &mut Effects) {
        let Some(user) = self.users.get(user_key) else { return };
        let others = user.sessions.iter().filter_map(|session| self.sessions.get(*session));
        let until = others.map(|session| session.started).min().unwrap_or(u64::MAX);
        let rooms = user.rooms.iter().filter_map(|key| self.rooms.get(*key));
        let untaken: Vec<(RoomId, UntakenRange)> =
            rooms.filter_map(|room| Some((room.id.clone(), room.untaken(confirmed..until)?))).collect();
        let id = user.id.clone();
        for (room, range) in untaken {
            self.bounce(&room, &id, range, effects);
        }
    }

    fn sign_out(&mut self, user_key: UserKey, effects: &mut Effects) {
        let Some(user) = self.users.get_mut(user_key) else { return };
        user.presence = UserPresence::Offline;
        if std::mem::take(&mut user.key_requested) {
            effects.signed_out.push(user.id.clone());
        }
        effects.unsubscribed.extend(user.subscription.take());
        self.forget_outside_audiences(user_key);
        self.forget_if_gone(user_key);
    }

    /// Sends a read marker that moved on another device to the user's sessions, except to the session that moved it.
    /// What is held back for a session comes first, its welcome too.
    pub(crate) fn send_marker(
        &mut self,
        user: &UserId,
        marker: &MarkerFrame,
        except: Option<SessionKey>,
        effects: &mut Effects,
    ) {
        let Some(user) = self.user_index.get(user).and_then(|key| self.users.get(*key)) else { return };
        let frame = ws_frame::text(&marker.to_frame());
        for session in user.sessions.iter().filter(|session| Some(**session) != except) {
            if let Some(session) = self.sessions.get_mut(*session) {
                let parcel = Delivery { room: &marker.room, seq: 0, position: None, frame: &frame, ephemeral: false };
                session.deliver(parcel, self.config.outbox_bytes, effects);
            }
        }
    }
}
