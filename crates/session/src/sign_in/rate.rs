//! Lets sign-ins begin at a limited rate, so that many clients that reconnect at once do not overload the owners of
//! their rooms. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// The rate limit of sign-ins: when the next one may begin.
#[derive(Debug)]
pub(crate) struct SignInRate {
    every: Duration,
    next: Instant,
    most: Duration,
}

impl SignInRate {
    /// Lets `per_second` sign-ins begin in a second, and lets none wait longer than `most`.
    pub(crate) fn new(per_second: u32, most: Duration, now: Instant) -> Self {
        Self { every: Duration::from_secs(1) / per_second.max(1), next: now, most }
    }

    /// Returns when a sign-in that comes now may begin.
    ///
    /// # Errors
    /// Returns how long to stay away, if the wait would be too long.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<Instant, Duration> {
        // After a pause, the sign-ins of a tenth of a second may begin at once.
        let begin = self.next.max(now - Duration::from_millis(100));
        let wait = begin.saturating_duration_since(now);
        if wait > self.most {
            return Err(wait);
        }
        self.next = begin + self.every;
        Ok(begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_herd_is_spread_and_its_end_is_sent_away() {
        let now = Instant::now() + Duration::from_secs(10);
        let mut admission = SignInRate::new(10, Duration::from_secs(1), now);
        let waits: Vec<_> = (0..14).map(|_| admission.admit(now).map(|at| at.saturating_duration_since(now))).collect();
        assert_eq!(waits[0], Ok(Duration::ZERO));
        assert_eq!(waits[5], Ok(Duration::from_millis(500)));
        assert_eq!(waits.iter().filter(|wait| wait.is_ok()).count(), 11);
        assert!(admission.admit(now + Duration::from_secs(2)).is_ok());
    }
}
