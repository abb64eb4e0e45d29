//! The words of the domain, and what the parts of Sendpi say to each other.
//!
//! No async and no I/O: ids checked once at the edge, events and heads, roles, the frames of the client protocol, error and
//! close codes, the requests of flows and the items of links. Every other crate depends on this one.

mod close;
mod error;
mod event;
pub mod fault;
mod fields;
pub mod flow;
mod frame;
mod id;
pub mod limits;
pub mod link;
mod partition;
mod role;
mod room;
mod time;
pub mod token;
mod verb;

pub use close::CloseCode;
pub use error::{Code, Refusal};
pub use event::{Content, Event, Head, Kind, RoleChange};
pub use fields::Fields;
pub use frame::{ClientFrame, FrameId, Hello, Op, with_id};
pub use id::{DeviceId, IdError, NodeId, Nonce, RoomId, UserId};
pub use partition::{Partition, Partitions};
pub use role::{Access, Notify, Role, RoomKind};
pub use room::{Mark, Preview, RoomInfo, RoomView};
pub use time::Millis;
pub use verb::{Mentions, Verb};
