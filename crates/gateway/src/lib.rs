//! The edge: HTTP, WebSockets, tokens, and the chat page.
//!
//! axum and hyper serve HTTP and the handshake of a WebSocket. After the handshake the gateway owns the socket. It
//! passes what it reads to the session as checked frames. The session sends whole encoded frames, which it writes to
//! the socket itself, so that the gateway's task per session only reads and finishes the writes that blocked.

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
