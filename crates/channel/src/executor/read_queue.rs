//! What users asked of rooms, in a fair order: by node, then by user. *Pure.*

use std::collections::{HashMap, VecDeque};

use sendpi_model::{NodeId, Partition, UserId};

use crate::room::{AnswerAddress, RoomRead};

/// The most reads that wait. Further ones are answered `unavailable`.
const WAITING_MAX: usize = 8_192;
/// The most reads under way.
const UNDER_WAY: usize = 64;
/// The most reads under way for one user on one node.
const UNDER_WAY_PER_USER: usize = 4;
/// The most bytes that the answers under way to one node may have.
const BYTES_PER_NODE: usize = 2 * 1024 * 1024;

/// The reads that wait, and how many are under way.
#[derive(Debug, Default)]
pub(super) struct ReadQueue {
    nodes: HashMap<NodeId, NodeReads>,
    /// The nodes in the order of their turns.
    turns: VecDeque<NodeId>,
    waiting: usize,
    under_way: usize,
}

#[derive(Debug, Default)]
struct NodeReads {
    users: HashMap<UserId, UserReads>,
    /// The users of whom a read may begin, in the order of their turns.
    turns: VecDeque<UserId>,
    /// How many bytes the answers under way may have.
    bytes: usize,
}

#[derive(Debug, Default)]
struct UserReads {
    waiting: VecDeque<RoomRead>,
    under_way: usize,
}

impl ReadQueue {
    /// Returns whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Returns whether a read of a partition waits.
    pub(super) fn waits(&self, partition: Partition) -> bool {
        let users = self.nodes.values().flat_map(|node| node.users.values());
        users.flat_map(|user| &user.waiting).any(|read| read.to.partition == partition)
    }

    /// Adds a read.
    ///
    /// # Errors
    /// Returns who asked if too many wait.
    pub(super) fn push(&mut self, read: RoomRead) -> Result<(), AnswerAddress> {
        if self.waiting >= WAITING_MAX {
            return Err(read.to);
        }
        self.waiting += 1;
        let node = self.nodes.entry(read.to.node.clone()).or_insert_with(|| {
            self.turns.push_back(read.to.node.clone());
            NodeReads::default()
        });
        let user = node.users.entry(read.user.clone()).or_default();
        if user.waiting.is_empty() && user.under_way < UNDER_WAY_PER_USER {
            node.turns.push_back(read.user.clone());
        }
        user.waiting.push_back(read);
        Ok(())
    }

    /// Returns the next read that may begin, and counts it as under way. A node that is not free gets no answers now.
    pub(super) fn next(&mut self, is_free: impl Fn(&NodeId) -> bool) -> Option<RoomRead> {
        if self.under_way >= UNDER_WAY {
            return None;
        }
        for _ in 0..self.turns.len() {
            let id = self.turns.pop_front()?;
            let read = self.nodes.get_mut(&id).filter(|_| is_free(&id)).and_then(NodeReads::next);
            self.turns.push_back(id);
            if let Some(read) = read {
                self.waiting -= 1;
                self.under_way += 1;
                return Some(read);
            }
        }
        None
    }

    /// Records that a read which began is over. `bytes` is [`crate::room::ReadKind::most_bytes`] of it.
    pub(super) fn ended(&mut self, node: &NodeId, user: &UserId, bytes: usize) {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(reads) = self.nodes.get_mut(node) else { return };
        reads.bytes = reads.bytes.saturating_sub(bytes);
        if let Some(of_user) = reads.users.get_mut(user) {
            debug_assert!(of_user.under_way > 0, "a read ended that was not under way");
            if of_user.under_way == UNDER_WAY_PER_USER && !of_user.waiting.is_empty() {
                reads.turns.push_back(user.clone());
            }
            of_user.under_way = of_user.under_way.saturating_sub(1);
            if of_user.under_way == 0 && of_user.waiting.is_empty() {
                reads.users.remove(user);
            }
        }
        if reads.users.is_empty() {
            self.nodes.remove(node);
            self.turns.retain(|turn| turn != node);
        }
    }

    /// Drops the reads of a partition that wait. Returns their nodes.
    pub(super) fn forget(&mut self, partition: Partition) -> Vec<NodeId> {
        let mut nodes = Vec::new();
        for (id, node) in &mut self.nodes {
            for user in node.users.values_mut() {
                let before = user.waiting.len();
                user.waiting.retain(|read| read.to.partition != partition);
                let dropped = before - user.waiting.len();
                self.waiting -= dropped;
                nodes.extend((dropped > 0).then(|| id.clone()));
            }
            let users = &node.users;
            node.turns.retain(|user| users.get(user).is_some_and(|reads| !reads.waiting.is_empty()));
            node.users.retain(|_, reads| reads.under_way > 0 || !reads.waiting.is_empty());
        }
        self.nodes.retain(|_, node| !node.users.is_empty());
        let left = &self.nodes;
        self.turns.retain(|node| left.contains_key(node));
        nodes
    }
}

impl NodeReads {
    fn next(&mut self) -> Option<RoomRead> {
        if self.bytes >= BYTES_PER_NODE {
            return None;
        }
        let id = self.turns.pop_front()?;
        let user = self.users.get_mut(&id)?;
        let read = user.waiting.pop_front()?;
        user.under_way += 1;
        self.bytes += read.kind.most_bytes();
        if !user.waiting.is_empty() && user.under_way < UNDER_WAY_PER_USER {
            self.turns.push_back(id);
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use sendpi_model::RoomId;

    use super::*;
    use crate::room::{PageRequest, ReadKind};

    fn read(node: &str, user: &str) -> RoomRead {
        let page = PageRequest { before: None, after: None, limit: 50 };
        RoomRead {
            to: AnswerAddress { node: NodeId::parse(node).unwrap(), partition: Partition(1), n: 1 },
            room: RoomId::parse("r").unwrap(),
            user: UserId::parse(user).unwrap(),
            is_service: false,
            kind: ReadKind::Page { page, chain: Default::default(), dispatched: 9 },
        }
    }

    fn next(queue: &mut ReadQueue) -> Option<(String, String)> {
        let read = queue.next(|node| node.as_str() != "slow")?;
        Some((read.to.node.to_string(), read.user.to_string()))
    }

    fn end(queue: &mut ReadQueue, node: &str, user: &str) {
        let read = read(node, user);
        queue.ended(&read.to.node, &read.user, read.kind.most_bytes());
    }

    #[test]
    fn a_user_who_asks_for_much_holds_up_nobody() {
        let mut queue = ReadQueue::default();
        (0..100).for_each(|_| queue.push(read("n1", "ann")).unwrap());
        queue.push(read("n1", "bob")).unwrap();
        queue.push(read("n2", "eve")).unwrap();
        let began: Vec<_> = std::iter::from_fn(|| next(&mut queue)).map(|(_, user)| user).collect();
        assert_eq!(began, ["ann", "eve", "bob", "ann", "ann"]);
    }

    #[test]
    fn a_node_gets_no_more_at_once_than_its_link_can_take() {
        let mut queue = ReadQueue::default();
        for user in ["ann", "bob", "eve"] {
            (0..3).for_each(|_| queue.push(read("n1", user)).unwrap());
        }
        let began: Vec<_> = std::iter::from_fn(|| next(&mut queue)).collect();
        assert_eq!(began.len(), 4);
        end(&mut queue, "n1", "ann");
        assert!(next(&mut queue).is_some() && next(&mut queue).is_none());
        queue.push(read("slow", "zoe")).unwrap();
        assert!(next(&mut queue).is_none());
    }

    #[test]
    fn what_a_user_has_waiting_goes_on_when_a_read_ends() {
        let mut queue = ReadQueue::default();
        (0..6).for_each(|_| queue.push(read("n1", "ann")).unwrap());
        let mut done = 0;
        while next(&mut queue).is_some() {
            end(&mut queue, "n1", "ann");
            done += 1;
        }
        assert_eq!((done, queue.is_empty(), queue.nodes.len(), queue.turns.len()), (6, true, 0, 0));
    }

    #[test]
    fn the_reads_of_a_lost_partition_are_dropped() {
        let mut queue = ReadQueue::default();
        (0..6).for_each(|_| queue.push(read("n1", "ann")).unwrap());
        assert!(next(&mut queue).is_some());
        assert_eq!(queue.forget(Partition(1)), [NodeId::parse("n1").unwrap()]);
        assert!(queue.is_empty() && next(&mut queue).is_none());
        end(&mut queue, "n1", "ann");
        assert!(queue.nodes.is_empty() && queue.turns.is_empty());
    }
}
