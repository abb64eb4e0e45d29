//! The options of a node, however it is run.

use std::time::Duration;

use sendpi_bus::NatsLoginError;
use sendpi_channel::{ChannelConfig, IdleConfig};
use sendpi_gateway::GatewayConfig;
use sendpi_model::timing::{ActivityWindow, ActivityWindowError, PONG_TIMEOUT};
use sendpi_push::{PushConfig, WebhookConfigError};
use sendpi_session::{SessionConfig, SessionConfigError};

use crate::nats_args::NatsArgs;
use crate::push_args::PushArgs;
use crate::rate_args::{RateArgs, RateArgsError};
use crate::token_args::{TokenArgs, TokenArgsError};

/// How a node treats its clients and its rooms.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeArgs {
    /// How often a heartbeat is sent to each session.
    #[arg(long, default_value = "25s", value_parser = humantime::parse_duration)]
    heartbeat: Duration,
    /// The least time without a subscriber after which a channel is evicted.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    idle_min: Duration,
    /// The time without an event after which a channel is evicted even with subscribers.
    #[arg(long, default_value = "15m", value_parser = humantime::parse_duration)]
    idle_max: Duration,
    /// Time after the loss of a node until its unconfirmed events are pushed.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    bounce_after: Duration,
    /// How far back a sign-in looks for rooms that may be active.
    #[arg(long, default_value = "11m", value_parser = humantime::parse_duration)]
    horizon: Duration,
    /// How many days events are kept, in rooms that do not say it themselves; 0 is for ever.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=3_650))]
    retention_days: u16,
    /// Time after the deletion of a room until its rows are removed.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    remove_after: Duration,
    /// The most MiB that may wait for slow clients of a node together; beyond that, the slowest are closed.
    #[arg(long, default_value_t = 256)]
    outboxes_mib: u32,
    /// An origin from which pages may ask, besides the gateway's own, such as https://chat.example.org. Repeatable.
    #[arg(long = "allowed-origin", value_name = "ORIGIN")]
    allowed_origins: Vec<String>,
    #[command(flatten)]
    pub(crate) nats_access: NatsArgs,
    #[command(flatten)]
    tokens: TokenArgs,
    #[command(flatten)]
    push: PushArgs,
    #[command(flatten)]
    rates: RateArgs,
    /// The network of a proxy that names its client in X-Forwarded-For, such as 10.0.0.0/8. Repeatable.
    #[arg(long = "trusted-proxy", value_name = "NETWORK")]
    trusted_proxies: Vec<ipnet::IpNet>,
}

/// The reason why a setting cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeArgsError {
    /// The bounds of the idle time contradict each other.
    #[error("--idle-min must not be longer than --idle-max")]
    IdleBounds,
    /// The settings of the user tier contradict each other.
    #[error(transparent)]
    Sessions(#[from] SessionConfigError),
    /// The horizon contradicts another setting.
    #[error(transparent)]
    Window(#[from] ActivityWindowError),
    /// A key for tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenArgsError),
    /// The webhook cannot be used.
    #[error(transparent)]
    Webhook(#[from] WebhookConfigError),
    /// The key for NATS cannot be used.
    #[error(transparent)]
    NatsKey(#[from] NatsLoginError),
    /// A rate cannot be set.
    #[error(transparent)]
    Rates(#[from] RateArgsError),
}

impl NodeArgs {
    /// Checks the settings and the relations between them, before anything is started.
    pub(crate) fn check(&self) -> Result<(), NodeArgsError> {
        if self.idle_min > self.idle_max {
            return Err(NodeArgsError::IdleBounds);
        }
        self.push()?;
        self.sessions().map(drop)
    }

    /// Returns whether tokens of others are checked.
    pub(crate) fn has_token_keys(&self) -> bool {
        self.tokens.has_keys()
    }

    /// Returns the settings of a gateway. `own` is the key of tokens if no other is named.
    pub(crate) fn gateway(&self, own: &[u8]) -> Result<GatewayConfig, NodeArgsError> {
        let mut config = GatewayConfig::new(self.tokens.rules(own)?);
        config.rates = self.rates.rates()?;
        config.trusted_proxies.clone_from(&self.trusted_proxies);
        config.allowed_origins.clone_from(&self.allowed_origins);
        Ok(config)
    }

    /// Returns the settings of the user tier.
    pub(crate) fn sessions(&self) -> Result<SessionConfig, NodeArgsError> {
        let sessions = SessionConfig {
            heartbeat: self.heartbeat,
            window: self.window()?,
            retention_days: self.retention_days,
            pong_timeout: PONG_TIMEOUT.min(self.heartbeat),
            rates: self.rates.rates()?,
            node_outbox_bytes: self.outboxes_mib as usize * 1024 * 1024,
            ..SessionConfig::default()
        };
        sessions.check()?;
        Ok(sessions)
    }

    /// Returns the settings of the channel role.
    pub(crate) fn channel(&self) -> Result<ChannelConfig, NodeArgsError> {
        Ok(ChannelConfig {
            idle: IdleConfig { min: self.idle_min, max: self.idle_max },
            bounce_after: self.bounce_after,
            retention_days: self.retention_days,
            remove_after: self.remove_after,
            window: self.window()?,
            ..ChannelConfig::default()
        })
    }

    /// Returns the settings of the push role, or `None` if push jobs are for somebody else.
    pub(crate) fn push(&self) -> Result<Option<PushConfig>, NodeArgsError> {
        Ok(self.push.config()?)
    }

    fn window(&self) -> Result<ActivityWindow, ActivityWindowError> {
        // One eleventh of the horizon: a minute of the default, and less for the short horizons that tests have.
        ActivityWindow::new(self.horizon, self.horizon / 11, self.idle_max)
    }
}
