//! Every timeout and window that depends on another one, with the relations between them checked when this file is compiled.
//!
//! A timeout that stands alone lives in the file that uses it. `CONTRIBUTING.md` has a table of both kinds.

use std::time::Duration;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The node key of a node that has not refreshed it for this long is gone: the node counts as dead.
pub const NODE_KEY_TTL: Duration = seconds(15);
/// How often a node refreshes its node key.
pub const NODE_KEY_REFRESH: Duration = seconds(2);
/// A worker stops serving when its last good refresh was *sent* this long ago.
pub const NODE_KEY_MAX_AGE: Duration = seconds(10);

/// How often a NATS connection is pinged. A peer that leaves two pings unanswered is given up.
pub const NATS_PING: Duration = seconds(5);
/// The outcome of a NATS request without an answer for this long is unknown.
pub const NATS_REQUEST: Duration = seconds(2);

/// A node answers a link at most this often.
pub const LINK_ANSWER_EVERY: Duration = millis(200);
/// A node asks again for a gap in a link's numbers after this long.
pub const LINK_ASK_AGAIN: Duration = millis(500);
/// A worker sends a link message again if the node has not received it after this long.
pub const LINK_RESEND_AFTER: Duration = seconds(1);
/// A worker announces a link's incarnation and last number this often.
pub const LINK_ANNOUNCE_EVERY: Duration = seconds(1);
/// A worker counts a node that has not answered its link for this long as unreachable.
pub const LINK_NODE_SILENCE: Duration = seconds(3);
/// A node cuts a link that has told nothing, or whose gap has stayed open, for this long.
pub const LINK_WORKER_SILENCE: Duration = seconds(5);
/// For this long after a worker's own connection came back, no node is given up: the others may still be reconnecting.
pub const RECONNECT_GRACE: Duration = seconds(3);
/// What a node that was given up had not settled is bounced after this long, for the users who did not come back.
pub const BOUNCE_AFTER: Duration = seconds(10);

/// A flow sends everything unanswered again if its lowest request has no answer for this long.
pub const FLOW_SILENCE: Duration = seconds(2);
/// The pause before a flow sends again for the first time; it doubles each time,
pub const FLOW_FIRST_PAUSE: Duration = millis(20);
/// up to this.
pub const FLOW_LONGEST_PAUSE: Duration = millis(500);
/// A request that has no answer for this long ends as `unavailable`.
pub const FLOW_GIVE_UP: Duration = seconds(10);
/// An owner from whose `alive` NATS has reported no responders for this long counts as dead.
pub const OWNER_SILENCE: Duration = millis(500);

/// A durable event is dispatched only under order rows that are younger than this.
pub const ORDER_ROWS_AGE: Duration = seconds(10 * 60);
/// How far the clocks of two machines may differ.
pub const CLOCK_SKEW: Duration = seconds(60);
/// The least time N without a subscriber after which a channel is evicted.
pub const IDLE_MIN: Duration = seconds(30);
/// The greatest N, and the time without an event after which a channel is evicted even with subscribers (N_max).
pub const IDLE_MAX: Duration = seconds(15 * 60);
/// How often a worker writes down what is settled, and evicts idle channels.
pub const SETTLE_EVERY: Duration = seconds(3);

/// How often a session is asked for a sign of life.
pub const HEARTBEAT: Duration = seconds(25);
/// A session that has not answered for this long is closed.
pub const PONG_TIMEOUT: Duration = seconds(10);
/// A client's own close frame confirms what was written this long before it.
pub const CLOSE_CONFIRMS_AFTER: Duration = seconds(5);
/// A socket that has not taken its close frame for this long is given up.
pub const CLOSE_TIMEOUT: Duration = seconds(5);
/// A sign-in that would have to wait longer than this for its turn is sent away.
pub const SIGN_IN_WAIT: Duration = seconds(5);
/// A sign-in that takes longer than this ends as `unavailable`.
pub const SIGN_IN_TIMEOUT: Duration = seconds(20);
/// How often a node compares the heads of the rooms with recent events.
pub const HEAD_CHECK_EVERY: Duration = seconds(40);
/// A drain waits this long for its sessions to end.
pub const DRAIN_TIMEOUT: Duration = seconds(10);

const fn less(a: Duration, b: Duration) -> bool {
    a.as_nanos() < b.as_nanos()
}

// A worker has several tries to refresh its key before it stops serving, and stops serving before others may count it as dead.
const _: () = assert!(less(NODE_KEY_REFRESH.saturating_mul(4), NODE_KEY_MAX_AGE));
const _: () = assert!(less(NODE_KEY_MAX_AGE, NODE_KEY_TTL));
const _: () = assert!(less(NATS_REQUEST, NODE_KEY_MAX_AGE.saturating_sub(NODE_KEY_REFRESH)));
// A message is answered before it would be sent again, and is sent again before the node counts as unreachable.
const _: () = assert!(less(LINK_ANSWER_EVERY, LINK_RESEND_AFTER) && less(LINK_ASK_AGAIN, LINK_RESEND_AFTER));
const _: () = assert!(less(LINK_RESEND_AFTER.saturating_mul(2), LINK_NODE_SILENCE));
// The worker gives a node up, and offers it the next incarnation, before the node cuts the link by itself.
const _: () = assert!(less(LINK_ANNOUNCE_EVERY.saturating_mul(2), LINK_NODE_SILENCE));
const _: () = assert!(less(LINK_NODE_SILENCE, LINK_WORKER_SILENCE));
const _: () = assert!(!less(RECONNECT_GRACE, LINK_NODE_SILENCE));
// A flow tries several times before a request ends, and a dead owner is replaced within that time.
const _: () = assert!(less(FLOW_FIRST_PAUSE, FLOW_LONGEST_PAUSE) && less(FLOW_LONGEST_PAUSE, FLOW_SILENCE));
const _: () = assert!(less(FLOW_SILENCE.saturating_mul(2), FLOW_GIVE_UP) && less(OWNER_SILENCE, FLOW_GIVE_UP));
// One request that ends as unavailable does not end the sign-in that waits for it.
const _: () = assert!(less(FLOW_GIVE_UP, SIGN_IN_TIMEOUT));
const _: () = assert!(!less(HEARTBEAT, PONG_TIMEOUT));
const _: () = assert!(less(CLOSE_TIMEOUT, DRAIN_TIMEOUT));
const _: () = assert!(less(CLOCK_SKEW, ORDER_ROWS_AGE) && less(IDLE_MIN, IDLE_MAX));

/// How far back in time a room may still be active, as three settings decide it together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivityWindow {
    horizon: Duration,
    skew: Duration,
    idle_max: Duration,
}

/// Settings of an [`ActivityWindow`] that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the horizon ({horizon:?}) must be longer than the clock skew ({skew:?})")]
pub struct ActivityWindowError {
    horizon: Duration,
    skew: Duration,
}

impl ActivityWindow {
    /// A window with horizon H, an allowance for clocks that differ, and the greatest time N_max that an idle channel lives.
    ///
    /// # Errors
    /// [`ActivityWindowError`] if the allowance takes all of the horizon.
    pub fn new(horizon: Duration, skew: Duration, idle_max: Duration) -> Result<Self, ActivityWindowError> {
        if skew >= horizon {
            return Err(ActivityWindowError { horizon, skew });
        }
        Ok(Self { horizon, skew, idle_max })
    }

    /// H: a sign-in attaches to the rooms with an order row younger than this.
    #[must_use]
    pub fn horizon(&self) -> Duration {
        self.horizon
    }

    /// A channel dispatches durable events only under order rows younger than this.
    #[must_use]
    pub fn order_rows_age(&self) -> Duration {
        self.horizon - self.skew
    }

    /// A room with an order row younger than this may have a live channel that has not told `rooms_of_user` its last event: for the
    /// order of a list, its owner is asked.
    #[must_use]
    pub fn unevicted(&self) -> Duration {
        self.horizon + self.skew + self.idle_max
    }
}

impl Default for ActivityWindow {
    fn default() -> Self {
        Self { horizon: ORDER_ROWS_AGE + CLOCK_SKEW, skew: CLOCK_SKEW, idle_max: IDLE_MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_follows_from_its_horizon() {
        let window = ActivityWindow::default();
        assert_eq!(window, ActivityWindow::new(seconds(660), seconds(60), seconds(900)).unwrap());
        assert_eq!((window.order_rows_age(), window.unevicted()), (seconds(600), seconds(27 * 60)));
        assert!(ActivityWindow::new(seconds(60), seconds(60), seconds(1)).is_err());
    }
}
