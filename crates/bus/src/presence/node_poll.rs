//! A look, every two seconds, at which nodes are gone. It is for nodes that may not watch: a watch is a consumer, and
//! who may make one may have it deliver anywhere.

use std::collections::HashSet;

use bytes::Bytes;
use sendpi_model::NodeId;
use sendpi_model::timing::NODE_KEY_REFRESH;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::NodeInfo;
use crate::{Bucket, Bus, subject};

/// The most nodes that wait to be told.
const WAITING: usize = 1024;

/// Tells of each node whose key was seen and is there no more, until `stop` is cancelled. It is only a hint.
#[must_use]
pub fn poll_gone_nodes(bus: &Bus, stop: CancellationToken) -> mpsc::Receiver<NodeId> {
    let (tell, gone) = mpsc::channel(WAITING);
    let bucket = Bucket::new(bus, subject::PRESENCE_BUCKET);
    tokio::spawn(async move { stop.run_until_cancelled(poll(&bucket, &tell)).await });
    gone
}

async fn poll(bucket: &Bucket, tell: &mpsc::Sender<NodeId>) {
    let mut ticks = interval(NODE_KEY_REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let filter = [subject::NODE_KEYS.to_owned()];
    let mut known = HashSet::new();
    loop {
        ticks.tick().await;
        // A copy that cannot be read now is looked at the next time.
        let Ok(keys) = bucket.multi_last(&filter, Instant::now() + NODE_KEY_REFRESH).await else { continue };
        let is_node = |value: &Bytes| NodeInfo::parse(value).is_some();
        let there = keys.iter().filter(|(_, _, value)| value.as_ref().is_some_and(is_node));
        let there: HashSet<NodeId> = there.filter_map(|(key, _, _)| subject::node_of_key(key)).collect();
        let missing: Vec<NodeId> = known.difference(&there).cloned().collect();
        known.extend(there);
        for node in missing {
            // The copy that answered may be older than the key.
            let is_gone =
                bucket.read(&subject::node_key(&node)).await.map(|entry| entry.is_none_or(|e| e.value.is_none()));
            if is_gone != Ok(true) {
                continue;
            }
            known.remove(&node);
            if tell.send(node).await.is_err() {
                return;
            }
        }
    }
}
