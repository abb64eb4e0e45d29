//! A watch on the nodes that come and go. It is only a hint: the truth about a node is read behind the barrier.

use async_nats::jetstream::kv::Operation;
use futures_util::StreamExt;
use sendpi_model::NodeId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Bus, Revision, subject};

/// What happened to a node's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeChange {
    /// The key was put or refreshed.
    Alive(NodeId),
    /// The key was purged or expired. The revision is that of its marker.
    Gone(NodeId, Revision),
}

/// Watches the keys of all nodes until `stop` is cancelled and sends their changes, beginning with the keys that
/// exist. A process has one watcher.
///
/// At most 1,024 changes wait in the channel. While it is full, the watch waits.
#[must_use]
pub fn watch_nodes(bus: &Bus, stop: CancellationToken) -> mpsc::Receiver<NodeChange> {
    let (tell, changes) = mpsc::channel(1024);
    let bus = bus.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = watch(&bus, &tell) => {}
        }
    });
    changes
}

async fn watch(bus: &Bus, tell: &mpsc::Sender<NodeChange>) {
    loop {
        if let Err(error) = watch_once(bus, tell).await {
            tracing::warn!(error, "the watch on nodes ended; it is started again");
        }
        if tell.is_closed() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

async fn watch_once(bus: &Bus, tell: &mpsc::Sender<NodeChange>) -> Result<(), String> {
    let mut losses = bus.losses();
    let before = losses.borrow_and_update().presence;
    let store = bus.jetstream().get_key_value(subject::PRESENCE_BUCKET).await.map_err(|e| e.to_string())?;
    let mut watch = store.watch_with_history(subject::NODE_KEYS).await.map_err(|e| e.to_string())?;
    loop {
        let entry = tokio::select! {
            entry = watch.next() => entry.ok_or("the stream of changes ended")?.map_err(|e| e.to_string())?,
            Ok(()) = losses.changed() => {
                if losses.borrow_and_update().presence == before {
                    continue;
                }
                // The watch would go on from a place that the new bucket has not reached yet.
                return Err("the bucket was lost".to_owned());
            }
        };
        let Some(node) = subject::node_of_key(&entry.key) else { continue };
        let change = match entry.operation {
            Operation::Put => NodeChange::Alive(node),
            Operation::Delete | Operation::Purge => NodeChange::Gone(node, entry.revision),
        };
        if tell.send(change).await.is_err() {
            return Ok(());
        }
    }
}
