//! What all requests and sessions of a gateway share.

use sendpi_session::UserTier;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{GatewayConfig, Tokens};

/// What all requests and sessions of a gateway share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: GatewayConfig,
    pub(crate) tokens: Tokens,
    pub(crate) sessions: UserTier,
    /// Connections and sessions: what a stopping gateway waits for.
    pub(crate) tasks: TaskTracker,
    /// Ends what is still there after the grace period.
    pub(crate) cut: CancellationToken,
}
