//! How the channel tier is configured.

use std::time::Duration;

use sendpi_model::timing::{ActivityWindow, BOUNCE_AFTER, OWNER_SILENCE, SETTLE_EVERY};

use crate::room::IdleConfig;

/// The configuration of a worker.
#[derive(Debug, Clone, Copy)]
pub struct ChannelConfig {
    /// When channels are evicted.
    pub idle: IdleConfig,
    /// How old order rows may be at a dispatch.
    pub window: ActivityWindow,
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
            window: ActivityWindow::default(),
            settle_every: SETTLE_EVERY,
            bounce_after: BOUNCE_AFTER,
            owner_silence: OWNER_SILENCE,
        }
    }
}
