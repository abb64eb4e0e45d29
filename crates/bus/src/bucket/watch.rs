//! A watch on the keys of a bucket. What it brings is only a hint: it may lag behind the bucket without bound.

use async_nats::jetstream::kv::{Entry, Operation};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Bucket, KeyEntry};
use crate::StreamLosses;

/// The pause before a watch that ended is begun again.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
/// The most changes that wait. While there are so many, the watch waits.
const WAITING: usize = 1024;

/// What a watch brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WatchedKey {
    /// A key has this value, or was deleted.
    Changed(String, KeyEntry),
    /// All keys that there were when the watch began were brought.
    AllKnown,
}

/// Watches the keys that match `filter` until `stop` is cancelled, beginning with those that exist. `losses` counts how
/// often the bucket was lost. What `read` makes of the changes is sent.
pub(crate) fn watch<T: Send + 'static>(
    bucket: Bucket,
    filter: &'static str,
    losses: fn(&StreamLosses) -> u64,
    read: impl Fn(WatchedKey) -> Option<T> + Send + Sync + 'static,
    stop: CancellationToken,
) -> mpsc::Receiver<T> {
    let (tell, changes) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let watching = async {
            while !tell.is_closed() {
                if let Err(error) = watch_once(&bucket, filter, losses, &read, &tell).await {
                    tracing::warn!(error, bucket = bucket.name, "a watch ended; it is begun again");
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        stop.run_until_cancelled(watching).await;
    });
    changes
}

async fn watch_once<T>(
    bucket: &Bucket,
    filter: &str,
    losses: fn(&StreamLosses) -> u64,
    read: &impl Fn(WatchedKey) -> Option<T>,
    tell: &mpsc::Sender<T>,
) -> Result<(), String> {
    let mut lost = bucket.bus.losses();
    let before = losses(&lost.borrow_and_update());
    let store = bucket.bus.jetstream().get_key_value(bucket.name).await.map_err(|e| e.to_string())?;
    let mut watch = store.watch_with_history(filter).await.map_err(|e| e.to_string())?;
    let mut all_known = false;
    loop {
        let entry = tokio::select! {
            entry = watch.next() => entry.ok_or("the stream of changes ended")?.map_err(|e| e.to_string())?,
            Ok(()) = lost.changed() => {
                if losses(&lost.borrow_and_update()) == before {
                    continue;
                }
                // The watch would go on from a place that the new bucket has not reached yet.
                return Err("the bucket was lost".to_owned());
            }
        };
        let is_last = entry.delta == 0 && !all_known;
        all_known |= is_last;
        let known = is_last.then_some(WatchedKey::AllKnown);
        for change in std::iter::once(changed(entry)).chain(known) {
            if let Some(change) = read(change)
                && tell.send(change).await.is_err()
            {
                return Ok(());
            }
        }
    }
}

fn changed(entry: Entry) -> WatchedKey {
    let value = matches!(entry.operation, Operation::Put).then_some(entry.value);
    WatchedKey::Changed(entry.key, KeyEntry { revision: entry.revision, value })
}
