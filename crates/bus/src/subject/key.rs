//! The keys in the buckets.

use sendpi_model::{NodeId, Partition, UserId, subject_token};

/// What the keys in the partitions bucket begin with that hold to which worker an operator moved a partition.
pub(crate) const PIN_KEYS: &str = "=pin-";

/// Returns the key of a partition that an operator moved.
pub(crate) fn pin_key(partition: Partition) -> String {
    format!("{PIN_KEYS}{partition}")
}

/// The key in the partitions bucket that holds what the cluster was made for.
pub const CLUSTER_CONFIG_KEY: &str = "=config";

/// Returns the key of a node in the presence bucket.
#[must_use]
pub fn node_key(node: &NodeId) -> String {
    format!("=n.{}", subject_token::encode(node.as_str()))
}

/// The filter of all node keys in the presence bucket.
pub const NODE_KEYS: &str = "=n.*";

/// Returns the node of a [`node_key`].
#[must_use]
pub fn node_of_key(key: &str) -> Option<NodeId> {
    NodeId::parse(&subject_token::decode(key.strip_prefix("=n.")?)?).ok()
}

/// Returns the key of a user on a node in the presence bucket.
#[must_use]
pub fn user_key(user: &UserId, node: &NodeId) -> String {
    format!("{}.{}", subject_token::encode(user.as_str()), subject_token::encode(node.as_str()))
}

/// Returns the filter of a user's keys on all nodes.
#[must_use]
pub fn user_keys(user: &UserId) -> String {
    format!("{}.*", subject_token::encode(user.as_str()))
}

/// Returns the filter of all user keys of a node.
#[must_use]
pub fn keys_of_node(node: &NodeId) -> String {
    format!("*.{}", subject_token::encode(node.as_str()))
}

/// Returns the user and the node of a [`user_key`].
#[must_use]
pub fn user_of_key(key: &str) -> Option<(UserId, NodeId)> {
    let (user, node) = key.split_once('.')?;
    Some((UserId::parse(&subject_token::decode(user)?).ok()?, NodeId::parse(&subject_token::decode(node)?).ok()?))
}
