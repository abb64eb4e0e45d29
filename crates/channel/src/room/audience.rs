//! L1: the members of a live channel who are online, and where.

use std::collections::HashMap;

use sendpi_model::{NodeId, UserId};

/// The users who get the room's events live, on which nodes, with which sign-in number there.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    users: HashMap<UserId, Vec<(NodeId, u64)>>,
    /// How many users are in it on each node.
    nodes: HashMap<NodeId, usize>,
}

impl Audience {
    /// Adds a user. Returns `true` if the user was not in it on that node.
    pub(crate) fn add(&mut self, user: &UserId, node: &NodeId, signin: u64) -> bool {
        let places = self.users.entry(user.clone()).or_default();
        if let Some(place) = places.iter_mut().find(|(n, _)| n == node) {
            place.1 = place.1.max(signin);
            return false;
        }
        places.push((node.clone(), signin));
        *self.nodes.entry(node.clone()).or_default() += 1;
        true
    }

    /// Removes a user whose sign-in number on that node is at most `signin`, so that a later attach stays. Returns
    /// `true` if the user was removed.
    pub(crate) fn remove(&mut self, user: &UserId, node: &NodeId, signin: u64) -> bool {
        let Some(places) = self.users.get_mut(user) else { return false };
        let before = places.len();
        places.retain(|(n, number)| n != node || *number > signin);
        let removed = places.len() < before;
        if places.is_empty() {
            self.users.remove(user);
        }
        if removed {
            self.leave(node, 1);
        }
        removed
    }

    /// Removes a user on all nodes. Returns the nodes where the user was.
    pub(crate) fn remove_user(&mut self, user: &UserId) -> Vec<NodeId> {
        let nodes: Vec<NodeId> = self.users.remove(user).into_iter().flatten().map(|(node, _)| node).collect();
        nodes.iter().for_each(|node| self.leave(node, 1));
        nodes
    }

    /// Removes all users on a node. Returns those who are on no other node.
    pub(crate) fn remove_node(&mut self, node: &NodeId) -> Vec<UserId> {
        let mut gone = Vec::new();
        if self.nodes.remove(node).is_some() {
            self.users.retain(|user, places| {
                places.retain(|(n, _)| n != node);
                if places.is_empty() {
                    gone.push(user.clone());
                }
                !places.is_empty()
            });
        }
        gone
    }

    fn leave(&mut self, node: &NodeId, users: usize) {
        if let Some(count) = self.nodes.get_mut(node) {
            debug_assert!(*count >= users, "more users left a node than it held");
            *count = count.saturating_sub(users);
            if *count == 0 {
                self.nodes.remove(node);
            }
        }
    }

    /// Returns whether a user is in it on any node.
    pub(crate) fn contains(&self, user: &UserId) -> bool {
        self.users.contains_key(user)
    }

    /// Returns whether nobody is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Returns the nodes with a user in it.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.keys()
    }

    /// Returns everybody in it, with each node.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&UserId, &NodeId)> {
        self.users.iter().flat_map(|(user, places)| places.iter().map(move |(node, _)| (user, node)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).unwrap()
    }

    #[test]
    fn a_detach_does_not_end_a_later_attach() {
        let mut audience = Audience::default();
        assert!(audience.add(&user("ann"), &node("n1"), 2));
        assert!(!audience.add(&user("ann"), &node("n1"), 3));
        assert!(!audience.remove(&user("ann"), &node("n1"), 2));
        assert!(audience.contains(&user("ann")));
        assert!(audience.remove(&user("ann"), &node("n1"), 3));
        assert!(audience.is_empty() && audience.nodes().next().is_none());
    }

    #[test]
    fn a_user_on_two_nodes_stays_when_one_goes() {
        let mut audience = Audience::default();
        audience.add(&user("ann"), &node("n1"), 1);
        audience.add(&user("ann"), &node("n2"), 1);
        audience.add(&user("bob"), &node("n1"), 1);
        assert_eq!(audience.remove_node(&node("n1")), [user("bob")]);
        assert!(audience.remove_node(&node("n1")).is_empty());
        assert!(audience.contains(&user("ann")) && !audience.contains(&user("bob")));
        assert_eq!(audience.remove_user(&user("ann")), [node("n2")]);
        assert!(audience.is_empty() && audience.nodes().next().is_none());
    }
}
