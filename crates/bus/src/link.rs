//! Links: the numbered messages of one worker to one node. The worker has the sender's half, and the node has the
//! receiver's half. Both are pure.

mod receiver;
mod sender;

pub use receiver::{LinkReceived, LinkReceiver};
pub use sender::{GiveUp, LinkEvent, LinkLoad, LinkSender, LinkTick, Undelivered, Unsettled};
