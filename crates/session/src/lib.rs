//! The user tier: user channels and their sessions, without sockets.
//!
//! What a node knows is one pure state, changed under one lock; around it are thin tasks: one that sends what waits in the
//! flows to the owners of rooms, one that takes what links bring and writes it to sessions, one timer for all heartbeats, and short
//! ones for sign-ins, replays and gaps. A gateway opens a [`Session`] for each socket and hands it the client's frames.

mod catch_up;
mod client;
mod config;
mod context;
mod drain;
mod handle;
mod keys;
mod markers;
mod ordered_lock;
mod owners;
mod sign_in;
mod state;

pub use client::session::Session;
pub use client::transport::{Flush, Identity, Transport};
pub use config::{SessionConfig, SessionConfigError};
pub use handle::{UserTier, UserTierStartError, start};
