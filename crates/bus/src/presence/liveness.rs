//! The upkeep of presence: answering that this node lives, and purging the keys that dead nodes left.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use futures_util::StreamExt;
use sendpi_model::{NodeId, UserId};
use tokio_util::sync::CancellationToken;

use super::NodeInfo;
use crate::subject::NodeSubject;
use crate::{Bucket, Bus, RequestError, Revision, SendError, subject};

/// Answers requests to this node's `alive` subject until `stop` is cancelled.
///
/// # Errors
/// [`SendError`] if the connection is closed.
pub async fn answer_alive(bus: &Bus, stop: CancellationToken) -> Result<(), SendError> {
    let mut asks = bus.subscribe(subject::node(bus.node(), NodeSubject::Alive)).await?;
    let bus = bus.clone();
    tokio::spawn(async move {
        while let Some(Some(ask)) = stop.run_until_cancelled(asks.next()).await {
            let Some(reply) = ask.reply().filter(|reply| subject::is_inbox(reply)) else { continue };
            if let Err(error) = bus.publish(reply.to_owned(), Bytes::from_static(b"{\"v\":1}")).await {
                tracing::debug!(%error, "cannot answer that this node lives");
            }
        }
    });
    Ok(())
}

/// Returns whether `node` answers that it lives.
///
/// # Errors
/// [`RequestError::Unknown`] if it is not known.
pub async fn is_alive(bus: &Bus, node: &NodeId) -> Result<bool, RequestError> {
    match bus.request(subject::node(node, NodeSubject::Alive), Bytes::from_static(b"{\"v\":1}")).await {
        Ok(_) => Ok(true),
        Err(RequestError::NoResponders) => Ok(false),
        Err(unknown) => Err(unknown),
    }
}

/// Purges the keys that a dead node left. Only keys before revision `before` are purged, because a node that has come
/// back has put its keys anew.
///
/// # Errors
/// [`RequestError`] if it is not known whether this was done.
pub async fn purge_node(bus: &Bus, node: &NodeId, before: Revision) -> Result<(), RequestError> {
    let unknown = |e: &dyn std::fmt::Display| RequestError::Unknown(e.to_string());
    let stream = stream(bus).await?;
    let filter = subject::bucket_prefix(subject::PRESENCE_BUCKET) + &subject::keys_of_node(node);
    stream.purge().filter(filter).sequence(before).await.map(|_| ()).map_err(|e| unknown(&e))
}

/// Returns the nodes that have user keys but no node key: they died while no worker watched. Each comes with the
/// revision before which its keys are those of the dead node: what it puts when it comes back has a higher one.
///
/// # Errors
/// [`RequestError`] if the keys could not be read.
pub async fn dead_nodes(bus: &Bus) -> Result<HashMap<NodeId, Revision>, RequestError> {
    let (bucket, stream) = (Bucket::new(bus, subject::PRESENCE_BUCKET), stream(bus).await?);
    let keys = bucket.keys(">").await?;
    // It comes after the user keys and before the node keys: a node without a node key was dead at that revision.
    let info = stream.get_info().await.map_err(|e| RequestError::Unknown(e.to_string()))?;
    let before = info.state.last_sequence + 1;
    let mut live = HashSet::new();
    for node in keys.iter().filter_map(|key| subject::node_of_key(key)) {
        // The marker of an expired key has a subject too. Only the value shows whether the key exists.
        let entry = bucket.read(&subject::node_key(&node)).await?;
        if entry.and_then(|entry| entry.value).is_some_and(|value| NodeInfo::parse(&value).is_some()) {
            live.insert(node);
        }
    }
    let nodes = keys.iter().filter_map(|key| subject::user_of_key(key)).map(|(_, node)| node);
    Ok(nodes.filter(|node| !live.contains(node)).map(|node| (node, before)).collect())
}

/// Returns the users of `bus`'s node who have a key, or whose key left a marker, as the stream's leader has them.
pub(super) async fn users_with_keys(bus: &Bus) -> Result<Vec<UserId>, RequestError> {
    let keys = Bucket::new(bus, subject::PRESENCE_BUCKET).keys(&subject::keys_of_node(bus.node())).await?;
    Ok(keys.iter().filter_map(|key| subject::user_of_key(key)).map(|(user, _)| user).collect())
}

type KeyStream = async_nats::jetstream::stream::Stream<()>;

async fn stream(bus: &Bus) -> Result<KeyStream, RequestError> {
    let name = subject::bucket_stream(subject::PRESENCE_BUCKET);
    bus.jetstream().get_stream_no_info(name).await.map_err(|e| RequestError::Unknown(e.to_string()))
}
