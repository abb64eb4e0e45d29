//! Heartbeats, and what their answers confirm.

use std::time::Duration;

use bytes::Bytes;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::server_frame::{OpFrame, Ping};
use sendpi_model::{CloseCode, Millis};
use tokio::time::Instant;

use super::State;

use crate::client::ws_frame;
use crate::config::SessionConfig;
use crate::keys::SessionKey;
use crate::state::effects::Effects;
use crate::state::unconfirmed::CLOSE_ANSWERS_FOR;

/// How long a socket may take to take its close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl State {
    /// How exact heartbeats are.
    pub(crate) fn tick_of(config: &SessionConfig) -> Duration {
        (config.heartbeat.min(config.pong_timeout) / 8).clamp(Duration::from_millis(5), Duration::from_millis(250))
    }

    /// What time asks of sessions: heartbeats, and the end of those that do not answer or whose token ends.
    pub(crate) fn beat(&mut self, now: Instant, wall: Millis, effects: &mut Effects) {
        let ping = ws_frame::text(&Ping {}.to_frame());
        for (key, tick) in self.wheel.due(now) {
            // An entry that was replaced is not followed by another one.
            if self.peers.get_mut(key).is_some_and(|peer| peer.due.take_if(|due| *due == tick).is_some()) {
                self.beat_one(key, &ping, now, wall, effects);
            }
        }
    }

    /// The session is next looked at then, instead of at whatever time it was before.
    pub(super) fn look_at(&mut self, key: SessionKey, at: Instant) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.due = Some(self.wheel.schedule(key, at));
        }
    }

    fn beat_one(&mut self, key: SessionKey, ping: &Bytes, now: Instant, wall: Millis, effects: &mut Effects) {
        let Some(peer) = self.peers.get(key) else { return };
        if peer.line.is_closing() {
            return self.end_closing(key, now);
        }
        let (timeout, heartbeat) = (self.config.pong_timeout, self.config.heartbeat);
        let held = peer.held_from().into_iter().chain(peer.user.and_then(|user| self.held_by_gaps(user))).min();
        let end = held.map_or(self.taken.end(), |held| held.min(self.taken.end()));
        let Some(peer) = self.peers.get_mut(key) else { return };
        let silent = peer.beat.waiting_since.is_some_and(|since| now - since >= timeout);
        let closed = if wall >= peer.expires_at && !mutant(Mutant::ExpiryForgiven) {
            Some(CloseCode::TokenExpired)
        } else if silent && !mutant(Mutant::SilenceForgiven) {
            Some(CloseCode::NoSignOfLife)
        } else {
            None
        };
        if let Some(code) = closed {
            peer.line.close(code);
            effects.touch(&peer.line);
            return self.end_closing(key, now);
        }
        if peer.beat.waiting_since.is_none() && now >= peer.beat.next {
            peer.pinged = end.max(peer.confirmed);
            peer.line.push(ping.clone(), false);
            effects.touch(&peer.line);
            peer.beat.waiting_since = Some(now);
            peer.beat.next = now + heartbeat;
        }
        let next = peer.beat.waiting_since.map_or(peer.beat.next, |since| since + timeout);
        let expiry = now + peer.expires_at.since(wall).min(Duration::from_secs(24 * 3600));
        self.look_at(key, next.min(expiry));
    }

    /// A session that was closed from here ends, even if its socket does not take the close frame.
    fn end_closing(&mut self, key: SessionKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let since = *peer.closing_since.get_or_insert(now);
        if now - since >= CLOSE_TIMEOUT {
            peer.line.abandon();
        } else {
            self.look_at(key, since + CLOSE_TIMEOUT);
        }
    }

    /// A session answered its heartbeat: everything before it arrived.
    pub(crate) fn pong(&mut self, key: SessionKey) {
        if let Some(peer) = self.peers.get_mut(key)
            && peer.beat.waiting_since.take().is_some()
        {
            peer.confirmed = peer.confirmed.max(peer.pinged);
        }
    }

    /// The client's own close frame answers for what was written a while before: where what was queued by then may have been written
    /// later, or never, it answers for nothing.
    pub(crate) fn client_closed(&mut self, key: SessionKey, now: Instant) {
        let answered = self.taken.answered_by_close(now);
        let Some(peer) = self.peers.get(key).filter(|peer| peer.line.was_prompt(CLOSE_ANSWERS_FOR, now)) else {
            return;
        };
        let held = peer.held_from().into_iter().chain(peer.user.and_then(|user| self.held_by_gaps(user))).min();
        if let Some(peer) = self.peers.get_mut(key) {
            peer.confirmed = peer.confirmed.max(held.map_or(answered, |held| held.min(answered)));
        }
    }

    /// A session's token is renewed.
    pub(crate) fn renewed(&mut self, key: SessionKey, expires_at: Millis, now: Instant) {
        if let Some(peer) = self.peers.get_mut(key) {
            let earlier = expires_at < peer.expires_at;
            peer.expires_at = expires_at;
            if earlier {
                self.look_at(key, now);
            }
        }
    }

    /// Settles what every session has confirmed.
    pub(crate) fn settle(&mut self) {
        let end = self.taken.end();
        let signed_in = self.peers.iter().filter(|(_, peer)| peer.user.is_some());
        let floor = signed_in.map(|(_, peer)| peer.confirmed).min().unwrap_or(end);
        let Self { taken, rooms, .. } = self;
        taken.confirm(floor, |room| {
            if let Some(room) = rooms.get_mut(room) {
                room.recent.pop_front();
                if room.recent.is_empty() {
                    room.recent.shrink_to(0);
                }
            }
        });
    }
}
