//! The data that must last: timelines, members, each user's rooms in order, and the right to write them.
//!
//! [`Store`] is the contract, and its documentation states the rules. [`embedded`] keeps everything on one machine.
//! [`EpochChain`] is pure and determines which rows of a timeline count.

pub mod conformance;
pub mod embedded;
mod epoch_chain;
mod rows;
mod store;

pub use epoch_chain::EpochChain;
pub use rows::{
    ActiveRoom, EventRow, Fence, MarkerRow, MemberRow, OrderRow, RoomOfUser, RoomRow, Row, SettledRow, Start, minute,
};
pub use store::{ReadError, Store, WriteError};
