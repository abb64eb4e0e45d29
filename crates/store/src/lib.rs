//! The data that must last: timelines, members, each user's rooms in order, and the right to write them.
//!
//! [`Store`] is the contract, and its documentation states the rules. [`embedded`] keeps everything on one machine.
//! [`EpochChain`] is pure and determines which rows of a timeline count.
//!
//! # Map
//! - `store`: the contract. `rows`: the rows. `stamp`: which of two writes of a row stays. `epoch_chain`: which rows of
//!   a timeline count. `newest_rooms`: a page of a user's rooms. `conformance`: the suite.
//! - `cql`: the store of a cluster. `config` is how to reach it, `client` runs one statement, `statements` lists them,
//!   `columns` is how tables hold rows, `writer` the write path, `outcome` what an error says, `store` and `timeline`
//!   read, `fence_reads` reads a fence for all that wait, `active_hours` finds the hours that there are, `schema` makes
//!   and checks the tables, `durability` looks at the settings.
//! - `embedded`: the store of one machine. `store` reads, `writer` is the whole write path, `merge` decides which of
//!   two writes stays, `encode` and `key` are the format, `table` is the engine with a copy of the fences in memory,
//!   `opened` opens it, again after the disk failed, `journal` makes what the engine will read durable before that,
//!   `expiry` removes old rows, and `leftovers` those that no read needs any more.

pub mod conformance;
pub mod cql;
pub mod embedded;
mod epoch_chain;
mod newest_rooms;
mod rows;
mod stamp;
mod store;

pub use epoch_chain::EpochChain;
pub use rows::{
    ActiveRoom, DeletedRoom, DeviceRow, EventRow, Fence, MarkerRow, MemberRow, NonceRow, OrderRow, PushedRange,
    PushedRow, RevokedRow, RoomOfUser, RoomRow, Row, SettledRow, Start,
};
pub use stamp::Stamp;
pub use store::{ReadError, Store, StoreHealth, TIMELINE_BUCKET, WriteError};
