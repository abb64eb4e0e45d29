//! The end of a node's sessions when it is drained. Each client is asked for a last sign of life, so that what it has
//! got by then is not bounced, and is then told to go.

use sendpi_model::CloseCode;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::server_frame::{Bye, OpFrame, Ping};
use tokio::time::Instant;

use super::State;
use crate::client::ws_frame;
use crate::keys::SessionKey;
use crate::state::effects::Effects;

impl State {
    /// Refuses new sessions from now on, and sends a last heartbeat to those that have their welcome. A client that
    /// still owes an answer gets it later, because only one heartbeat is under way at a time.
    pub(crate) fn begin_drain(&mut self, now: Instant, effects: &mut Effects) {
        self.draining = true;
        self.retries.hurry(now);
        let welcomed = self.sessions.iter().filter(|(_, session)| session.due.is_some());
        let (owing, others): (Vec<_>, Vec<_>) = welcomed.partition(|(_, session)| session.beat.waiting_since.is_some());
        self.last_pings_owed = owing.into_iter().map(|(key, _)| key).collect();
        let others: Vec<SessionKey> = others.into_iter().map(|(key, _)| key).collect();
        self.last_pings(&others, now, effects);
    }

    fn last_pings(&mut self, keys: &[SessionKey], now: Instant, effects: &mut Effects) {
        let ping = ws_frame::text(&Ping {}.to_frame());
        for key in keys {
            self.ping(*key, &ping, now, effects);
        }
    }

    /// Tells the clients to go that have answered their last heartbeat, or all of them if there is no more time for an
    /// answer. `delay` returns after how many milliseconds each client is told to reconnect.
    pub(crate) fn say_bye(&mut self, all: bool, mut delay: impl FnMut() -> u64, now: Instant, effects: &mut Effects) {
        let Self { sessions, last_pings_owed, .. } = self;
        let owes = |key: &SessionKey| sessions.get(*key).is_some_and(|session| session.beat.waiting_since.is_some());
        let due: Vec<SessionKey> = last_pings_owed.extract_if(.., |key| !owes(key)).collect();
        self.last_pings(&due, now, effects);
        for (_, session) in self.sessions.iter() {
            if session.outbound.is_closing() || (session.beat.waiting_since.is_some() && !all) {
                continue;
            }
            if !mutant(Mutant::ByeOff) {
                session.outbound.push(ws_frame::text(&Bye::drain(delay()).to_frame()), false);
            }
            session.outbound.close(CloseCode::Drain);
            effects.touch(&session.outbound);
        }
    }
}
