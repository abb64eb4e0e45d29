//! What must last: timelines, members, each user's rooms in order, and who may write them.
//!
//! [`Store`] is the contract and its documentation the rules; [`embedded`] keeps everything on one machine. What both the channel
//! tier and a store's tests need to agree on is pure: [`EpochChain`] tells which rows of a timeline count.

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
