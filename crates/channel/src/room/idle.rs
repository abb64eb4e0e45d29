//! The rule by which idle channels are evicted.

use std::time::Duration;

use sendpi_model::Millis;
use sendpi_model::timing::{IDLE_MAX, IDLE_MIN};
use tokio::time::Instant;

/// The bounds of N, the time without a subscriber after which a channel is evicted.
#[derive(Debug, Clone, Copy)]
pub struct IdleConfig {
    /// The least N, which is also the N of a room that is hardly ever active.
    pub min: Duration,
    /// The greatest N, and the time without a durable event after which a channel is evicted even with subscribers.
    /// The next event brings it back.
    pub max: Duration,
}

impl Default for IdleConfig {
    fn default() -> Self {
        Self { min: IDLE_MIN, max: IDLE_MAX }
    }
}

/// The weight of the newest gap in the mean.
const WEIGHT: f64 = 0.2;

/// A clock that follows the mean gap between a channel's events and decides when the channel is idle. It never looks at
/// the wall clock, which may be set.
#[derive(Debug)]
pub(crate) struct IdleClock {
    config: IdleConfig,
    /// g, the exponentially weighted mean gap, in milliseconds.
    mean_gap: Option<f64>,
    /// When the last durable event came, or when the clock began.
    last_event: Instant,
    /// Since when nobody subscribes. `None` while somebody does.
    alone_since: Option<Instant>,
}

impl IdleClock {
    /// Creates a clock from the times of the tail's events, oldest first.
    pub(crate) fn new(config: IdleConfig, events: impl IntoIterator<Item = Millis>, now: Instant) -> Self {
        let mut clock = Self { config, mean_gap: None, last_event: now, alone_since: Some(now) };
        let mut events = events.into_iter();
        if let Some(mut last) = events.next() {
            for at in events {
                clock.gap(at.since(last));
                last = at;
            }
        }
        clock
    }

    /// Records a durable event.
    pub(crate) fn event(&mut self, now: Instant) {
        self.gap(now - self.last_event);
        self.last_event = now;
    }

    fn gap(&mut self, gap: Duration) {
        let gap = gap.as_millis() as f64;
        self.mean_gap = Some(self.mean_gap.map_or(gap, |mean| mean + WEIGHT * (gap - mean)));
    }

    /// Records whether anybody subscribes now.
    pub(crate) fn subscribed(&mut self, somebody: bool, now: Instant) {
        self.alone_since = if somebody { None } else { self.alone_since.or(Some(now)) };
    }

    /// Returns how many durable events a second there are, by the mean gap between them, or by the time since the last
    /// one if that is longer.
    pub(crate) fn events_a_second(&self, now: Instant) -> f64 {
        let since = (now - self.last_event).as_millis() as f64;
        self.mean_gap.map_or(0.0, |gap| 1_000.0 / gap.max(since).max(1.0))
    }

    /// Returns N: clamp(3 g, min, max), or min if g is above max.
    pub(crate) fn patience(&self) -> Duration {
        match self.mean_gap {
            Some(gap) if gap <= self.config.max.as_millis() as f64 => {
                Duration::from_millis((3.0 * gap) as u64).clamp(self.config.min, self.config.max)
            }
            _ => self.config.min,
        }
    }

    /// Returns whether the channel is to be evicted.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.alone_since.is_some_and(|since| now - since >= self.patience()) || now - self.last_event >= self.config.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(gaps: &[u64]) -> IdleClock {
        let mut at = 1_000_000;
        let mut times = vec![Millis(at)];
        times.extend(gaps.iter().map(|gap| {
            at += gap;
            Millis(at)
        }));
        IdleClock::new(IdleConfig::default(), times, Instant::now())
    }

    #[test]
    fn patience_follows_the_mean_gap_between_its_bounds() {
        assert_eq!(clock(&[]).patience(), Duration::from_secs(30));
        assert_eq!(clock(&[1_000; 5]).patience(), Duration::from_secs(30));
        assert_eq!(clock(&[60_000; 5]).patience(), Duration::from_secs(180));
        assert_eq!(clock(&[600_000; 5]).patience(), Duration::from_secs(900));
        assert_eq!(clock(&[3_600_000; 5]).patience(), Duration::from_secs(30));
    }

    #[test]
    fn without_subscribers_it_waits_n_and_with_them_n_max() {
        let mut clock = clock(&[]);
        let start = clock.last_event;
        let at = |s: u64| start + Duration::from_secs(s);
        assert!(!clock.is_idle(at(29)) && clock.is_idle(at(30)));
        clock.subscribed(true, at(10));
        assert!(!clock.is_idle(at(899)) && clock.is_idle(at(900)));
        clock.subscribed(false, at(20));
        clock.subscribed(false, at(40));
        assert!(!clock.is_idle(at(49)) && clock.is_idle(at(50)));
    }
}
