//! The state that all requests and sessions of a gateway share.

use prometheus_client::registry::Registry;
use sendpi_session::UserTier;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::addresses::AddressCounts;
use crate::metrics::GatewayMetrics;
use crate::rates::UserRates;
use crate::{GatewayConfig, Tokens};

/// The state that all requests and sessions of a gateway share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: GatewayConfig,
    pub(crate) tokens: Tokens,
    pub(crate) sessions: UserTier,
    pub(crate) metrics: GatewayMetrics,
    /// All metrics of the node.
    pub(crate) registry: Registry,
    pub(crate) rates: UserRates,
    /// All connections.
    pub(crate) connections: AddressCounts,
    /// Those that are not signed in.
    pub(crate) unsigned: AddressCounts,
    /// The tasks of connections and sessions, for which a stopping gateway waits.
    pub(crate) tasks: TaskTracker,
    /// Ends the connections and sessions that are left when the gateway must have ended.
    pub(crate) cut: CancellationToken,
}
