//! A watch on the nodes that come and go. It is only a hint: the truth about a node is read behind the barrier.

use sendpi_model::NodeId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::NodeInfo;
use crate::bucket::{WatchedKey, watch};
use crate::{Bucket, Bus, KeyEntry, Revision, subject};

/// What happened to a node's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeChange {
    /// The key was put or refreshed. It says this, if it can be read.
    Alive(NodeId, Option<NodeInfo>),
    /// The key was purged or expired. The revision is that of its marker.
    Gone(NodeId, Revision),
    /// All nodes that there were when the watch began were named.
    AllKnown,
}

/// Watches the keys of all nodes until `stop` is cancelled and sends their changes, beginning with the keys that
/// exist. A process has one watcher.
///
/// At most 1,024 changes wait in the channel. While it is full, the watch waits.
#[must_use]
pub fn watch_nodes(bus: &Bus, stop: CancellationToken) -> mpsc::Receiver<NodeChange> {
    let bucket = Bucket::new(bus, subject::PRESENCE_BUCKET);
    watch(bucket, subject::NODE_KEYS, |losses| losses.presence, read, stop)
}

fn read(change: WatchedKey) -> Option<NodeChange> {
    let WatchedKey::Changed(key, KeyEntry { revision, value }) = change else { return Some(NodeChange::AllKnown) };
    let node = subject::node_of_key(&key)?;
    Some(match value {
        Some(value) => NodeChange::Alive(node, NodeInfo::parse(&value)),
        None => NodeChange::Gone(node, revision),
    })
}
