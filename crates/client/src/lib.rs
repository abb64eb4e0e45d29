//! The Rust client of Sendpi.
//!
//! [`connect`] signs in and returns the two halves of a connection: a [`Client`], which sends requests and receives
//! their answers, and [`Frames`], which the server sends on its own. The caller must drain the frames: once as many
//! are queued as [`Options::queue`] allows, nothing more is read from the connection, not even answers.
//!
//! # Map
//! - `open`: connects and signs in. `client`: the two halves. `connection`: the task between them. `answers`: which
//!   requests wait for an answer. `ops`: the protocol's requests in types. `error`: what can go wrong.

mod answers;
mod client;
mod connection;
mod error;
mod open;
mod ops;

pub use client::{Client, Frames};
pub use error::{ClientError, Closed};
pub use open::{Options, connect, open};
pub use ops::{History, Range, SendOptions, Sent};
pub use sendpi_model::server_frame::{
    EventFrame, HeadsAnswer, MarkerFrame, MemberEntry, MembersPage, Resumed, ResumedRoom, RoomsPage, ServerFrame,
    Welcome,
};
