//! The configuration of a gateway.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use sendpi_model::Rates;

use crate::TokenRules;

/// The configuration of one gateway.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The address to listen on. Port 0 chooses a free port.
    pub listen: SocketAddr,
    /// What tokens are checked against.
    pub tokens: TokenRules,
    /// Origins from which browsers may connect, besides the gateway's own. Example: `https://chat.example.org`.
    pub allowed_origins: Vec<String>,
    /// How often clients may ask something.
    pub rates: Rates,
    /// The networks of proxies that name their client in `X-Forwarded-For`.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether anybody may read the metrics, and not only clients on this machine.
    pub open_metrics: bool,
    /// Whether to serve clients. If not, only operations are served: health, readiness and metrics.
    pub clients: bool,
    /// Whether to serve the chat page.
    pub page: bool,
    /// Whether to issue a token for any user to any client on this machine, signed with the first key.
    pub dev_tokens: bool,
    /// How long a client may take to send the head of an HTTP request, and to send a valid `hello` on a WebSocket.
    pub sign_in_timeout: Duration,
}

impl GatewayConfig {
    /// Returns the defaults: port 8080 on the loopback address, no further origins, and no development features.
    #[must_use]
    pub fn new(tokens: TokenRules) -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            tokens,
            allowed_origins: Vec::new(),
            rates: Rates::default(),
            trusted_proxies: Vec::new(),
            open_metrics: false,
            clients: true,
            page: false,
            dev_tokens: false,
            sign_in_timeout: Duration::from_secs(10),
        }
    }
}
