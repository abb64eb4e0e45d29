//! Every subject, stream name and, in `key`, every key of a bucket in one place. No other file writes one.

mod key;

use sendpi_model::{NodeId, Partition, RoomId, UserId, subject_token};

pub use self::key::{
    CLUSTER_CONFIG_KEY, NODE_KEYS, keys_of_node, node_key, node_of_key, user_key, user_keys, user_of_key,
};
pub(crate) use self::key::{PIN_KEYS, pin_key};
use crate::rights::NatsRole;

/// The bucket of the partitions' leases.
pub const PARTITIONS_BUCKET: &str = "sendpi_partitions";
/// The bucket of node keys and user keys.
pub const PRESENCE_BUCKET: &str = "sendpi_presence";
/// The work queue of push jobs.
pub const PUSH_STREAM: &str = "sendpi_push";
/// All subjects of the work queue of push jobs.
pub const PUSH_SUBJECTS: &str = "sendpi.push.*";
/// The consumer of that queue that all push workers share.
pub(crate) const PUSH_CONSUMER: &str = "push-workers";

/// The stream of system events that services publish.
pub const INGEST_STREAM: &str = "sendpi_ingest";
/// All subjects on which services publish.
pub const INGEST_SUBJECTS: &str = "sendpi.ingest.*.*";
/// The stream of what became of pushes.
pub const PUSH_LOG_STREAM: &str = "sendpi_push_log";
/// All subjects of what became of pushes.
pub const PUSH_LOG_SUBJECTS: &str = "sendpi.pushlog.*.*";
/// The subject on which operators ask push workers.
pub const CONTROL_PUSH: &str = "sendpi.ctl.push";
/// Returns the subject on which operators ask a worker.
#[must_use]
pub fn control_worker(worker: &NodeId) -> String {
    format!("sendpi.ctl.worker.{}", subject_token::encode(worker.as_str()))
}

/// The stream of what could not be used.
pub const DEAD_STREAM: &str = "sendpi_dead";
/// All subjects of what could not be used.
pub const DEAD_SUBJECTS: &str = "sendpi.dead.>";

/// What every node's inbox begins with.
const INBOX: &str = "_INBOX_sendpi.";

/// The filter of all [`room`] subjects.
pub(crate) const ROOMS: &str = "sendpi.room.*";
/// The filter of all [`user`] subjects.
pub(crate) const USERS: &str = "sendpi.user.*";
/// The filter of all [`control_worker`] subjects.
pub(crate) const CONTROL_WORKERS: &str = "sendpi.ctl.worker.*";
/// The filter of all [`dead_ingest`] subjects.
pub(crate) const DEAD_INGEST: &str = "sendpi.dead.ingest.>";
/// The filter of all [`dead_push`] subjects.
pub(crate) const DEAD_PUSH: &str = "sendpi.dead.push.>";
/// The filter of the [`flow_reply`] subjects of all nodes.
pub(crate) const ALL_FLOW_REPLIES: &str = "_INBOX_sendpi.*.flow.*";
/// The filter of the [`link_reply`] subjects of all workers.
pub(crate) const ALL_LINK_REPLIES: &str = "_INBOX_sendpi.*.link.*";
/// The filter of all [`pulse`] subjects.
pub(crate) const PULSES: &str = "_INBOX_sendpi.*.pulse";
/// The filter of the inboxes of services, whose clients must have this inbox prefix.
pub(crate) const SERVICE_INBOXES: &str = "_INBOX_service.>";

/// Returns the name of the stream that keeps a bucket.
#[must_use]
pub fn bucket_stream(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// Returns the prefix of each key of a bucket in its stream's subjects.
#[must_use]
pub fn bucket_prefix(bucket: &str) -> String {
    format!("$KV.{bucket}.")
}

/// Returns the subject of a batched direct get of a stream.
#[must_use]
pub fn direct_get(stream: &str) -> String {
    format!("$JS.API.DIRECT.GET.{stream}")
}

/// Returns whether a reply subject is in the inbox of a node. A worker answers nowhere else.
#[must_use]
pub fn is_inbox(reply: &str) -> bool {
    reply.starts_with(INBOX)
}

/// Returns the subject on which a flow sends its requests to a partition.
#[must_use]
pub fn room(partition: Partition) -> String {
    format!("sendpi.room.{partition}")
}

/// Returns the subject on which nodes report that nobody answers for a partition.
#[must_use]
pub fn orphan(partition: Partition) -> String {
    format!("sendpi.orphan.{partition}")
}

/// The filter of all [`orphan`] subjects.
pub const ORPHANS: &str = "sendpi.orphan.*";

/// Returns the partition of a [`flow_reply`], an [`orphan`] or a [`served`].
#[must_use]
pub fn partition_of(subject: &str) -> Option<Partition> {
    last_token(subject)?.parse().ok().map(Partition)
}

/// Returns the subject on which a worker tells all nodes that it serves a partition from now on. It may be lost: then
/// flows find out by themselves.
#[must_use]
pub fn served(partition: Partition) -> String {
    format!("sendpi.served.{partition}")
}

/// The filter of all [`served`] subjects.
pub const SERVED: &str = "sendpi.served.*";

/// What a subject of one node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeSubject {
    /// The messages of links.
    Link,
    /// The question whether the node lives.
    Alive,
    /// The word that one of its users has signed in on another node.
    SignIn,
    /// The word that a user was signed out everywhere.
    SignOut,
    /// The question what sessions a user has there.
    Sessions,
}

impl NodeSubject {
    fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Alive => "alive",
            Self::SignIn => "signin",
            Self::SignOut => "signout",
            Self::Sessions => "sessions",
        }
    }
}

/// Returns a subject of one node.
#[must_use]
pub fn node(node: &NodeId, what: NodeSubject) -> String {
    format!("sendpi.node.{}.{}", subject_token::encode(node.as_str()), what.name())
}

/// Returns the filter of one subject of all nodes.
pub(crate) fn all_nodes(what: NodeSubject) -> String {
    format!("sendpi.node.*.{}", what.name())
}

/// Returns the subject of what concerns one user's devices and may be lost.
#[must_use]
pub fn user(user: &UserId) -> String {
    format!("sendpi.user.{}", subject_token::encode(user.as_str()))
}

/// Returns the subject under which the ingest stream keeps a message, as the destination of a transform: the partition
/// comes in front of the kind and the id.
#[must_use]
pub fn ingest_transform(partitions: u16) -> String {
    format!("sendpi.in.{{{{partition({partitions},2)}}}}.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}")
}

/// Returns the filter of the kept messages of a partition.
#[must_use]
pub fn ingested(partition: Partition) -> String {
    format!("sendpi.in.{partition}.>")
}

/// Returns the name of one of the two consumers that a partition has by turns.
#[must_use]
pub fn ingest_consumer(partition: Partition, is_second: bool) -> String {
    format!("ingest-{partition}-{}", if is_second { "b" } else { "a" })
}

/// Returns the subject of a system event that could not be used. `target` is `room.<encoded id>` or the like.
#[must_use]
pub fn dead_ingest(target: &str) -> String {
    format!("sendpi.dead.ingest.{target}")
}

/// Returns the subject of what became of the pushes of a room to a user.
#[must_use]
pub fn push_log(room: &RoomId, user: &UserId) -> String {
    format!("sendpi.pushlog.{}.{}", subject_token::encode(room.as_str()), subject_token::encode(user.as_str()))
}

/// Returns the subject of a push that could not be posted.
#[must_use]
pub fn dead_push(room: &RoomId, user: &UserId) -> String {
    format!("sendpi.dead.push.{}.{}", subject_token::encode(room.as_str()), subject_token::encode(user.as_str()))
}

/// Returns the subject of the push jobs of a partition.
#[must_use]
pub fn push(partition: Partition) -> String {
    format!("sendpi.push.{partition}")
}

/// Returns the prefix of all subjects on which a node receives answers to its requests. Everybody knows what it begins
/// with, so that a worker never answers anywhere else: NATS does not check a requester's right to its reply subject.
#[must_use]
pub fn inbox(node: &NodeId, role: NatsRole) -> String {
    format!("{}.{}", of_node(node), role.name())
}

/// Returns the filter of the inboxes of all nodes that have a role.
pub(crate) fn inboxes(role: NatsRole) -> String {
    format!("{INBOX}*.{}.>", role.name())
}

/// Returns the prefix of all subjects on which only one node receives.
fn of_node(node: &NodeId) -> String {
    format!("{INBOX}{}", subject_token::encode(node.as_str()))
}

/// Returns the subject on which a node receives what it sends to itself.
#[must_use]
pub fn pulse(node: &NodeId) -> String {
    format!("{}.pulse", of_node(node))
}

/// Returns the subject on which a node receives "no responders" and refusals for its flow to a partition.
#[must_use]
pub fn flow_reply(node: &NodeId, partition: Partition) -> String {
    format!("{}.flow.{partition}", of_node(node))
}

/// Returns the filter of all [`flow_reply`] subjects of a node.
#[must_use]
pub fn flow_replies(node: &NodeId) -> String {
    format!("{}.flow.*", of_node(node))
}

/// Returns the subject on which a worker receives a node's answers to its link, and "no responders" from NATS.
#[must_use]
pub fn link_reply(worker: &NodeId, node: &NodeId) -> String {
    format!("{}.link.{}", of_node(worker), subject_token::encode(node.as_str()))
}

/// Returns the filter of all [`link_reply`] subjects of a worker.
#[must_use]
pub fn link_replies(worker: &NodeId) -> String {
    format!("{}.link.*", of_node(worker))
}

/// Returns the node of a [`link_reply`].
#[must_use]
pub fn link_reply_node(subject: &str) -> Option<NodeId> {
    NodeId::parse(&subject_token::decode(last_token(subject)?)?).ok()
}

/// Returns the worker of a [`link_reply`], which is the one that a link's messages come from.
#[must_use]
pub fn link_reply_worker(subject: &str) -> Option<NodeId> {
    let token = subject.strip_prefix(INBOX)?.split('.').next()?;
    NodeId::parse(&subject_token::decode(token)?).ok()
}

fn last_token(subject: &str) -> Option<&str> {
    subject.rsplit('.').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_replies_tell_whose_they_are() {
        let node = NodeId::parse("n.1").unwrap();
        let worker = NodeId::parse("w 1".replace(' ', "_").as_str()).unwrap();
        let user = UserId::parse("ann@example.org").unwrap();
        assert_eq!(node_of_key(&node_key(&node)), Some(node.clone()));
        assert_eq!(user_of_key(&user_key(&user, &node)), Some((user, node.clone())));
        let reply = link_reply(&worker, &node);
        assert_eq!((link_reply_node(&reply), link_reply_worker(&reply)), (Some(node.clone()), Some(worker)));
        assert_eq!(partition_of(&flow_reply(&node, Partition(7))), Some(Partition(7)));
    }

    #[test]
    fn a_node_key_is_no_user_key() {
        assert_eq!(user_of_key("=n.abc"), None);
    }
}
