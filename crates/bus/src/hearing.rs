//! Whether this process can hear others: the silence of others counts only while it can.

use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::timing::{BUS_DEAF_AFTER, LATE_AFTER, RECONNECT_GRACE};
use tokio::time::Instant;

use crate::{Bus, ConnectionState};

/// Notices when a task was late, or when its node's connection to NATS brought nothing. It is asked with each tick of
/// a task that watches for silence.
#[derive(Debug)]
pub struct Hearing {
    began: Instant,
    ticked: Instant,
    /// The last tick at which the task could not have heard anybody.
    deaf: Option<Instant>,
    connects: u64,
}

impl Hearing {
    /// Begins now, with the connection as it is. For a moment, other nodes may not be there yet.
    #[must_use]
    pub fn new(bus: &Bus, now: Instant) -> Self {
        Self { began: now, ticked: now, deaf: Some(now), connects: bus.connection().borrow().connects }
    }

    /// Notes a tick. Returns whether others may have spoken since the last one without being heard: the process was
    /// frozen or overloaded, the connection is down or was made anew, or NATS brings nothing, not even what this node
    /// sends to itself. Silence then counts from now on.
    #[must_use]
    pub fn is_deaf(&mut self, bus: &Bus, now: Instant) -> bool {
        self.note(now, *bus.connection().borrow(), bus.last_pulse())
    }

    fn note(&mut self, now: Instant, connection: ConnectionState, pulse: Instant) -> bool {
        let was_late = now - self.ticked >= LATE_AFTER;
        let is_new = connection.connects != self.connects;
        let deaf = was_late || is_new || !connection.up || now - pulse >= BUS_DEAF_AFTER;
        self.ticked = now;
        self.connects = connection.connects;
        if deaf && !mutant(Mutant::HearingOff) {
            self.deaf = Some(now);
        }
        self.deaf == Some(now)
    }

    /// Returns whether this process could hear others for a while, or since it began.
    #[must_use]
    pub fn has_heard(&self, now: Instant) -> bool {
        now - self.ticked < LATE_AFTER
            && self.deaf.is_none_or(|deaf| deaf == self.began || now - deaf > RECONNECT_GRACE)
    }

    /// Returns whether the report that nobody listens for a node counts. It does not for a moment after this process
    /// could hear nobody: other nodes may not be back yet either.
    #[must_use]
    pub fn counts(&self, now: Instant) -> bool {
        now - self.ticked < LATE_AFTER && self.deaf.is_none_or(|deaf| now - deaf > RECONNECT_GRACE)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const UP: ConnectionState = ConnectionState { up: true, connects: 1 };

    fn hearing(start: Instant) -> Hearing {
        Hearing { began: start, ticked: start, deaf: None, connects: 1 }
    }

    #[test]
    fn who_is_late_or_hears_no_pulse_or_has_no_connection_is_deaf_and_for_a_moment_after() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut hearing = hearing(start);
        assert!(!hearing.note(at(100), UP, start) && hearing.counts(at(100)));
        assert!(hearing.note(at(1_100), UP, at(1_000)), "a tick was late");
        assert!(!hearing.note(at(1_200), UP, at(1_000)));
        assert!(!hearing.note(at(1_900), UP, at(1_900)) && !hearing.note(at(2_800), UP, at(2_800)));
        assert!(!hearing.note(at(3_700), UP, at(3_700)));
        assert!(!hearing.counts(at(4_100)) && hearing.counts(at(4_101)));
        assert!(!hearing.counts(at(4_700)), "the next tick is late");
        let mut hearing = Hearing { began: start, ticked: at(1_200), deaf: None, connects: 1 };
        assert!(hearing.note(at(1_300), ConnectionState { up: false, ..UP }, at(1_000)));
        assert!(hearing.note(at(1_400), ConnectionState { connects: 2, ..UP }, at(1_000)));
        assert!(!hearing.note(at(1_500), ConnectionState { connects: 2, ..UP }, at(1_000)));
        let silent = at(1_000) + BUS_DEAF_AFTER;
        hearing.ticked = silent;
        assert!(hearing.note(silent, ConnectionState { connects: 2, ..UP }, at(1_000)), "NATS brings nothing");
    }

    #[test]
    fn who_has_just_begun_has_heard_others_although_not_all_may_be_there_yet() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut hearing = Hearing { began: start, ticked: start, deaf: Some(start), connects: 1 };
        assert!(!hearing.note(at(100), UP, start));
        assert!(hearing.has_heard(at(100)) && !hearing.counts(at(100)));
        assert!(hearing.note(at(200), ConnectionState { connects: 2, ..UP }, start));
        assert!(!hearing.has_heard(at(200)));
    }
}
