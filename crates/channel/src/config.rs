//! How the channel tier is configured.

use std::time::Duration;

use crate::room::IdleConfig;

/// The configuration of a worker.
#[derive(Debug, Clone, Copy)]
pub struct ChannelConfig {
    /// When channels are evicted.
    pub idle: IdleConfig,
    /// A durable event is dispatched only under order rows that are younger. A sign-in looks a minute further back, for clocks.
    pub order_rows_age: Duration,
    /// How often it is written down what is settled.
    pub settle_every: Duration,
    /// How long after a node died or became unreachable what it did not settle is pushed.
    pub bounce_after: Duration,
    /// How long an owner may be without an answer before its partitions count as ownerless.
    pub owner_silence: Duration,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            idle: IdleConfig::default(),
            order_rows_age: Duration::from_secs(10 * 60),
            settle_every: Duration::from_secs(3),
            bounce_after: Duration::from_secs(10),
            owner_silence: Duration::from_millis(500),
        }
    }
}
