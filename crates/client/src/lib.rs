//! The Rust client of Sendpi: what the load generator and the tests speak through.
//!
//! [`connect`] signs in and gives two halves: a [`Client`], which asks and gets answers, and [`Frames`], what the server sends on its
//! own. Frames must be taken: when as many wait as [`Options::queue`] allows, nothing more is read from the connection, answers
//! included.

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
