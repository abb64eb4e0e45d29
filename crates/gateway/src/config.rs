//! What a gateway is told at its start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::TokenKey;
use sendpi_model::timing::DRAIN_TIMEOUT;

/// The configuration of one gateway.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What tokens are checked with.
    pub key: TokenKey,
    /// Origins of browsers that may connect, beside the gateway's own: `https://chat.example.org`.
    pub allowed_origins: Vec<String>,
    /// Serves the chat page, and gives a token for any user to whoever asks from this machine.
    pub dev: bool,
    /// How long a new connection may take for its request, and a WebSocket for its first frame.
    pub sign_in_timeout: Duration,
    /// How long a stopping gateway waits for its sessions to end.
    pub grace: Duration,
}

impl GatewayConfig {
    /// The defaults: port 8080 of this machine only, nothing beside what the protocol says.
    #[must_use]
    pub fn new(key: TokenKey) -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            key,
            allowed_origins: Vec::new(),
            dev: false,
            sign_in_timeout: Duration::from_secs(10),
            grace: DRAIN_TIMEOUT,
        }
    }
}
