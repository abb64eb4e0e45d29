//! The timer wheel for all heartbeats of a node.

use std::time::Duration;

use tokio::time::Instant;

use crate::keys::SessionKey;

const SLOTS: u64 = 512;

/// The times at which sessions are due, exact to one tick.
#[derive(Debug)]
pub(crate) struct TimerWheel {
    start: Instant,
    tick: Duration,
    /// The first tick that [`TimerWheel::due`] has not looked at.
    next: u64,
    slots: Vec<Vec<(SessionKey, u64)>>,
}

impl TimerWheel {
    pub(crate) fn new(start: Instant, tick: Duration) -> Self {
        Self { start, tick, next: 0, slots: (0..SLOTS).map(|_| Vec::new()).collect() }
    }

    /// Adds an entry for a session that is due at `at`. Returns the entry's tick. An entry cannot be removed before
    /// its time, so the caller compares ticks to ignore an entry that it has replaced.
    pub(crate) fn schedule(&mut self, key: SessionKey, at: Instant) -> u64 {
        let nanos = (at - self.start).as_nanos().div_ceil(self.tick.as_nanos().max(1));
        let tick = (nanos as u64).max(self.next);
        if let Some(slot) = self.slots.get_mut((tick % SLOTS) as usize) {
            slot.push((key, tick));
        }
        tick
    }

    /// Removes and returns the entries that are due by `now`, with their ticks.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<(SessionKey, u64)> {
        let present = ((now - self.start).as_nanos() / self.tick.as_nanos().max(1)) as u64;
        let mut due = Vec::new();
        // One turn of the wheel looks at every slot, so more ticks than slots need no second turn.
        let until = present.min(self.next + SLOTS - 1);
        for tick in self.next..=until {
            let Some(slot) = self.slots.get_mut((tick % SLOTS) as usize) else { continue };
            slot.retain(|(key, at)| {
                if *at <= present {
                    due.push((*key, *at));
                }
                *at > present
            });
        }
        self.next = self.next.max(present + 1);
        due
    }

    /// Returns the number of entries.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.iter().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use slotmap::KeyData;

    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    fn key(index: u32) -> SessionKey {
        KeyData::from_ffi((1 << 32) | u64::from(index)).into()
    }

    #[test]
    fn everybody_is_due_once_and_never_early() {
        let start = Instant::now();
        let mut timers = TimerWheel::new(start, TICK);
        timers.schedule(key(1), start + Duration::from_millis(150));
        timers.schedule(key(2), start + Duration::from_secs(90));
        assert_eq!(timers.due(start + Duration::from_millis(149)), []);
        assert_eq!(timers.due(start + Duration::from_millis(200)), [(key(1), 2)]);
        assert_eq!(timers.due(start + Duration::from_secs(89)), []);
        assert_eq!(timers.due(start + Duration::from_secs(90)), [(key(2), 900)]);
        assert_eq!(timers.due(start + Duration::from_secs(300)), []);
    }

    #[test]
    fn what_is_scheduled_for_the_past_is_due_at_the_next_tick() {
        let start = Instant::now();
        let mut timers = TimerWheel::new(start, TICK);
        timers.due(start + Duration::from_secs(5));
        let tick = timers.schedule(key(1), start + Duration::from_secs(1));
        assert_eq!(timers.due(start + Duration::from_secs(6)), [(key(1), tick)]);
    }
}
