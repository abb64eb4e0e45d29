//! The edge: HTTP, WebSockets, tokens, and the chat page.
//!
//! axum and hyper serve HTTP and the handshake of a WebSocket; from there on the socket is the gateway's own. What it reads goes to
//! the session as checked frames; what the session sends are whole encoded frames, which the session writes to the socket itself,
//! so that the gateway's task per session only reads and finishes writes that blocked.

mod config;
mod connection;
mod handshake;
mod http_error;
mod incoming;
mod page;
mod server;
mod shared;
mod socket;
mod token;
mod upgrade;
mod ws_session;

pub use config::GatewayConfig;
pub use server::{BindError, Gateway};
pub use token::{TokenError, TokenKey, Tokens};
