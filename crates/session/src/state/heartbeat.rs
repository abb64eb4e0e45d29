//! Heartbeats, what their answers confirm, and the end of silent and expired sessions.

use std::time::Duration;

use bytes::Bytes;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::server_frame::{OpFrame, Ping};
use sendpi_model::timing::{CLOSE_CONFIRMS_AFTER, CLOSE_TIMEOUT};
use sendpi_model::{CloseCode, Millis};
use tokio::time::Instant;

use super::State;
use crate::client::ws_frame;
use crate::config::SessionConfig;
use crate::keys::SessionKey;
use crate::state::effects::Effects;

impl State {
    /// Returns the length of a tick, to which heartbeats are exact.
    pub(crate) fn tick_of(config: &SessionConfig) -> Duration {
        (config.heartbeat.min(config.pong_timeout) / 8).clamp(Duration::from_millis(5), Duration::from_millis(250))
    }

    /// Does what is due by `now`: queues heartbeats, and closes the sessions that do not answer or whose token has
    /// expired.
    pub(crate) fn beat(&mut self, now: Instant, wall: Millis, effects: &mut Effects) {
        let ping = ws_frame::text(&Ping {}.to_frame());
        for (key, tick) in self.timers.due(now) {
            // A replaced entry of the wheel ends here: only the entry that `due` names counts.
            if self.sessions.get_mut(key).is_some_and(|session| session.due.take_if(|due| *due == tick).is_some()) {
                self.beat_one(key, &ping, now, wall, effects);
            }
        }
    }

    /// Schedules the next look at a session. It replaces the one that was scheduled before.
    pub(super) fn schedule_beat(&mut self, key: SessionKey, at: Instant) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.due = Some(self.timers.schedule(key, at));
        }
    }

    fn beat_one(&mut self, key: SessionKey, ping: &Bytes, now: Instant, wall: Millis, effects: &mut Effects) {
        let Some(session) = self.sessions.get(key) else { return };
        if session.outbound.is_closing() {
            return self.end_closing(key, now);
        }
        let (timeout, heartbeat) = (self.config.pong_timeout, self.config.heartbeat);
        let held = session.held_from().into_iter().chain(session.user.and_then(|user| self.held_by_gaps(user))).min();
        let end = held.map_or(self.unconfirmed.end(), |held| held.min(self.unconfirmed.end()));
        let Some(session) = self.sessions.get_mut(key) else { return };
        let silent = session.beat.waiting_since.is_some_and(|since| now - since >= timeout);
        let closed = if wall >= session.expires_at && !mutant(Mutant::ExpiryForgiven) {
            Some(CloseCode::TokenExpired)
        } else if silent && !mutant(Mutant::SilenceForgiven) {
            Some(CloseCode::NoSignOfLife)
        } else {
            None
        };
        if let Some(code) = closed {
            session.outbound.close(code);
            effects.touch(&session.outbound);
            return self.end_closing(key, now);
        }
        if session.beat.waiting_since.is_none() && now >= session.beat.next {
            session.pinged = end.max(session.confirmed);
            session.outbound.push(ping.clone(), false);
            effects.touch(&session.outbound);
            session.beat.waiting_since = Some(now);
            session.beat.next = now + heartbeat;
        }
        let next = session.beat.waiting_since.map_or(session.beat.next, |since| since + timeout);
        let expiry = now + session.expires_at.since(wall).min(Duration::from_secs(24 * 3600));
        self.schedule_beat(key, next.min(expiry));
    }

    /// Gives every session this much more time to answer, because the process was frozen for so long and could read no
    /// answer.
    pub(crate) fn excuse_silence(&mut self, frozen: Duration) {
        for (_, session) in self.sessions.iter_mut() {
            session.beat.waiting_since = session.beat.waiting_since.map(|since| since + frozen);
        }
    }

    /// Ends a session that the node closed, even if its socket does not take the close frame in time.
    fn end_closing(&mut self, key: SessionKey, now: Instant) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let since = *session.closing_since.get_or_insert(now);
        if now - since >= CLOSE_TIMEOUT {
            session.outbound.abandon();
        } else {
            self.schedule_beat(key, since + CLOSE_TIMEOUT);
        }
    }

    /// Handles the answer to a heartbeat: everything that was queued before the heartbeat has arrived.
    pub(crate) fn pong(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.get_mut(key)
            && session.beat.waiting_since.take().is_some()
        {
            session.confirmed = session.confirmed.max(session.pinged);
        }
    }

    /// Handles the client's own close frame. It confirms what was written `CLOSE_CONFIRMS_AFTER` earlier. It
    /// confirms nothing if something that was queued by then may have been written later, or never.
    pub(crate) fn client_closed(&mut self, key: SessionKey, now: Instant) {
        let answered = self.unconfirmed.answered_by_close(now);
        let Some(session) =
            self.sessions.get(key).filter(|session| session.outbound.was_prompt(CLOSE_CONFIRMS_AFTER, now))
        else {
            return;
        };
        let held = session.held_from().into_iter().chain(session.user.and_then(|user| self.held_by_gaps(user))).min();
        if let Some(session) = self.sessions.get_mut(key) {
            session.confirmed = session.confirmed.max(held.map_or(answered, |held| held.min(answered)));
        }
    }

    /// Handles the renewal of a session's token.
    pub(crate) fn renewed(&mut self, key: SessionKey, expires_at: Millis, now: Instant) {
        if let Some(session) = self.sessions.get_mut(key) {
            let earlier = expires_at < session.expires_at;
            session.expires_at = expires_at;
            if earlier {
                self.schedule_beat(key, now);
            }
        }
    }

    /// Removes what every signed-in session has confirmed from the log of unconfirmed events.
    pub(crate) fn settle(&mut self) {
        let end = self.unconfirmed.end();
        let signed_in = self.sessions.iter().filter(|(_, session)| session.user.is_some());
        let floor = signed_in.map(|(_, session)| session.confirmed).min().unwrap_or(end);
        let Self { unconfirmed, rooms, .. } = self;
        unconfirmed.confirm(floor, |room| {
            if let Some(room) = rooms.get_mut(room) {
                room.recent.pop_front();
                if room.recent.is_empty() {
                    room.recent.shrink_to(0);
                }
            }
        });
    }
}
