//! The edge: HTTP, WebSockets, tokens, and the chat page.
//!
//! axum and hyper serve HTTP and the handshake of a WebSocket. After the handshake the gateway owns the socket. It
//! passes what it reads to the session as checked frames. The session sends whole encoded frames, which it writes to
//! the socket itself, so that the gateway's task per session only reads and finishes the writes that blocked.
//!
//! # Map
//! - `server`: listens, accepts, stops. `shared`: what all connections share. `config`: settings.
//! - `js_client`: the JavaScript client, in `js/`.
//! - `operations`: whether the node lives and is ready, and its metrics. `metrics`: those of the gateway.
//! - `rates`: how often users and sessions may ask something. `addresses`: connections of one address.
//! - `upgrade`: the handshake of a WebSocket. `handshake`: the first frame, `hello`. `token`: who a client is, with its
//!   keys in `token/key` and `token/jwks`.
//! - `ws_session`: one WebSocket from its handshake to its end, and its frames on their way to the session.
//!   `connection`: its reading half. `socket`: its bytes.
//! - `http`: HTTP for servers and scripts, one file for each kind of resource. `http_error`: refusals as HTTP answers.
//! - `page`: the chat page of `sendpi dev`, and its tokens.

mod addresses;
mod config;
mod connection;
mod handshake;
mod http;
mod http_error;
mod js_client;
mod metrics;
mod operations;
mod page;
mod rates;
mod server;
mod shared;
mod socket;
mod token;
mod upgrade;
mod ws_session;

pub use config::GatewayConfig;
pub use http::openapi;
pub use server::{BindError, Gateway};
pub use token::{JwksError, TokenError, TokenKey, TokenKeyError, TokenRules, Tokens, TokensError};
