//! Flows: the ordered requests of one node to one partition. The node has the sender's half, the owner the receiver's; both are pure.

mod receiver;
mod sender;

pub use receiver::{DueRequests, FlowReceiver};
pub use sender::{FlowFull, FlowSender};
