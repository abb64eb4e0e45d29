//! The configuration of the channel tier.

use std::time::Duration;

use sendpi_model::timing::{ActivityWindow, BOUNCE_AFTER, OWNER_SILENCE, SETTLE_EVERY};

use crate::room::IdleConfig;

/// Long after everything of the room reached everybody, or was pushed.
const REMOVE_AFTER: Duration = Duration::from_hours(1);

/// The configuration of a worker.
#[derive(Debug, Clone, Copy)]
pub struct ChannelConfig {
    /// When channels are evicted.
    pub idle: IdleConfig,
    /// How old order rows may be at a dispatch.
    pub window: ActivityWindow,
    /// How often the worker writes down what is settled, and evicts idle channels.
    pub settle_every: Duration,
    /// How long after a node is given up the events that it did not settle are bounced.
    pub bounce_after: Duration,
    /// How long NATS must report no responders for an owner before its partitions count as ownerless.
    pub owner_silence: Duration,
    /// How many days events are kept of rooms that do not say. 0 is for ever.
    pub retention_days: u16,
    /// How long after a room was deleted its rows are removed.
    pub remove_after: Duration,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            idle: IdleConfig::default(),
            window: ActivityWindow::default(),
            settle_every: SETTLE_EVERY,
            bounce_after: BOUNCE_AFTER,
            owner_silence: OWNER_SILENCE,
            retention_days: 0,
            remove_after: REMOVE_AFTER,
        }
    }
}
