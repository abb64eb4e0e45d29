//! The owner's half of flows. It receives the requests of each node in order, each one once.

use std::collections::{BTreeMap, HashMap};

use sendpi_model::flow::{FlowMessage, FlowRequest};
use sendpi_model::{NodeId, Refusal};

/// The most requests that are held back behind a gap, per flow. Further ones are dropped, and their node resends
/// them.
const HELD_MAX: usize = 8_192;

/// The flows of all nodes to one partition.
#[derive(Debug, Default)]
pub struct FlowReceiver {
    flows: HashMap<NodeId, Flow>,
}

#[derive(Debug)]
struct Flow {
    /// The number of the request that is due.
    next: u64,
    /// Requests that came after a gap.
    held: BTreeMap<u64, Result<FlowRequest, Refusal>>,
}

/// Requests that are due now, in order.
pub type DueRequests = Vec<(u64, Result<FlowRequest, Refusal>)>;

impl FlowReceiver {
    /// Receives one message of a flow and returns the requests that are due now. A request that was received before
    /// is dropped, because its answer is on the way already.
    pub fn receive(&mut self, message: FlowMessage) -> DueRequests {
        let flow = self.flows.entry(message.node).or_insert_with(|| Flow { next: message.low, held: BTreeMap::new() });
        // The node does not ask for anything below `low` any more, so nothing before it will come.
        if flow.next < message.low {
            flow.next = message.low;
            flow.held = flow.held.split_off(&message.low);
        }
        let mut due = flow.held_due();
        for (n, request) in message.requests {
            if n == flow.next {
                // It is received however much is held: it is what the held requests wait for.
                flow.held.remove(&n);
                due.push((n, request));
                flow.next += 1;
                due.extend(flow.held_due());
            } else if n > flow.next && flow.held.len() < HELD_MAX {
                flow.held.insert(n, request);
            }
        }
        due
    }

    /// Forgets a node's flow. Its link was given up and its answers with it, so what the node resends is received
    /// again.
    pub fn forget(&mut self, node: &NodeId) {
        self.flows.remove(node);
    }
}

impl Flow {
    /// Takes the held requests that are due now.
    fn held_due(&mut self) -> DueRequests {
        let mut due = Vec::new();
        while let Some(request) = self.held.remove(&self.next) {
            due.push((self.next, request));
            self.next += 1;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use sendpi_model::{RoomId, UserId, Verb};

    use super::*;

    fn message(low: u64, numbers: &[u64]) -> FlowMessage {
        let request = |n| FlowRequest {
            n,
            room: RoomId::parse("r").unwrap(),
            user: UserId::parse("u").unwrap(),
            is_service: false,
            first: None,
            verb: Verb::Typing,
        };
        FlowMessage {
            node: NodeId::parse("n").unwrap(),
            low,
            requests: numbers.iter().map(|n| (*n, Ok(request(*n)))).collect(),
        }
    }

    fn take(receiver: &mut FlowReceiver, low: u64, numbers: &[u64]) -> Vec<u64> {
        receiver.receive(message(low, numbers)).into_iter().map(|(n, _)| n).collect()
    }

    #[test]
    fn what_follows_a_gap_is_held_back_until_the_gap_is_filled() {
        let mut receiver = FlowReceiver::default();
        assert_eq!(take(&mut receiver, 1, &[1, 2]), [1, 2]);
        assert!(take(&mut receiver, 1, &[5]).is_empty());
        assert!(take(&mut receiver, 1, &[4]).is_empty());
        assert_eq!(take(&mut receiver, 1, &[1, 2, 3, 4, 5]), [3, 4, 5]);
    }

    #[test]
    fn the_missing_request_is_taken_however_many_are_held() {
        let mut receiver = FlowReceiver::default();
        let held: Vec<u64> = (2..HELD_MAX as u64 + 100).collect();
        assert!(take(&mut receiver, 1, &held).is_empty());
        let last = HELD_MAX as u64 + 1;
        assert_eq!(take(&mut receiver, 1, &[1]), (1..=last).collect::<Vec<_>>());
        assert_eq!(take(&mut receiver, 1, &[last, last + 1]), [last + 1]);
    }

    #[test]
    fn a_new_owner_begins_at_the_lowest_unanswered() {
        let mut receiver = FlowReceiver::default();
        assert!(take(&mut receiver, 7, &[8]).is_empty());
        assert_eq!(take(&mut receiver, 7, &[7, 8]), [7, 8]);
    }

    #[test]
    fn each_request_is_taken_once() {
        let mut receiver = FlowReceiver::default();
        assert_eq!(take(&mut receiver, 1, &[1, 2]), [1, 2]);
        assert!(take(&mut receiver, 1, &[1, 2]).is_empty());
        receiver.forget(&NodeId::parse("n").unwrap());
        assert_eq!(take(&mut receiver, 2, &[2]), [2]);
    }

    #[test]
    fn what_the_node_gave_up_on_is_not_waited_for() {
        let mut receiver = FlowReceiver::default();
        assert_eq!(take(&mut receiver, 1, &[1, 3]), [1]);
        assert_eq!(take(&mut receiver, 3, &[4]), [3, 4]);
    }
}
