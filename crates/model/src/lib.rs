//! The vocabulary of the domain, and the messages that the parts of Sendpi exchange.
//!
//! This crate has no async code, and no I/O but for the faults of test builds. It defines ids (which are checked once,
//! at the edge), events and heads, roles, the frames of the client protocol, error and close codes, the requests of
//! flows, and the items of links. Every other crate except `sendpi-bench` depends on it.
//!
//! # Map
//! - `id`, `partition`, `hash`, `role`, `room_info`, `time`: ids and their rules, partitions, hashes, roles, ROOM of
//!   the protocol, milliseconds.
//! - `event`: durable events, encoded once, and the typing frame; `event/content`: their fields by kind;
//!   `event/revision`: what edits and deletions change; `mentions`: whom a message mentions.
//! - `client_frame`, `verb`, `verb/codec`, `fields`: what clients and nodes ask, and the rules of its fields;
//!   `client_frame/rules`, `i_json`, `characters`: those that hold for clients only.
//! - `server_frame`: what the server sends. It reads answers, too; `answer`, `notice` and `page` have the types.
//! - `refusal`, `close`: error codes and close codes.
//! - `control`: what operators ask workers.
//! - `rights`: who may do what in a room.
//! - `partition_set`: partitions as operators write them. `rendezvous`: which node something belongs to.
//! - `flow`, `link`, `link/item`: the formats of what nodes and workers exchange.
//! - `json`: encodes JSON, and joins what is encoded already.
//! - `subject_token`: ids as tokens of NATS subjects and keys.
//! - `limits`, `timing`: the limits that several crates share; the timeouts that depend on each other.
//! - `faults`: mutants, fail points and bus faults of test builds.

mod characters;
mod client_frame;
mod close;
pub mod control;
mod event;
pub mod faults;
mod fields;
pub mod flow;
mod hash;
mod i_json;
mod id;
mod json;
pub mod limits;
pub mod link;
mod mentions;
mod partition;
mod partition_set;
mod push_address;
mod rates;
mod refusal;
pub mod rendezvous;
pub mod rights;
mod role;
mod room_info;
pub mod server_frame;
pub mod subject_token;
mod time;
pub mod timing;
mod verb;

pub use client_frame::{ClientFrame, ClientOp, FrameId, Hello};
pub use close::CloseCode;
pub use event::{
    Content, Event, EventKind, Head, LeftReason, Message, MessageRevision, Reaction, RoleChange, RoomChange,
};
pub use fields::Fields;
pub use hash::fnv1a_64;
pub use id::{DeviceId, IdError, NodeId, Nonce, RoomId, UserId};
pub use json::{JsonObject, encode_json};
pub use mentions::Mentions;
pub use partition::{Partition, Partitions};
pub use partition_set::{PartitionSet, PartitionSetError};
pub use push_address::PushAddress;
pub use rates::{Rate, RateError, Rates};
pub use refusal::{Code, Refusal};
pub use role::{Access, Notify, Role, RoomKind};
pub use room_info::{Mark, Preview, RoomInfo};
pub use time::Millis;
pub use verb::Verb;
