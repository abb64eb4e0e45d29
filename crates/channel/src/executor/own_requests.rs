//! Requests that come from no node: their answers go to a task of this worker.

use bytes::Bytes;
use sendpi_model::server_frame::OpFrame;
use sendpi_model::{NodeId, Refusal};

use super::Executor;
use super::store_failure::refusal;
use crate::ingest::OwnRequest;
use crate::room::{AnswerAddress, QueuedRequest};

/// Beyond this many that are waited for, those whose task waits no more are forgotten.
const FORGET_ABOVE: usize = 1_024;

impl Executor {
    /// Queues a request at its room. One that cannot be served now is refused, and comes again.
    pub(super) fn receive_own(&mut self, own: OwnRequest) {
        let OwnRequest { partition, request, answer } = own;
        let serves = self.store_serves();
        let refused = match self.partitions.get(&partition) {
            Some(owned) if owned.serves() && serves => None,
            Some(_) if !serves => Some(refusal()),
            _ => Some(Refusal::unavailable("the room's owner is not known now", 500)),
        };
        if let Some(refusal) = refused {
            // The task that asked may have ended.
            let _ = answer.send(refusal.to_frame().into());
            return;
        }
        if self.own_waiting.len() > FORGET_ABOVE {
            self.own_waiting.retain(|_, answer| !answer.is_closed());
        }
        self.own_last += 1;
        let to = AnswerAddress { node: NodeId::own_requests(), partition, n: self.own_last };
        self.own_waiting.insert(to.n, answer);
        self.enqueue(partition, QueuedRequest { to: Some(to), own: None, request });
    }

    /// Gives the answers to those who wait for them.
    pub(super) fn answer_own(&mut self) {
        for (n, frame) in self.links.take_own_answers() {
            self.answer_one(n, frame);
        }
    }

    fn answer_one(&mut self, n: u64, frame: Bytes) {
        if let Some(answer) = self.own_waiting.remove(&n) {
            // The task that asked may wait no more.
            let _ = answer.send(frame);
        }
    }
}
