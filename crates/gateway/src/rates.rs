//! Rates of users, on this node.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{ClientOp, Code, Rate, Rates, Refusal, UserId, Verb};

/// How often what is known of users who ask nothing any more is forgotten.
pub(crate) const FORGET_EVERY: Duration = Duration::from_secs(60);
/// How many frames beyond its rate a session may send before it is closed.
const PATIENCE: Rate = Rate { count: 10, per_s: 1, burst: 200 };

type Keyed = DefaultKeyedRateLimiter<UserId>;
type Direct = RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<std::time::Instant>>;

fn quota(rate: Rate) -> Quota {
    let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
    // An interval is above zero, because a count is a number of 32 bits in a second or a minute.
    Quota::with_period(rate.interval()).unwrap_or_else(|| Quota::per_second(NonZeroU32::MAX)).allow_burst(burst)
}

fn rate_limited(what: &str, wait: Duration) -> Refusal {
    let retry_in_ms = Some(wait.as_millis() as u64 + 1);
    Refusal { retry_in_ms, ..Refusal::new(Code::RateLimited, format!("too many {what}")) }
}

/// The rates of all users of this node.
#[derive(Debug)]
pub(crate) struct UserRates {
    requests: Option<Keyed>,
    sends: Option<Keyed>,
    invitations: Option<Keyed>,
    lists: Option<Keyed>,
    sign_ins: Option<Keyed>,
}

impl UserRates {
    pub(crate) fn new(rates: &Rates) -> Self {
        let keyed = |rate: Option<Rate>| rate.map(|rate| RateLimiter::keyed(quota(rate)));
        Self {
            requests: keyed(rates.frames),
            sends: keyed(rates.sends),
            invitations: keyed(rates.invitations),
            lists: keyed(rates.lists),
            sign_ins: keyed(rates.sign_ins),
        }
    }

    /// Counts what a user asks.
    ///
    /// # Errors
    /// Returns `rate_limited` if it is too much.
    pub(crate) fn check(&self, user: &UserId, op: &ClientOp) -> Result<(), Refusal> {
        match op {
            ClientOp::Rooms { .. } | ClientOp::Resume(_) => count(&self.lists, "resumes and lists", user, 1),
            ClientOp::Room(_, verb) => self.check_verb(user, verb),
            ClientOp::Hello(_) | ClientOp::Token(_) | ClientOp::Ping | ClientOp::Pong => Ok(()),
        }
    }

    /// Counts what a user asks of a room.
    ///
    /// # Errors
    /// Returns `rate_limited` if it is too much.
    pub(crate) fn check_verb(&self, user: &UserId, verb: &Verb) -> Result<(), Refusal> {
        let invitations = |users: usize| count(&self.invitations, "rooms and invitations", user, users.max(1));
        match verb {
            Verb::Send { .. } | Verb::Edit { .. } | Verb::Delete { .. } | Verb::React { .. } => {
                count(&self.sends, "sends", user, 1)
            }
            Verb::Create { members, .. } => invitations(members.len()),
            Verb::Invite { users, .. } => invitations(users.len()),
            Verb::Join { .. } => invitations(1),
            Verb::Members { .. } => count(&self.lists, "resumes and lists", user, 1),
            _ => Ok(()),
        }
    }

    /// Counts a list of rooms over HTTP.
    ///
    /// # Errors
    /// Returns `rate_limited` if it is too much.
    pub(crate) fn check_list(&self, user: &UserId) -> Result<(), Refusal> {
        count(&self.lists, "resumes and lists", user, 1)
    }

    /// Counts a request over HTTP, whatever it is.
    ///
    /// # Errors
    /// Returns `rate_limited` if it is too much.
    pub(crate) fn check_request(&self, user: &UserId) -> Result<(), Refusal> {
        count(&self.requests, "requests", user, 1)
    }

    /// Counts a sign-in.
    ///
    /// # Errors
    /// Returns `rate_limited` if it is too much.
    pub(crate) fn check_sign_in(&self, user: &UserId) -> Result<(), Refusal> {
        count(&self.sign_ins, "sign-ins", user, 1)
    }

    /// Forgets the users who asked nothing for a while.
    pub(crate) fn forget_idle(&self) {
        let all = [&self.requests, &self.sends, &self.invitations, &self.lists, &self.sign_ins];
        for limiter in all.into_iter().flatten() {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

fn count(limiter: &Option<Keyed>, what: &str, user: &UserId, cells: usize) -> Result<(), Refusal> {
    let (Some(limiter), Some(cells)) = (limiter, u32::try_from(cells).ok().and_then(NonZeroU32::new)) else {
        return Ok(());
    };
    if mutant(Mutant::RatesOff) {
        return Ok(());
    }
    match limiter.check_key_n(user, cells) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(until)) => Err(rate_limited(what, until.wait_time_from(limiter.clock().now()))),
        Err(insufficient) => {
            let most = insufficient.0;
            Err(Refusal::new(Code::TooLarge, format!("at most {most} {what} may be asked for at once")))
        }
    }
}

/// The rate of the frames of one session.
#[derive(Debug)]
pub(crate) struct FrameRate {
    frames: Direct,
    patience: Direct,
}

/// What is to be done with a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FrameVerdict {
    /// Handle it.
    Handle,
    /// Refuse it.
    Refuse(Refusal),
    /// Close the session: it goes on regardless.
    Close,
}

impl FrameRate {
    pub(crate) fn new(rate: Rate) -> Self {
        let direct = |rate| RateLimiter::direct_with_clock(quota(rate), MonotonicClock);
        Self { frames: direct(rate), patience: direct(PATIENCE) }
    }

    /// Counts a frame.
    pub(crate) fn count(&self) -> FrameVerdict {
        match self.frames.check() {
            Ok(()) => FrameVerdict::Handle,
            Err(_) if self.patience.check().is_err() => FrameVerdict::Close,
            Err(until) => FrameVerdict::Refuse(rate_limited("frames", until.wait_time_from(MonotonicClock.now()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_refused_beyond_the_burst_and_others_are_not() {
        let rates = Rates { sends: Some(Rate { count: 1, per_s: 60, burst: 3 }), ..Rates::default() };
        let (rates, ann, bob) = (UserRates::new(&rates), UserId::parse("ann").unwrap(), UserId::parse("bob").unwrap());
        let send = Verb::Delete { target: 1, nonce: None };
        let codes: Vec<_> = (0..4).map(|_| rates.check_verb(&ann, &send).map_err(|refusal| refusal.code)).collect();
        assert_eq!(codes, [Ok(()), Ok(()), Ok(()), Err(Code::RateLimited)]);
        let wait = rates.check_verb(&ann, &send).unwrap_err().retry_in_ms.unwrap();
        assert!((50_000..=60_001).contains(&wait), "{wait}");
        assert!(rates.check_verb(&bob, &send).is_ok() && rates.check_verb(&ann, &Verb::Typing).is_ok());
    }

    #[test]
    fn invitations_are_counted_by_the_users_named() {
        let rates = Rates { invitations: Some(Rate { count: 1, per_s: 60, burst: 10 }), ..Rates::default() };
        let (rates, ann) = (UserRates::new(&rates), UserId::parse("ann").unwrap());
        let invite = |n: usize| {
            let users = (0..n).map(|n| UserId::parse(&format!("u{n}")).unwrap()).collect();
            rates.check_verb(&ann, &Verb::Invite { users, nonce: None }).map_err(|refusal| refusal.code)
        };
        assert_eq!(
            (invite(11), invite(8), invite(3), invite(2)),
            (Err(Code::TooLarge), Ok(()), Err(Code::RateLimited), Ok(()))
        );
    }

    #[test]
    fn a_session_that_goes_on_regardless_is_closed() {
        let rate = FrameRate::new(Rate { count: 1, per_s: 60, burst: 2 });
        let verdicts: Vec<FrameVerdict> = (0..400).map(|_| rate.count()).collect();
        assert_eq!(verdicts[..2], [FrameVerdict::Handle, FrameVerdict::Handle]);
        assert!(matches!(verdicts[2], FrameVerdict::Refuse(_)));
        assert_eq!(verdicts[399], FrameVerdict::Close);
    }
}
