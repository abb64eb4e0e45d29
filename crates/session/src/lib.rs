//! The user tier: user channels and their sessions, without sockets.
//!
//! What a node knows is one pure state, changed under one lock; around it are thin tasks: one that sends what waits in the
//! flows to the owners of rooms, one that takes what links bring and writes it to sessions, one timer for all heartbeats, and short
//! ones for sign-ins, replays and gaps. A gateway opens a [`Session`] for each socket and hands it the client's frames.

mod admission;
mod answer;
mod arena;
mod config;
mod downlink;
mod drain;
mod effects;
mod fill;
mod flows;
mod frame;
mod handle;
mod heads;
mod line;
mod links;
mod list;
mod markers;
mod node;
mod notice;
mod outbox;
mod peer;
mod repeats;
mod replay;
mod resume;
mod resync;
mod rooms;
mod session;
mod sign_in;
mod state;
mod tag;
mod taken;
mod typing;
mod uplink;
mod user;
mod wheel;
mod wire;

pub use config::{Config, ConfigError};
pub use handle::{Handle, StartError, start};
pub use session::Session;
pub use wire::{Flush, Identity, Wire};
