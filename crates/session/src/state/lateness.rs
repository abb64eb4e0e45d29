//! For how long this node could hear nobody, because its process was frozen or overloaded. What clients could not be
//! heard to do meanwhile does not count against them.

use std::time::Duration;

use sendpi_model::timing::{CLOSE_CONFIRMS_AFTER, LATE_AFTER};
use tokio::time::Instant;

/// How much of the time in which ticks come in time makes up for late ones.
const RECOVERS: u32 = 4;

/// The lateness of a node's ticks. A freeze is excused whole, however long it was, if not much was excused shortly
/// before. A lasting overload is excused for a limited time only, because otherwise no silent session would ever end
/// while it lasts.
#[derive(Debug)]
pub(crate) struct Lateness {
    /// The time between ticks.
    tick: Duration,
    /// How much lateness may be excused before the ticks have come in time for long enough.
    limit: Duration,
    left: Duration,
    ticked: Instant,
    /// When the last late tick came.
    late_at: Option<Instant>,
    /// All that was excused so far.
    excused: Duration,
}

/// The beginning of a wait during which lateness does not count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitBegan {
    at: Instant,
    excused: Duration,
}

impl Lateness {
    pub(crate) fn new(tick: Duration, limit: Duration, now: Instant) -> Self {
        Self { tick, limit, left: limit, ticked: now, late_at: None, excused: Duration::ZERO }
    }

    /// Notes a tick. Returns how much time does not count.
    pub(super) fn note_tick(&mut self, now: Instant) -> Duration {
        let since = now - std::mem::replace(&mut self.ticked, now);
        if since < LATE_AFTER {
            self.left = (self.left + since / RECOVERS).min(self.limit);
            return Duration::ZERO;
        }
        self.late_at = Some(now);
        let late = since.saturating_sub(self.tick);
        let excused = if self.left >= self.limit / 2 { late } else { late.min(self.left) };
        self.left = self.left.saturating_sub(late);
        self.excused += excused;
        excused
    }

    /// Returns whether this node has been in time for as long as a client's close frame has to be younger than what it
    /// confirms. Otherwise the client may have sent it before.
    pub(super) fn was_in_time(&self, now: Instant) -> bool {
        now - self.ticked < LATE_AFTER && self.late_at.is_none_or(|at| now - at >= CLOSE_CONFIRMS_AFTER)
    }

    /// Begins a wait. It counts from the last tick, because what lateness came since is not known yet.
    pub(crate) fn begin_wait(&self) -> WaitBegan {
        WaitBegan { at: self.ticked, excused: self.excused }
    }

    /// Returns how long a wait has taken, up to the last tick, without what is excused.
    pub(crate) fn waited(&self, began: WaitBegan) -> Duration {
        self.ticked.saturating_duration_since(began.at).saturating_sub(self.excused - began.excused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(250);
    const LIMIT: Duration = Duration::from_secs(30);

    fn lateness() -> (Lateness, Instant) {
        let now = Instant::now();
        (Lateness::new(TICK, LIMIT, now), now)
    }

    #[test]
    fn a_freeze_is_excused_whole_however_long_it_was() {
        let (mut lateness, now) = lateness();
        let began = lateness.begin_wait();
        assert_eq!(lateness.note_tick(now + Duration::from_secs(90)), Duration::from_millis(89_750));
        assert_eq!(lateness.waited(began), TICK);
        assert_eq!(lateness.note_tick(now + Duration::from_secs(90) + TICK), Duration::ZERO);
        assert_eq!(lateness.waited(began), 2 * TICK);
    }

    #[test]
    fn a_freeze_counts_for_no_wait_that_began_before_or_after_it() {
        let (mut lateness, now) = lateness();
        let before = lateness.begin_wait();
        let thawed = now + Duration::from_secs(90);
        // What lay in a socket is read before the next tick.
        let after = lateness.begin_wait();
        assert_eq!(lateness.waited(before), Duration::ZERO);
        lateness.note_tick(thawed);
        lateness.note_tick(thawed + TICK);
        assert_eq!((lateness.waited(before), lateness.waited(after)), (2 * TICK, 2 * TICK));
    }

    #[test]
    fn a_lasting_overload_is_excused_for_a_limited_time() {
        // Ticks that are all late, and ticks of which every other one comes in time.
        for steps in [[1_500, 1_500], [250, 10_000], [900, 1_100]] {
            let (mut lateness, mut now) = lateness();
            let began = lateness.begin_wait();
            let mut took = Duration::ZERO;
            for step in steps.iter().cycle().take(2_000) {
                took += Duration::from_millis(*step);
                now += Duration::from_millis(*step);
                lateness.note_tick(now);
            }
            let excused = took - lateness.waited(began);
            assert!(excused >= LIMIT / 2 && excused < 2 * LIMIT + took / 6, "{steps:?}: {excused:?} of {took:?}");
        }
    }

    #[test]
    fn who_is_in_time_again_may_be_excused_again() {
        let (mut lateness, mut now) = lateness();
        now += 2 * LIMIT;
        assert!(lateness.note_tick(now) > LIMIT);
        now += 2 * LATE_AFTER;
        assert!(lateness.note_tick(now).is_zero());
        for _ in 0..250 {
            now += TICK;
            lateness.note_tick(now);
        }
        assert!(lateness.note_tick(now + 2 * LIMIT) > LIMIT);
    }
}
