//! Every timeout and window that depends on another one. The relations between them are checked at compile time.
//!
//! A timeout that stands alone is in the file that uses it. `CONTRIBUTING.md` has tables of both kinds.

use std::time::Duration;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A node key that has not been refreshed for this long expires, and its node counts as dead.
pub const NODE_KEY_TTL: Duration = seconds(15);
/// How often a node refreshes its node key.
pub const NODE_KEY_REFRESH: Duration = seconds(2);
/// A worker stops serving when its last successful refresh was *sent* longer ago than this.
pub const NODE_KEY_MAX_AGE: Duration = seconds(10);

/// How often a NATS connection is pinged. The connection counts as lost after two unanswered pings.
pub const NATS_PING: Duration = seconds(5);
/// The outcome of a NATS request that has had no answer for this long is unknown.
pub const NATS_REQUEST: Duration = seconds(2);
/// How often a node looks whether the buckets and streams are there. One that is lost is made anew.
pub const STREAMS_CHECK_EVERY: Duration = seconds(4);

/// How often a node sends a message to itself through NATS, which shows whether NATS brings anything.
pub const BUS_PULSE_EVERY: Duration = seconds(1);
/// A node to which NATS has brought nothing for this long, not even its own messages, hears nobody.
pub const BUS_DEAF_AFTER: Duration = millis(2_500);
/// A task whose tick comes this much after the last one was frozen or overloaded, and may have heard nobody meanwhile.
pub const LATE_AFTER: Duration = seconds(1);

/// A node answers a link at most this often, except that it answers a gap or a large amount of
/// unanswered bytes at once.
pub const LINK_ANSWER_EVERY: Duration = millis(200);
/// How long a node waits before it asks again for the messages in a gap of a link.
pub const LINK_ASK_AGAIN: Duration = millis(500);
/// A worker resends a link message if the node has not answered after this long that it received the message.
pub const LINK_RESEND_AFTER: Duration = seconds(1);
/// How often a worker announces the incarnation and the last number of a link.
pub const LINK_ANNOUNCE_EVERY: Duration = seconds(1);
/// A worker counts a node as unreachable when the node has not answered its link for this long.
pub const LINK_NODE_SILENCE: Duration = seconds(3);
/// A node cuts a link on which nothing has arrived, or whose gap has stayed open, for this long.
pub const LINK_WORKER_SILENCE: Duration = seconds(5);
/// For this long after its own connection came back, or after it could hear nobody, a worker does not give up a node
/// for which NATS reports no responders, because other nodes may still be reconnecting.
pub const RECONNECT_GRACE: Duration = seconds(3);
/// How long after giving a node up a worker bounces what the node had not settled, for the users who
/// have not come back.
pub const BOUNCE_AFTER: Duration = seconds(10);

/// A flow resends all unanswered requests if its lowest request has had no answer for this long.
pub const FLOW_SILENCE: Duration = seconds(2);
/// The pause before the first resend of a flow. It doubles with each further resend, up to [`FLOW_LONGEST_PAUSE`].
pub const FLOW_FIRST_PAUSE: Duration = millis(20);
/// The longest pause before a resend of a flow.
pub const FLOW_LONGEST_PAUSE: Duration = millis(500);
/// A request that has had no answer for this long ends as `unavailable`.
pub const FLOW_GIVE_UP: Duration = seconds(10);
/// An owner counts as dead when NATS has reported no responders on its `alive` subject for this long.
pub const OWNER_SILENCE: Duration = millis(500);

/// A durable event is dispatched only if the room's order rows are younger than this.
pub const ORDER_ROWS_AGE: Duration = seconds(10 * 60);
/// By how much the clocks of two machines may differ.
pub const CLOCK_SKEW: Duration = seconds(60);
/// The minimum of N, the time without a subscriber after which a channel is evicted.
pub const IDLE_MIN: Duration = seconds(30);
/// N_max: the maximum of N, and the time without a durable event after which a channel is evicted even
/// if it has subscribers.
pub const IDLE_MAX: Duration = seconds(15 * 60);
/// How often a worker records what is settled, and evicts idle channels.
pub const SETTLE_EVERY: Duration = seconds(3);

/// How often a session is asked for a sign of life.
pub const HEARTBEAT: Duration = seconds(25);
/// A session that has not answered a heartbeat for this long is closed.
pub const PONG_TIMEOUT: Duration = seconds(10);
/// A session that keeps events from being settled for this long, because its client reads slowly, is closed.
pub const SLOW_TIMEOUT: Duration = seconds(30);
/// The close frame of a client confirms what was written at least this long before it.
pub const CLOSE_CONFIRMS_AFTER: Duration = seconds(5);
/// A session ends this long after its close frame was queued, even if its socket has not accepted the frame.
pub const CLOSE_TIMEOUT: Duration = seconds(5);
/// A sign-in that would have to wait longer than this for its turn is refused.
pub const SIGN_IN_WAIT: Duration = seconds(5);
/// A sign-in that takes longer than this ends as `unavailable`.
pub const SIGN_IN_TIMEOUT: Duration = seconds(20);
/// How long a sign-in waits for the next answer of an owner, once for the attaches and twice for the list. Rooms that
/// are left then come with what their rows say.
pub const OWNER_PATIENCE: Duration = seconds(1);
/// How often a node compares its heads with those of the owners, for the rooms with recent events.
pub const HEAD_CHECK_EVERY: Duration = seconds(40);
/// A node that stops waits this long for the last signs of life of its clients.
pub const LAST_PONG_TIMEOUT: Duration = seconds(4);
/// A node that stops waits this long for its sessions and connections to end.
pub const DRAIN_TIMEOUT: Duration = seconds(10);

const fn less(a: Duration, b: Duration) -> bool {
    a.as_nanos() < b.as_nanos()
}

// A worker has several tries to refresh its key before it stops serving. It stops serving before
// others may count it as dead.
const _: () = assert!(less(NODE_KEY_REFRESH.saturating_mul(4), NODE_KEY_MAX_AGE));
const _: () = assert!(less(NODE_KEY_MAX_AGE, NODE_KEY_TTL));
const _: () = assert!(less(NATS_REQUEST, NODE_KEY_MAX_AGE.saturating_sub(NODE_KEY_REFRESH)));
// A bucket that is lost is made anew, and the node key put anew, before a worker would stop serving for it.
const _: () = assert!(less(STREAMS_CHECK_EVERY.saturating_add(NODE_KEY_REFRESH), NODE_KEY_MAX_AGE));
// A message is answered before it would be resent, and is resent before the node counts as unreachable.
const _: () = assert!(less(LINK_ANSWER_EVERY, LINK_RESEND_AFTER) && less(LINK_ASK_AGAIN, LINK_RESEND_AFTER));
const _: () = assert!(less(LINK_RESEND_AFTER.saturating_mul(2), LINK_NODE_SILENCE));
// A worker gives a node up, and offers it the next incarnation, before the node cuts the link on its own.
const _: () = assert!(less(LINK_ANNOUNCE_EVERY.saturating_mul(2), LINK_NODE_SILENCE));
const _: () = assert!(less(LINK_NODE_SILENCE, LINK_WORKER_SILENCE));
const _: () = assert!(!less(RECONNECT_GRACE, LINK_NODE_SILENCE));
// Who hears nobody knows it before it counts others as silent.
const _: () = assert!(less(BUS_PULSE_EVERY.saturating_mul(2), BUS_DEAF_AFTER));
const _: () = assert!(less(BUS_DEAF_AFTER, LINK_NODE_SILENCE) && less(LATE_AFTER, LINK_NODE_SILENCE));
// A flow tries several times before a request ends, and a dead owner is replaced within that time.
const _: () = assert!(less(FLOW_FIRST_PAUSE, FLOW_LONGEST_PAUSE) && less(FLOW_LONGEST_PAUSE, FLOW_SILENCE));
const _: () = assert!(less(FLOW_SILENCE.saturating_mul(2), FLOW_GIVE_UP) && less(OWNER_SILENCE, FLOW_GIVE_UP));
// A request that ends as unavailable does not end the sign-in that waits for it.
const _: () = assert!(less(FLOW_GIVE_UP, SIGN_IN_TIMEOUT));
// Rooms without an owner leave a sign-in time for the rest.
const _: () = assert!(less(OWNER_PATIENCE.saturating_mul(3 * 5), SIGN_IN_TIMEOUT));
const _: () = assert!(!less(HEARTBEAT, PONG_TIMEOUT));
// A client that reads slowly has longer than one that is silent.
const _: () = assert!(less(PONG_TIMEOUT, SLOW_TIMEOUT));
// Also a session whose client is silent, and whose socket takes nothing, ends within a drain.
const _: () = assert!(less(LAST_PONG_TIMEOUT.saturating_add(CLOSE_TIMEOUT), DRAIN_TIMEOUT));
const _: () = assert!(less(CLOCK_SKEW, ORDER_ROWS_AGE) && less(IDLE_MIN, IDLE_MAX));

/// How far back in time a room may still be active. Three settings determine it together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivityWindow {
    horizon: Duration,
    order_rows_age: Duration,
    unevicted: Duration,
}

/// Settings of an [`ActivityWindow`] that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the horizon ({horizon:?}) must be longer than the clock skew ({skew:?})")]
pub struct ActivityWindowError {
    horizon: Duration,
    skew: Duration,
}

impl ActivityWindow {
    /// Creates a window from the horizon H, the allowance for clocks that differ, and the longest time N_max for
    /// which an idle channel stays live.
    ///
    /// # Errors
    /// Returns [`ActivityWindowError`] if the allowance is not shorter than the horizon.
    pub fn new(horizon: Duration, skew: Duration, idle_max: Duration) -> Result<Self, ActivityWindowError> {
        if skew >= horizon {
            return Err(ActivityWindowError { horizon, skew });
        }
        Ok(Self::of(horizon, skew, idle_max))
    }

    fn of(horizon: Duration, skew: Duration, idle_max: Duration) -> Self {
        Self { horizon, order_rows_age: horizon.saturating_sub(skew), unevicted: horizon + skew + idle_max }
    }

    /// Returns H. A sign-in attaches to the rooms that have an order row younger than this.
    #[must_use]
    pub fn horizon(&self) -> Duration {
        self.horizon
    }

    /// Returns the age below which order rows allow a channel to dispatch durable events.
    #[must_use]
    pub fn order_rows_age(&self) -> Duration {
        self.order_rows_age
    }

    /// Returns the age below which an order row may belong to a live channel whose last event is not in
    /// `rooms_of_user` yet. To order a list of rooms, the owners of such rooms are asked.
    #[must_use]
    pub fn unevicted(&self) -> Duration {
        self.unevicted
    }
}

impl Default for ActivityWindow {
    fn default() -> Self {
        Self::of(ORDER_ROWS_AGE + CLOCK_SKEW, CLOCK_SKEW, IDLE_MAX)
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
