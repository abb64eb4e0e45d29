//! The state that all requests and sessions of a gateway share.

use sendpi_session::UserTier;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{GatewayConfig, Tokens};

/// The state that all requests and sessions of a gateway share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: GatewayConfig,
    pub(crate) tokens: Tokens,
    pub(crate) sessions: UserTier,
    /// The tasks of connections and sessions, for which a stopping gateway waits.
    pub(crate) tasks: TaskTracker,
    /// Ends the connections and sessions that are left when the gateway must have ended.
    pub(crate) cut: CancellationToken,
}
