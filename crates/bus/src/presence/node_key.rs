//! This node's own key in the presence bucket. As long as the key exists, the node counts as live.

use std::sync::Arc;

use bytes::Bytes;
use sendpi_model::NodeId;
use sendpi_model::timing::{NODE_KEY_REFRESH, NODE_KEY_TTL};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{NodeInfo, WorkerShare};
use crate::{Bucket, Bus, KeyEntry, PutError, Revision, subject};

/// The most requests for a refresh that wait at one time. Further callers wait until there is room.
const WAITING: usize = 1024;

/// What is known about this node's own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeKeyState {
    /// When the last successful refresh was *sent*. A worker stops serving 10 s after it.
    pub refreshed: Instant,
    /// Rises when a refresh was refused: the key had been purged or had expired, so this node counted as dead for a
    /// time.
    pub refusals: u64,
}

/// Keeps this node's key. Cheap to clone. The key is purged when the token given to [`NodeKey::start`] is cancelled,
/// or when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct NodeKey {
    /// Each gets the revision of the key.
    asks: mpsc::Sender<oneshot::Sender<Revision>>,
    state: watch::Receiver<NodeKeyState>,
    info: Arc<watch::Sender<NodeInfo>>,
    node: NodeId,
}

impl NodeKey {
    /// Puts the key of `bus`'s node and refreshes it until `stop` is cancelled.
    ///
    /// # Errors
    /// [`PutError`] if the key could not be put the first time.
    pub async fn start(bus: &Bus, info: NodeInfo, stop: CancellationToken) -> Result<Self, PutError> {
        let node = bus.node().clone();
        let value = info.encode();
        let (info, of_node) = watch::channel(info);
        let mut keeper = Keeper {
            bucket: Bucket::new(bus, subject::PRESENCE_BUCKET),
            key: subject::node_key(&node),
            known: KnownKey { former: value.clone(), value, revision: 0, lost: false },
            info: of_node,
        };
        let sent = Instant::now();
        keeper.known.revision = keeper.put(None).await?;
        let (asks, waiting) = mpsc::channel(WAITING);
        let (tell, state) = watch::channel(NodeKeyState { refreshed: sent, refusals: 0 });
        tokio::spawn(keeper.run(waiting, tell, stop));
        Ok(Self { asks, state, info: Arc::new(info), node })
    }

    /// Returns the node whose key this is.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Returns a receiver of what is known about the key.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<NodeKeyState> {
        self.state.clone()
    }

    /// Publishes the key at once and returns its revision from the leader. This is the barrier behind which presence
    /// is read. A key that was lost is put again. `None` if that failed; ask again.
    pub async fn refresh(&self) -> Option<Revision> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(answer).await.ok()?;
        answered.await.ok()
    }

    /// Changes the node's part in owning partitions, and publishes the key at once. If that fails, the next refresh
    /// tells it.
    pub async fn set_share(&self, share: Option<WorkerShare>) {
        self.info.send_modify(|info| info.share = share);
        self.refresh().await;
    }

    /// Waits, after the token given to [`NodeKey::start`] was cancelled, until the key is purged, or until that failed.
    pub async fn ended(&self) {
        let mut state = self.state.clone();
        while state.changed().await.is_ok() {}
    }
}

struct Keeper {
    bucket: Bucket,
    key: String,
    known: KnownKey,
    info: watch::Receiver<NodeInfo>,
}

/// What the keeper knows of the key. Pure.
#[derive(Debug)]
struct KnownKey {
    value: Bytes,
    /// The value before it, of which a write may still be under way.
    former: Bytes,
    /// The revision of the last write that is known to be done.
    revision: Revision,
    /// Whether the key was found to be lost and no write is known to be done since. Such a write may be done without
    /// an answer, and then the key looks as if it had never been lost.
    lost: bool,
}

impl KnownKey {
    /// Notes that a write at [`Self::revision`] was refused, and what the leader has instead. Either a write of ours
    /// with an unknown outcome was done after all, or the key was lost.
    fn refused(&mut self, found: Option<&KeyEntry>) {
        let is_ours = |value: &Bytes| *value == self.value || *value == self.former;
        let ours = found.is_some_and(|e| e.revision > self.revision && e.value.as_ref().is_some_and(is_ours));
        self.lost |= !ours;
    }

    fn set_value(&mut self, value: Bytes) {
        if value != self.value {
            self.former = std::mem::replace(&mut self.value, value);
        }
    }

    /// Notes a write that was done. Returns whether the key had been lost before it.
    fn written(&mut self, revision: Revision) -> bool {
        self.revision = revision;
        std::mem::take(&mut self.lost)
    }
}

impl Keeper {
    async fn put(&self, expected: Option<Revision>) -> Result<Revision, PutError> {
        self.bucket.put(&self.key, self.known.value.clone(), expected, Some(NODE_KEY_TTL)).await
    }

    async fn run(
        mut self,
        mut asks: mpsc::Receiver<oneshot::Sender<Revision>>,
        state: watch::Sender<NodeKeyState>,
        stop: CancellationToken,
    ) {
        let mut ticks = interval(NODE_KEY_REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
                n = asks.recv_many(&mut waiting, WAITING) => if n == 0 { break },
            }
            let sent = Instant::now();
            let value = self.info.borrow_and_update().encode();
            self.known.set_value(value);
            match self.refresh().await {
                Ok(refused) => {
                    state.send_modify(|s| {
                        s.refreshed = sent;
                        s.refusals += u64::from(refused);
                    });
                    // A waiter that has dropped its receiver needs no answer.
                    for ask in waiting.drain(..) {
                        let _gone = ask.send(self.known.revision);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "this node's key could not be refreshed");
                    waiting.clear();
                }
            }
        }
        if let Err(error) = self.bucket.purge(&self.key).await {
            tracing::debug!(%error, "this node's key could not be purged; it expires by itself");
        }
    }

    /// Writes the key once. Returns whether an earlier key had been lost.
    async fn refresh(&mut self) -> Result<bool, PutError> {
        let put = match self.put(Some(self.known.revision)).await {
            Err(PutError::WrongRevision) => {
                let found = self.bucket.read(&self.key).await.map_err(|e| PutError::Unknown(e.to_string()))?;
                self.known.refused(found.as_ref());
                self.put(None).await
            }
            put => put,
        };
        put.map(|revision| self.known.written(revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> KnownKey {
        KnownKey { value: "{}".into(), former: "former".into(), revision: 7, lost: false }
    }

    fn entry(revision: Revision, value: Option<&'static str>) -> KeyEntry {
        KeyEntry { revision, value: value.map(Bytes::from) }
    }

    #[test]
    fn a_write_of_ours_without_an_answer_is_no_loss() {
        for value in ["{}", "former"] {
            let mut known = known();
            known.refused(Some(&entry(8, Some(value))));
            assert!(!known.written(9));
        }
    }

    #[test]
    fn a_key_that_expired_or_is_anothers_was_lost() {
        for found in [None, Some(entry(8, None)), Some(entry(8, Some("another's"))), Some(entry(2, Some("{}")))] {
            let mut known = known();
            known.refused(found.as_ref());
            assert!(known.written(9), "{found:?}");
            assert!(!known.written(10), "it is told once");
        }
    }

    #[test]
    fn a_loss_is_told_although_the_write_after_it_had_no_answer() {
        let mut known = known();
        known.refused(None);
        // The write was done at revision 9, but nobody said so, and the next one is refused for it.
        known.refused(Some(&entry(9, Some("{}"))));
        assert!(known.written(10));
    }
}
