//! When a webhook that fails is tried again. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause after a failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60);

/// A webhook that failed for so long is down: what is too old is not tried even once.
const DOWN: Duration = Duration::from_mins(5);

/// Whether notifications may be posted. After a failure only one is under way, until one succeeds.
#[derive(Debug, Default)]
pub(crate) struct WebhookGate {
    failures: u32,
    until: Option<Instant>,
    /// Since when the webhook has failed.
    since: Option<Instant>,
}

impl WebhookGate {
    /// Returns whether another one may be posted while `under_way` are.
    pub(crate) fn lets(&self, under_way: usize, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now) && (self.failures == 0 || under_way == 0)
    }

    /// Returns whether the webhook has failed for some minutes.
    pub(crate) fn is_down(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.duration_since(since) > DOWN)
    }

    /// Returns until when none may be posted.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Notes that the webhook answered.
    pub(crate) fn opened(&mut self) {
        *self = Self::default();
    }

    /// Notes that it did not, or has too much to do. `asked` is the pause that it asked for, `jitter` a random number
    /// from 0 to 1.
    pub(crate) fn failed(&mut self, now: Instant, asked: Option<Duration>, jitter: f64) {
        let asked = asked.unwrap_or_default().min(LONGEST);
        // Those that were under way together failed together.
        if let Some(until) = self.until.filter(|until| *until > now) {
            self.until = Some(until.max(now + asked));
            return;
        }
        let doubled = FIRST.saturating_mul(1 << self.failures.min(6)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.since.get_or_insert(now);
        self.until = Some(now + doubled.mul_f64(0.5 + jitter / 2.0).max(asked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_end_with_the_first_success() {
        let (mut gate, mut now) = (WebhookGate::default(), Instant::now());
        assert!(gate.lets(63, now));
        let mut pauses = Vec::new();
        for _ in 0..9 {
            gate.failed(now, None, 1.0);
            assert!(!gate.lets(0, now));
            let until = gate.until().unwrap();
            pauses.push((until - now).as_secs());
            now = until;
            assert!(gate.lets(0, now) && !gate.lets(1, now));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(gate.is_down(now + Duration::from_mins(1)) && !gate.is_down(now));
        gate.opened();
        assert!(gate.lets(63, now) && !gate.is_down(now + Duration::from_mins(9)));
        gate.failed(now, Some(Duration::from_secs(30)), 0.0);
        assert_eq!(gate.until(), Some(now + Duration::from_secs(30)));
    }

    #[test]
    fn what_was_under_way_together_counts_as_one_failure() {
        let (mut gate, now) = (WebhookGate::default(), Instant::now());
        (0..64).for_each(|_| gate.failed(now, None, 1.0));
        assert_eq!(gate.until(), Some(now + FIRST));
        gate.failed(now, Some(Duration::from_secs(5)), 1.0);
        assert_eq!(gate.until(), Some(now + Duration::from_secs(5)));
    }
}
