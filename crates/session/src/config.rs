//! The settings of the user tier.

use std::time::Duration;

use sendpi_model::Rates;
use sendpi_model::timing::{
    ActivityWindow, HEAD_CHECK_EVERY, HEARTBEAT, OWNER_PATIENCE, PONG_TIMEOUT, SIGN_IN_TIMEOUT, SIGN_IN_WAIT,
    SLOW_TIMEOUT,
};

/// The settings of the user tier of one node.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Whether the node serves clients. One that does not subscribes to nothing, which it may have no right to.
    pub clients: bool,
    /// The interval of a session's heartbeats.
    pub heartbeat: Duration,
    /// How long a client may take to answer a heartbeat.
    pub pong_timeout: Duration,
    /// How many bytes of events may be queued for one session before it is closed because it reads too slowly. The same
    /// limit applies to the live events that are held back for a session that waits for its welcome or for a replay.
    pub outbox_bytes: usize,
    /// How many events may be in the log of unconfirmed events. When it is full, all links are cut, and their workers
    /// bounce what is not settled.
    pub unconfirmed_events: usize,
    /// How many bytes may wait for all sessions together: what their sockets did not take at once, and what is held
    /// back. If it is more, ephemeral events are dropped, then the sessions for which the most waits are closed as too
    /// slow.
    pub node_outbox_bytes: usize,
    /// How long a session may keep events from being settled because its client reads slowly: how long a replay may
    /// take, and how long a heartbeat may wait to be written. Then the session is closed as too slow.
    pub slow_timeout: Duration,
    /// Which rooms may be active, by the age of their order rows.
    pub window: ActivityWindow,
    /// How many sign-ins may begin in one second. The others wait for their turn.
    pub sign_ins_per_second: u32,
    /// How long a sign-in may wait for its turn. One that would wait longer is refused with a time to come back.
    pub sign_in_wait: Duration,
    /// How long a sign-in may take once it has begun.
    pub sign_in_timeout: Duration,
    /// How long a sign-in, or a list of rooms, waits for the next answer of an owner. Rooms that are left then come
    /// with what their rows say, and are attached in the background.
    pub owner_patience: Duration,
    /// The interval at which the heads of the rooms with recent events are compared.
    pub heads_every: Duration,
    /// The interval at which read markers are written.
    pub markers_every: Duration,
    /// How many days events are kept of rooms that do not say. 0 is for ever.
    pub retention_days: u16,
    /// The rates that the gateway holds clients to, which `welcome` tells.
    pub rates: Rates,
    /// The time over which the clients of a drained node are told to spread their reconnects.
    pub drain_spread: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            clients: true,
            heartbeat: HEARTBEAT,
            pong_timeout: PONG_TIMEOUT,
            outbox_bytes: 1024 * 1024,
            unconfirmed_events: 4_000_000,
            retention_days: 0,
            rates: Rates::default(),
            node_outbox_bytes: 256 * 1024 * 1024,
            slow_timeout: SLOW_TIMEOUT,
            window: ActivityWindow::default(),
            sign_ins_per_second: 2_000,
            sign_in_wait: SIGN_IN_WAIT,
            sign_in_timeout: SIGN_IN_TIMEOUT,
            owner_patience: OWNER_PATIENCE,
            heads_every: HEAD_CHECK_EVERY,
            markers_every: Duration::from_secs(2),
            drain_spread: Duration::from_secs(5),
        }
    }
}

/// An error about settings that are invalid or contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SessionConfigError(&'static str);

impl SessionConfig {
    /// Checks the settings and the relations between them.
    ///
    /// # Errors
    /// Returns a [`SessionConfigError`] that says which condition does not hold.
    pub fn check(&self) -> Result<(), SessionConfigError> {
        if self.heartbeat.is_zero() || self.pong_timeout.is_zero() {
            return Err(SessionConfigError("heartbeat and pong_timeout must be longer than zero"));
        }
        if self.pong_timeout > self.heartbeat {
            return Err(SessionConfigError("pong_timeout must not be longer than heartbeat"));
        }
        if self.slow_timeout.is_zero() {
            return Err(SessionConfigError("slow_timeout must be longer than zero"));
        }
        if self.node_outbox_bytes < self.outbox_bytes {
            return Err(SessionConfigError("node_outbox_bytes must not be less than outbox_bytes"));
        }
        if self.sign_ins_per_second == 0 {
            return Err(SessionConfigError("sign_ins_per_second must be at least 1"));
        }
        Ok(())
    }
}
