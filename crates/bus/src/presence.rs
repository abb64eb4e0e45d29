//! Presence: which nodes live, and on which of them a user has sessions.

mod barrier;
mod node_key;
mod node_watch;
mod upkeep;
mod user_keys;

pub use barrier::{Barrier, Online};
pub use node_key::{NodeKey, State};
pub use node_watch::{NodeChange, watch_nodes};
pub use upkeep::{answer_alive, dead_nodes, is_alive, purge_node};
pub use user_keys::{UserKeys, Written};
