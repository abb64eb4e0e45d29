//! Flows: the ordered requests of one node to one partition. The node has the sender's half, and the owner has the
//! receiver's half. Both are pure.

mod receiver;
mod sender;

pub use receiver::{DueRequests, FlowReceiver};
pub use sender::{FlowFull, FlowSender};
