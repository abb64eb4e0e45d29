//! The settings of the user tier.

use std::time::Duration;

use sendpi_model::timing::{
    ActivityWindow, DRAIN_TIMEOUT, HEAD_CHECK_EVERY, HEARTBEAT, PONG_TIMEOUT, SIGN_IN_TIMEOUT, SIGN_IN_WAIT,
};

/// The settings of the user tier of one node.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The NATS servers, as the node's connection has them: with them, the subjects of all users share one plain connection, which saves
    /// 5 KB a user. Without them, or where one of them needs TLS, the node's own connection serves.
    pub servers: Option<String>,
    /// How often a session is asked for a sign of life.
    pub heartbeat: Duration,
    /// How long it may take to answer.
    pub pong_timeout: Duration,
    /// How many bytes may wait for one session before it counts as reading too slowly.
    pub outbox_bytes: usize,
    /// Which rooms may be active, by the age of their order rows.
    pub window: ActivityWindow,
    /// Sign-ins that begin in one second; the others wait their turn.
    pub sign_ins_per_second: u32,
    /// How long a sign-in may wait for its turn before it is told to come back.
    pub sign_in_wait: Duration,
    /// How long a sign-in may take.
    pub sign_in_timeout: Duration,
    /// How often the heads of the rooms with recent events are compared.
    pub heads_every: Duration,
    /// How often read markers are written.
    pub markers_every: Duration,
    /// Over how long the clients of a drained node are told to spread their reconnects.
    pub drain_spread: Duration,
    /// How long a drain waits for its sessions to end.
    pub drain_timeout: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            servers: None,
            heartbeat: HEARTBEAT,
            pong_timeout: PONG_TIMEOUT,
            outbox_bytes: 1024 * 1024,
            window: ActivityWindow::default(),
            sign_ins_per_second: 2_000,
            sign_in_wait: SIGN_IN_WAIT,
            sign_in_timeout: SIGN_IN_TIMEOUT,
            heads_every: HEAD_CHECK_EVERY,
            markers_every: Duration::from_secs(2),
            drain_spread: Duration::from_secs(5),
            drain_timeout: DRAIN_TIMEOUT,
        }
    }
}

/// Settings that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SessionConfigError(&'static str);

impl SessionConfig {
    /// Checks the relations between the settings.
    ///
    /// # Errors
    /// [`SessionConfigError`] says which relation does not hold.
    pub fn check(&self) -> Result<(), SessionConfigError> {
        if self.heartbeat.is_zero() || self.pong_timeout.is_zero() {
            return Err(SessionConfigError("heartbeat and pong_timeout must be longer than nothing"));
        }
        if self.pong_timeout > self.heartbeat {
            return Err(SessionConfigError("pong_timeout must not be longer than heartbeat"));
        }
        if self.sign_ins_per_second == 0 {
            return Err(SessionConfigError("sign_ins_per_second must be at least 1"));
        }
        Ok(())
    }
}
