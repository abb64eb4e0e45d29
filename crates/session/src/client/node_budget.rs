//! The bytes that wait for all sessions of one node together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::SessionConfig;

/// How many bytes may wait for the sessions of a node, and how many do. Only what a socket did not take at once, and
/// what is held back, counts; an event that waits for several sessions counts for each of them.
#[derive(Debug)]
pub(crate) struct NodeBudget {
    /// The limit for all sessions.
    node: usize,
    /// The limit for the events of one session.
    session: usize,
    used: AtomicUsize,
}

impl NodeBudget {
    pub(crate) fn new(config: &SessionConfig) -> Self {
        Self { node: config.node_outbox_bytes, session: config.outbox_bytes, used: AtomicUsize::new(0) }
    }

    /// Returns a budget for one session alone.
    #[cfg(test)]
    pub(crate) fn of_session(session: usize) -> Self {
        Self { node: usize::MAX, session, used: AtomicUsize::new(0) }
    }

    /// Returns how many bytes may wait for the node's sessions together.
    pub(crate) fn node(&self) -> usize {
        self.node
    }

    /// Returns how many bytes of events may wait for one session.
    pub(crate) fn session(&self) -> usize {
        self.session
    }

    /// Returns whether more bytes wait than may.
    pub(crate) fn is_over(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.node
    }
}

/// The part of a budget that one queue uses. Dropping it gives the bytes back.
#[derive(Debug)]
pub(crate) struct BudgetShare {
    budget: Arc<NodeBudget>,
    bytes: usize,
}

impl BudgetShare {
    pub(crate) fn new(budget: Arc<NodeBudget>) -> Self {
        Self { budget, bytes: 0 }
    }

    pub(crate) fn budget(&self) -> &Arc<NodeBudget> {
        &self.budget
    }

    /// Returns how many bytes the queue uses.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes how many bytes the queue uses.
    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.budget.used.fetch_add(bytes, Ordering::Relaxed);
            let used = self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
            debug_assert!(used >= self.bytes, "more bytes are given back than were used");
            self.bytes = bytes;
        }
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_over_while_its_shares_are_too_large_together() {
        let config = SessionConfig { node_outbox_bytes: 10, ..SessionConfig::default() };
        let budget = Arc::new(NodeBudget::new(&config));
        let (mut one, mut other) = (BudgetShare::new(Arc::clone(&budget)), BudgetShare::new(Arc::clone(&budget)));
        one.set(6);
        other.set(4);
        assert!(!budget.is_over());
        one.set(7);
        assert!(budget.is_over());
        drop(other);
        assert_eq!((budget.is_over(), one.bytes()), (false, 7));
    }
}
