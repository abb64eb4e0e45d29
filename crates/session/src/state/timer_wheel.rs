//! One timer wheel for all heartbeats of a node.

use std::time::Duration;

use tokio::time::Instant;

use crate::keys::SessionKey;

const SLOTS: u64 = 512;

/// Who is due when, to the exactness of a tick.
#[derive(Debug)]
pub(crate) struct TimerWheel {
    start: Instant,
    tick: Duration,
    /// The first tick that has not been looked at.
    next: u64,
    slots: Vec<Vec<(SessionKey, u64)>>,
}

impl TimerWheel {
    pub(crate) fn new(start: Instant, tick: Duration) -> Self {
        Self { start, tick, next: 0, slots: (0..SLOTS).map(|_| Vec::new()).collect() }
    }

    /// `key` is due at `at`. Gives the entry's tick, by which the caller knows it: an entry that another one replaces stays until its time.
    pub(crate) fn schedule(&mut self, key: SessionKey, at: Instant) -> u64 {
        let nanos = (at - self.start).as_nanos().div_ceil(self.tick.as_nanos().max(1));
        let tick = (nanos as u64).max(self.next);
        if let Some(slot) = self.slots.get_mut((tick % SLOTS) as usize) {
            slot.push((key, tick));
        }
        tick
    }

    /// Everybody who is due by now, with the entry's tick.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<(SessionKey, u64)> {
        let present = ((now - self.start).as_nanos() / self.tick.as_nanos().max(1)) as u64;
        let mut due = Vec::new();
        // One turn looks at every slot.
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

    /// How many entries there are.
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
