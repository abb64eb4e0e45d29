//! The live workers, and which of them should own which partition. *Pure.*

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sendpi_bus::presence::WorkerShare;
use sendpi_model::timing::{NODE_KEY_REFRESH, NODE_KEY_TTL};
use sendpi_model::{NodeId, Partition, rendezvous};
use tokio::time::Instant;

/// What this worker knows of all workers, itself included.
#[derive(Debug)]
pub(crate) struct Fleet {
    own: NodeId,
    workers: HashMap<NodeId, WorkerShare>,
    /// The nodes with a node key, workers or not. Those that NATS says are dead are not in it, although their keys may
    /// not have expired yet.
    live: Arc<HashSet<NodeId>>,
    /// When each of them was last heard of, this one too.
    heard: HashMap<NodeId, Instant>,
    /// The workers to which an operator moved partitions. It counts while they live.
    pins: HashMap<Partition, NodeId>,
    /// Whether all nodes that there were when this worker started are known.
    all_known: bool,
    /// Until when a key that is gone says nothing of its node, because JetStream was away.
    trust_no_loss_until: Option<Instant>,
}

impl Fleet {
    pub(crate) fn new(own: NodeId) -> Self {
        Self {
            own,
            workers: HashMap::new(),
            live: Arc::default(),
            heard: HashMap::new(),
            pins: HashMap::new(),
            all_known: false,
            trust_no_loss_until: None,
        }
    }

    /// Notes that a node lives, and its part in owning partitions. Returns whether that changes who should own what.
    pub(crate) fn alive(&mut self, node: &NodeId, share: Option<WorkerShare>, now: Instant) -> bool {
        self.heard.insert(node.clone(), now);
        if !self.live.contains(node) {
            Arc::make_mut(&mut self.live).insert(node.clone());
        }
        match share {
            Some(share) => self.workers.insert(node.clone(), share.clone()) != Some(share),
            None => self.workers.remove(node).is_some(),
        }
    }

    /// Notes that a node's key is gone, or that NATS says that it is dead. Returns whether it was known to live.
    pub(crate) fn gone(&mut self, node: &NodeId) -> bool {
        self.workers.remove(node);
        self.heard.remove(node);
        self.live.contains(node) && Arc::make_mut(&mut self.live).remove(node)
    }

    /// Notes that an operator moved a partition, or lets it go back.
    pub(crate) fn pinned(&mut self, partition: Partition, node: Option<NodeId>) {
        match node {
            Some(node) => self.pins.insert(partition, node),
            None => self.pins.remove(&partition),
        };
    }

    /// Returns whether this worker takes part in owning partitions.
    pub(crate) fn takes_part(&self) -> bool {
        self.workers.contains_key(&self.own)
    }

    /// Notes that the watch brought this node's own key.
    pub(crate) fn heard_of_itself(&mut self, now: Instant) {
        self.heard.insert(self.own.clone(), now);
    }

    /// Returns the nodes of which nothing was heard for longer than their keys live. If the watch did not bring this
    /// node's own key lately either, or JetStream was away, that says nothing.
    pub(crate) fn missing(&self, now: Instant) -> Vec<NodeId> {
        let brings = self.heard.get(&self.own).is_some_and(|heard| now - *heard < 3 * NODE_KEY_REFRESH);
        if !brings || !self.trusts_loss(now) {
            return Vec::new();
        }
        let silent = self.heard.iter().filter(|(node, heard)| **node != self.own && now - **heard > NODE_KEY_TTL);
        silent.map(|(node, _)| node.clone()).collect()
    }

    /// Notes that all nodes that there were at the start are known.
    pub(crate) fn all_known(&mut self) {
        self.all_known = true;
    }

    /// Returns whether all nodes that there were at the start are known. Until then nothing is claimed.
    pub(crate) fn knows_all(&self) -> bool {
        self.all_known
    }

    /// Notes that JetStream is away, or was lost. For one TTL after the last time, a key that is gone says nothing.
    pub(crate) fn jetstream_away(&mut self, now: Instant) {
        self.trust_no_loss_until = Some(now + NODE_KEY_TTL);
    }

    /// Returns whether a key that is gone shows that its node is dead.
    pub(crate) fn trusts_loss(&self, now: Instant) -> bool {
        self.trust_no_loss_until.is_none_or(|until| now >= until)
    }

    /// Returns whether a node lives, as far as this worker knows.
    pub(crate) fn is_live(&self, node: &NodeId) -> bool {
        *node == self.own || self.live.contains(node)
    }

    /// Returns the nodes that live now, as far as this worker knows.
    pub(crate) fn live_now(&self) -> Arc<HashSet<NodeId>> {
        Arc::clone(&self.live)
    }

    /// Returns the other live workers.
    pub(crate) fn others(&self) -> impl Iterator<Item = &NodeId> {
        self.workers.keys().filter(|node| **node != self.own)
    }

    /// Returns who should own a partition. `None` if there is no worker.
    pub(crate) fn rightful(&self, partition: Partition) -> Option<&NodeId> {
        self.rightful_without(partition, None)
    }

    /// Returns whether this worker should own a partition.
    pub(crate) fn is_own(&self, partition: Partition) -> bool {
        self.rightful(partition) == Some(&self.own)
    }

    /// Returns whether another worker should own a partition.
    pub(crate) fn is_anothers(&self, partition: Partition) -> bool {
        self.rightful(partition).is_some_and(|rightful| *rightful != self.own)
    }

    /// Returns who should own a partition if one node were gone.
    pub(crate) fn rightful_without(&self, partition: Partition, without: Option<&NodeId>) -> Option<&NodeId> {
        let workers = || self.workers.iter().filter(|(node, _)| Some(*node) != without);
        if let Some((node, _)) = self.pins.get(&partition).and_then(|pin| workers().find(|(node, _)| *node == pin)) {
            return Some(node);
        }
        let key = partition.to_string();
        let highest = |which: fn(&WorkerShare, Partition) -> bool| {
            let chosen = workers().filter(|(_, share)| which(share, partition));
            rendezvous::highest(&key, chosen.map(|(node, share)| (node, share.weight)))
        };
        highest(|share, partition| share.pinned.contains(partition))
            .or_else(|| highest(|share, _| share.pinned.is_empty()))
            .or_else(|| highest(|_, _| true))
    }

    /// Returns whether this worker is the one that looks after what a dead node left.
    pub(crate) fn is_heir_of(&self, node: &NodeId) -> bool {
        let workers = self.workers.iter().filter(|(worker, _)| *worker != node);
        let heir = rendezvous::highest(node.as_str(), workers.map(|(worker, share)| (worker, share.weight.max(1))));
        heir.is_none_or(|heir| *heir == self.own)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sendpi_model::Partitions;

    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).unwrap()
    }

    fn pins(text: &str) -> Option<WorkerShare> {
        Some(WorkerShare { weight: 1, pinned: text.parse().unwrap() })
    }

    fn fleet(workers: &[(&str, &str)]) -> Fleet {
        let mut fleet = Fleet::new(node("a"));
        for (name, pinned) in workers {
            assert!(fleet.alive(&node(name), pins(pinned), Instant::now()));
        }
        fleet
    }

    fn owners(fleet: &Fleet) -> Vec<String> {
        Partitions::DEFAULT.all().map(|p| fleet.rightful(p).unwrap().to_string()).collect()
    }

    #[test]
    fn pinned_partitions_go_to_who_pinned_them_and_the_rest_to_the_others() {
        let mut fleet = fleet(&[("a", ""), ("b", ""), ("p", "0-15"), ("q", "8-20")]);
        for (partition, owner) in owners(&fleet).iter().enumerate() {
            match partition {
                0..8 => assert_eq!(owner, "p"),
                8..16 => assert!(owner == "p" || owner == "q"),
                16..=20 => assert_eq!(owner, "q"),
                _ => assert!(owner == "a" || owner == "b"),
            }
        }
        let before = owners(&fleet);
        assert!(fleet.gone(&node("p")) && !fleet.gone(&node("p")));
        let after = owners(&fleet);
        assert!(after[..8].iter().all(|owner| owner == "a" || owner == "b"), "nobody pins them now");
        assert!(before.iter().zip(&after).all(|(was, is)| was == is || was == "p"));
        // Nobody is left who pinned nothing.
        fleet.gone(&node("a"));
        fleet.gone(&node("b"));
        assert!(owners(&fleet).iter().all(|owner| owner == "q"));
    }

    #[test]
    fn a_partition_that_an_operator_moved_stays_there_while_that_worker_lives() {
        let mut fleet = fleet(&[("a", ""), ("b", "")]);
        let before = owners(&fleet);
        let partition = Partitions::DEFAULT.all().find(|p| *fleet.rightful(*p).unwrap() == node("a")).unwrap();
        fleet.pinned(partition, Some(node("b")));
        assert_eq!(fleet.rightful(partition), Some(&node("b")));
        assert_eq!(fleet.rightful_without(partition, Some(&node("b"))), Some(&node("a")));
        assert_eq!(owners(&fleet).iter().zip(&before).filter(|(is, was)| is != was).count(), 1);
        fleet.gone(&node("b"));
        assert_eq!(fleet.rightful(partition), Some(&node("a")));
        fleet.alive(&node("b"), pins(""), Instant::now());
        fleet.pinned(partition, None);
        assert_eq!(owners(&fleet), before);
    }

    #[test]
    fn who_hands_over_gets_nothing_and_a_change_is_told_once() {
        let mut fleet = fleet(&[("a", ""), ("b", "")]);
        let now = Instant::now();
        assert!(!fleet.alive(&node("b"), pins(""), now), "a refresh changes nothing");
        assert!(fleet.alive(&node("b"), None, now) && !fleet.alive(&node("b"), None, now));
        assert!(owners(&fleet).iter().all(|owner| owner == "a") && fleet.is_live(&node("b")));
        assert_eq!(fleet.rightful_without(Partition(1), Some(&node("a"))), None);
    }

    #[test]
    fn each_dead_node_has_one_heir() {
        let heirs: Vec<bool> = ["a", "b", "c"]
            .map(|own| {
                let mut fleet = fleet(&[("a", ""), ("b", ""), ("c", "")]);
                fleet.own = node(own);
                fleet.is_heir_of(&node("dead"))
            })
            .into();
        assert_eq!(heirs.iter().filter(|is_heir| **is_heir).count(), 1);
        assert!(Fleet::new(node("a")).is_heir_of(&node("dead")), "nobody else is known");
    }

    #[test]
    fn a_key_that_is_gone_says_nothing_for_one_ttl_after_jetstream_was_away() {
        let (mut fleet, now) = (fleet(&[("a", "")]), Instant::now());
        assert!(fleet.trusts_loss(now));
        fleet.jetstream_away(now);
        assert!(!fleet.trusts_loss(now + NODE_KEY_TTL - Duration::from_millis(1)));
        assert!(fleet.trusts_loss(now + NODE_KEY_TTL));
    }

    #[test]
    fn a_node_whose_end_the_watch_did_not_bring_is_missed() {
        let (mut fleet, began) = (fleet(&[("a", ""), ("b", "")]), Instant::now());
        let late = began + NODE_KEY_TTL + Duration::from_secs(1);
        assert!(fleet.missing(late).is_empty(), "the watch brings nothing at all");
        fleet.heard_of_itself(late);
        assert_eq!(fleet.missing(late), [node("b")]);
        fleet.jetstream_away(late);
        assert!(fleet.missing(late).is_empty());
        fleet.trust_no_loss_until = None;
        fleet.alive(&node("b"), pins(""), late);
        assert!(fleet.missing(late).is_empty());
    }
}
