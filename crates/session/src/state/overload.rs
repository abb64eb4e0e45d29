//! What happens when too much waits for all sessions of a node together.

use super::State;
use crate::keys::SessionKey;
use crate::state::effects::Effects;

impl State {
    /// Closes the sessions for which the most waits if the node's budget is exceeded, until what is left fits into it.
    /// The largest of several sessions is always above its fair share. Ephemeral events are dropped first.
    pub(super) fn relieve(&mut self, effects: &mut Effects) {
        if !self.budget.is_over() {
            return;
        }
        self.sessions.values().for_each(|session| session.outbound.drop_ephemeral());
        // A session that is closed already ends soon, with what still waits for it.
        let open = self.sessions.iter().filter(|(_, session)| !session.outbound.is_closing());
        let mut waiting: Vec<(usize, SessionKey)> = open.map(|(key, session)| (session.waiting(), key)).collect();
        waiting.sort_unstable();
        let mut bytes: usize = waiting.iter().map(|(bytes, _)| bytes).sum();
        let mut closed = 0;
        while bytes > self.budget.node()
            && let Some((largest, key)) = waiting.pop()
        {
            bytes -= largest;
            closed += 1;
            if let Some(session) = self.sessions.get_mut(key) {
                session.give_up();
                effects.touch(&session.outbound);
            }
        }
        if closed > 0 {
            tracing::warn!(closed, bytes, "too much waits for slow clients; the slowest are closed");
        }
    }
}
