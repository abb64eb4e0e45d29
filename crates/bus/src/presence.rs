//! Presence: which nodes live, and on which of them a user has sessions.

mod barrier;
mod liveness;
mod node_info;
mod node_key;
mod node_poll;
mod node_watch;
mod user_keys;

pub use barrier::{Barrier, Online};
pub use liveness::{answer_alive, dead_nodes, is_alive, purge_node};
pub use node_info::{NodeInfo, WorkerShare};
pub use node_key::{NodeKey, NodeKeyState};
pub use node_poll::poll_gone_nodes;
pub use node_watch::{NodeChange, watch_nodes};
pub use user_keys::{UserKeys, Written};
