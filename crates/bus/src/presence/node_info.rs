//! What a node says of itself in its node key.

use std::net::SocketAddr;

use bytes::Bytes;
use sendpi_model::{Millis, PartitionSet, encode_json};
use serde::{Deserialize, Serialize};

/// The value of a node key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// What the node does: `gateway`, `channel`, `push`.
    pub roles: Vec<String>,
    /// Where its clients connect, and operators look at it.
    pub address: SocketAddr,
    /// When it started.
    pub started: Millis,
    /// Its part in owning partitions. `None` if it has none: it is no worker, or not yet, or it hands over what it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<WorkerShare>,
}

/// A worker's part in owning partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerShare {
    /// How much it gets of the partitions that nobody pinned, beside the weights of the others.
    pub weight: u16,
    /// The partitions that it gets before everybody else. A worker with any gets no others, unless there is no worker
    /// without.
    #[serde(default, skip_serializing_if = "PartitionSet::is_empty")]
    pub pinned: PartitionSet,
}

impl Default for WorkerShare {
    fn default() -> Self {
        Self { weight: 1, pinned: PartitionSet::default() }
    }
}

impl NodeInfo {
    /// Returns what a node says that starts now, without a part in owning partitions yet.
    #[must_use]
    pub fn starting(roles: Vec<String>, address: SocketAddr) -> Self {
        Self { roles, address, started: Millis::now(), share: None }
    }

    /// Encodes the value of the key.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode_json(self).into()
    }

    /// Reads the value of a key. `None` if it cannot be read; then the node owns nothing.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_is_read_as_it_was_written() {
        let pinned = "0-3".parse().unwrap();
        let address = "127.0.0.1:8080".parse().unwrap();
        let share = Some(WorkerShare { weight: 2, pinned });
        let info = NodeInfo { roles: vec!["channel".into()], address, started: Millis(5), share };
        assert_eq!(NodeInfo::parse(&info.encode()), Some(info.clone()));
        let gateway = NodeInfo { share: None, ..info };
        assert!(!String::from_utf8_lossy(&gateway.encode()).contains("share"));
        assert_eq!(NodeInfo::parse(&gateway.encode()), Some(gateway));
        // A release before this one said nothing of a share, and owns nothing that others could take from it.
        let before = br#"{"roles":["gateway","channel"],"address":"127.0.0.1:1","started":3}"#;
        assert_eq!(NodeInfo::parse(before).unwrap().share, None);
        assert_eq!(NodeInfo::parse(b"{}"), None);
    }
}
