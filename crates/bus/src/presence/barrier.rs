//! Presence that is read behind a barrier.
//!
//! KV reads may come from a replica that lags without bound. Only an accepted write proves the present. So the reader
//! first publishes its own node key and gets revision B from the leader. It then discards every answer whose copy of
//! that key is older than B.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sendpi_model::{NodeId, UserId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{NodeInfo, NodeKey};
use crate::bucket::{BatchMiss, LastValues};
use crate::{Bucket, Bus, Revision, subject};

/// Where each user is online: on which live nodes, with which sign-in number. Users who are offline are not in it.
pub type Online = HashMap<UserId, Vec<(NodeId, u64)>>;

/// The most users of one request. The server matches at most 1,024 keys.
const USERS_PER_READ: usize = 256;
/// How long the reader goes on without any answer.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);
/// The most reads that wait at one time. Further callers wait until there is room.
const WAITING: usize = 1024;

/// Reads presence behind the barrier. Cheap to clone. One barrier serves all reads that wait.
#[derive(Debug, Clone)]
pub struct Barrier(mpsc::Sender<ReadRequest>);

#[derive(Debug)]
struct ReadRequest {
    users: Vec<UserId>,
    answer: oneshot::Sender<Online>,
}

impl Barrier {
    /// Starts a reader on `bus`. `key` is the node key that makes the barrier.
    #[must_use]
    pub fn start(bus: &Bus, key: NodeKey) -> Self {
        let (asks, waiting) = mpsc::channel(WAITING);
        tokio::spawn(PresenceReader { bucket: Bucket::new(bus, subject::PRESENCE_BUCKET), key }.run(waiting));
        Self(asks)
    }

    /// Returns where these users are online, as of some moment after the call. `None` if it could not be read; ask
    /// again.
    pub async fn read(&self, users: Vec<UserId>) -> Option<Online> {
        let (answer, answered) = oneshot::channel();
        self.0.send(ReadRequest { users, answer }).await.ok()?;
        answered.await.ok()
    }
}

struct PresenceReader {
    bucket: Bucket,
    key: NodeKey,
}

impl PresenceReader {
    async fn run(self, mut asks: mpsc::Receiver<ReadRequest>) {
        let mut waiting = Vec::new();
        while asks.recv_many(&mut waiting, WAITING).await > 0 {
            let mut users: Vec<UserId> = waiting.iter().flat_map(|ask| ask.users.iter().cloned()).collect();
            users.sort();
            users.dedup();
            let online = self.read_all(&users).await;
            for ask in waiting.drain(..) {
                let Some(online) = &online else { continue };
                let part = ask.users.iter().filter_map(|u| online.get(u).map(|on| (u.clone(), on.clone()))).collect();
                // A caller that has dropped its receiver needs no answer.
                drop(ask.answer.send(part));
            }
        }
    }

    async fn read_all(&self, users: &[UserId]) -> Option<Online> {
        let barrier = self.key.refresh().await?;
        self.read_behind(users, barrier).await
    }

    async fn read_behind(&self, users: &[UserId], barrier: Revision) -> Option<Online> {
        let mut online = Online::new();
        let mut rest: Vec<&[UserId]> = users.chunks(USERS_PER_READ).rev().collect();
        // The time runs anew with each part that was read, because many callers share one barrier.
        let mut give_up = Instant::now() + GIVE_UP_AFTER;
        while let Some(part) = rest.pop() {
            match self.read_part(part, barrier, give_up).await {
                Ok(found) => {
                    online.extend(found);
                    give_up = Instant::now() + GIVE_UP_AFTER;
                }
                Err(BatchMiss::TooMany) if part.len() > 1 => {
                    let (left, right) = part.split_at(part.len() / 2);
                    rest.extend([right, left]);
                }
                Err(BatchMiss::TooMany) => return None,
                Err(BatchMiss::Again) if Instant::now() < give_up => rest.push(part),
                Err(BatchMiss::Again) => return None,
            }
        }
        Some(online)
    }

    async fn read_part(&self, users: &[UserId], barrier: Revision, give_up: Instant) -> Result<Online, BatchMiss> {
        let mut filters: Vec<String> = users.iter().map(subject::user_keys).collect();
        filters.push(subject::NODE_KEYS.to_owned());
        let keys = self.bucket.multi_last(&filters, give_up).await?;
        let own = subject::node_key(self.key.node());
        if !keys.iter().any(|(key, revision, value)| *key == own && *revision >= barrier && value.is_some()) {
            return Err(BatchMiss::Again);
        }
        Ok(online_of(&keys))
    }
}

/// Returns where users are online. A user is online on a node if that node is *live* and has a key for the user.
fn online_of(keys: &LastValues) -> Online {
    let present = || keys.iter().filter_map(|(key, _, value)| value.as_ref().map(|value| (key, value)));
    let live = present().filter(|(_, value)| NodeInfo::parse(value).is_some());
    let live: HashSet<NodeId> = live.filter_map(|(key, _)| subject::node_of_key(key)).collect();
    let mut online = Online::new();
    for (key, value) in present() {
        let Some((user, node)) = subject::user_of_key(key) else { continue };
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        if let Some(number) = number.filter(|_| live.contains(&node)) {
            online.entry(user).or_default().push((node, number));
        }
    }
    online
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_user_is_online_only_where_a_live_node_has_its_key() {
        let key = |key: &str, value: Option<&str>| (key.to_owned(), 1, value.map(|v| Bytes::from(v.to_owned())));
        let keys = vec![
            key("=n.n1", Some(r#"{"roles":[],"address":"127.0.0.1:1","started":1}"#)),
            key("=n.n2", None),
            key("=n.n3", Some(r#"{"stream":"sendpi_ingest","seq":7}"#)),
            key("ann.n3", Some("9")),
            key("ann.n1", Some("3")),
            key("ann.n2", Some("4")),
            key("bob.n2", Some("5")),
            key("eve.n1", None),
        ];
        let online = online_of(&keys);
        let ann = UserId::parse("ann").unwrap();
        assert_eq!(online.len(), 1);
        assert_eq!(online[&ann], [(NodeId::parse("n1").unwrap(), 3)]);
    }
}
