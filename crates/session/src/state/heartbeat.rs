//! Heartbeats, what their answers confirm, and the end of silent and expired sessions.

use std::time::Duration;

use bytes::Bytes;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::server_frame::{OpFrame, Ping};
use sendpi_model::timing::CLOSE_CONFIRMS_AFTER;
use sendpi_model::{CloseCode, Millis};
use tokio::time::Instant;

use super::State;
use crate::client::transport::Identity;
use crate::client::ws_frame;
use crate::config::SessionConfig;
use crate::keys::SessionKey;
use crate::state::effects::Effects;
use crate::state::session_state::{Heartbeat, HeartbeatState};

impl State {
    /// Returns the length of a tick, to which heartbeats are exact.
    pub(crate) fn tick_of(config: &SessionConfig) -> Duration {
        (config.heartbeat.min(config.pong_timeout) / 8).clamp(Duration::from_millis(5), Duration::from_millis(250))
    }

    /// Does what is due by `now`: queues heartbeats, and closes the sessions that do not answer or whose token has
    /// expired. Also closes the slowest sessions if too much waits for all of them.
    pub(crate) fn beat(&mut self, now: Instant, wall: Millis, effects: &mut Effects) {
        let ping = ws_frame::text(&Ping {}.to_frame());
        for (key, tick) in self.timers.due(now) {
            // A replaced entry of the wheel ends here: only the entry that `due` names counts.
            if self.sessions.get_mut(key).is_some_and(|session| session.due.take_if(|due| *due == tick).is_some()) {
                self.beat_one(key, &ping, now, wall, effects);
            }
        }
        self.relieve(effects);
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
            return;
        }
        let timeouts = (self.config.pong_timeout, self.config.slow_timeout);
        if wall >= session.expires_at && !mutant(Mutant::ExpiryForgiven) {
            session.outbound.close(CloseCode::TokenExpired);
            return effects.touch(&session.outbound);
        }
        let next = match session.heartbeat(timeouts, now) {
            HeartbeatState::Silent if !mutant(Mutant::SilenceForgiven) => {
                session.outbound.close(CloseCode::NoSignOfLife);
                return effects.touch(&session.outbound);
            }
            HeartbeatState::Slow => {
                session.outbound.give_up();
                return effects.touch(&session.outbound);
            }
            HeartbeatState::Waiting(until) => until,
            HeartbeatState::Answered if now >= session.beat.next => {
                self.ping(key, ping, now, effects);
                now + self.config.pong_timeout
            }
            HeartbeatState::Answered | HeartbeatState::Silent => session.beat.next.max(now),
        };
        let expires_at = self.sessions.get(key).map_or(wall, |session| session.expires_at);
        let expiry = now + expires_at.since(wall).min(Duration::from_secs(24 * 3600));
        self.schedule_beat(key, next.min(expiry));
    }

    /// Notes that a tick has come. If it is late, every session gets as much more time to answer, because the process
    /// could read no answer meanwhile.
    pub(crate) fn note_tick(&mut self, now: Instant) {
        let excused = self.lateness.note_tick(now);
        if excused.is_zero() {
            return;
        }
        for (_, session) in self.sessions.iter_mut() {
            session.beat.waiting_since = session.beat.waiting_since.map(|since| since + excused);
            session.outbound.excuse_silence(excused);
        }
    }

    /// Queues a heartbeat for a session that has answered the one before. Its answer will confirm everything up to
    /// here, but for what is held back.
    pub(super) fn ping(&mut self, key: SessionKey, ping: &Bytes, now: Instant, effects: &mut Effects) {
        let Some(session) = self.sessions.get(key) else { return };
        let held = session.held_from().into_iter().chain(session.user.and_then(|user| self.held_by_gaps(user))).min();
        let end = held.map_or(self.unconfirmed.end(), |held| held.min(self.unconfirmed.end()));
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.pinged = end.max(session.confirmed);
        session.outbound.push_ping(ping.clone());
        effects.touch(&session.outbound);
        session.beat = Heartbeat { waiting_since: Some(now), next: now + self.config.heartbeat };
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
    /// confirms nothing if something that was queued by then may have been written later, or never, or if the frame may
    /// be older than it seems, because this node could not read it before.
    pub(crate) fn client_closed(&mut self, key: SessionKey, now: Instant) {
        if !self.lateness.was_in_time(now) {
            return;
        }
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
    pub(crate) fn renewed(&mut self, key: SessionKey, who: &Identity, now: Instant) {
        if let Some(session) = self.sessions.get_mut(key) {
            let earlier = who.expires_at < session.expires_at;
            (session.issued_at, session.expires_at) = (who.issued_at, who.expires_at);
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
