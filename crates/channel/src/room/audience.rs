//! L1: the members of a live channel who are online, and where.

use sendpi_model::{NodeId, UserId};

/// Where a user gets the room's events live.
#[derive(Debug, Clone)]
struct Place {
    user: UserId,
    node: NodeId,
    /// The user's sign-in number there.
    signin: u64,
}

/// The users who get the room's events live. Rooms are many and small, so it is two plain lists.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    /// Sorted by user.
    places: Vec<Place>,
    /// How many users are in it on each node.
    nodes: Vec<(NodeId, usize)>,
}

impl Audience {
    /// Returns the places of a user.
    fn of(&self, user: &UserId) -> std::ops::Range<usize> {
        let from = self.places.partition_point(|place| place.user < *user);
        let own = self.places[from..].iter().take_while(|place| place.user == *user).count();
        from..from + own
    }

    /// Adds a user. Returns `true` if the user was not in it on that node.
    pub(crate) fn add(&mut self, user: &UserId, node: &NodeId, signin: u64) -> bool {
        let own = self.of(user);
        if let Some(place) = self.places[own.clone()].iter_mut().find(|place| place.node == *node) {
            place.signin = place.signin.max(signin);
            return false;
        }
        // One copy of a node's id serves all users there.
        let node = match self.nodes.iter_mut().find(|(known, _)| known == node) {
            Some((known, users)) => {
                *users += 1;
                known.clone()
            }
            None => {
                self.nodes.push((node.clone(), 1));
                node.clone()
            }
        };
        self.places.insert(own.end, Place { user: user.clone(), node, signin });
        true
    }

    /// Removes a user whose sign-in number on that node is at most `signin`, so that a later attach stays. Returns
    /// `true` if the user was removed.
    pub(crate) fn remove(&mut self, user: &UserId, node: &NodeId, signin: u64) -> bool {
        let mut own = self.of(user);
        let Some(place) = own.find(|at| self.places[*at].node == *node && self.places[*at].signin <= signin) else {
            return false;
        };
        self.places.remove(place);
        self.leave(node);
        true
    }

    /// Removes a user on all nodes. Returns the nodes where the user was.
    pub(crate) fn remove_user(&mut self, user: &UserId) -> Vec<NodeId> {
        let own = self.of(user);
        let nodes: Vec<NodeId> = self.places.drain(own).map(|place| place.node).collect();
        nodes.iter().for_each(|node| self.leave(node));
        nodes
    }

    /// Removes all users on a node. Returns those who are on no other node.
    pub(crate) fn remove_node(&mut self, node: &NodeId) -> Vec<UserId> {
        let Some(at) = self.nodes.iter().position(|(known, _)| known == node) else { return Vec::new() };
        self.nodes.swap_remove(at);
        let gone = self.places.extract_if(.., |place| place.node == *node).map(|place| place.user);
        let gone: Vec<UserId> = gone.collect();
        gone.into_iter().filter(|user| !self.contains(user)).collect()
    }

    fn leave(&mut self, node: &NodeId) {
        let Some(at) = self.nodes.iter().position(|(known, _)| known == node) else { return };
        let users = &mut self.nodes[at].1;
        debug_assert!(*users > 0, "more users left a node than it held");
        *users = users.saturating_sub(1);
        if *users == 0 {
            self.nodes.swap_remove(at);
        }
    }

    /// Returns whether a user is in it on any node.
    pub(crate) fn contains(&self, user: &UserId) -> bool {
        self.places.binary_search_by(|place| place.user.cmp(user)).is_ok()
    }

    /// Returns whether nobody is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns the nodes with a user in it.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.iter().map(|(node, _)| node)
    }

    /// Returns how many users are in it, each counted once.
    pub(crate) fn users(&self) -> usize {
        self.places.chunk_by(|one, next| one.user == next.user).count()
    }

    /// Returns everybody in it, with each node.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&UserId, &NodeId)> {
        self.places.iter().map(|place| (&place.user, &place.node))
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
