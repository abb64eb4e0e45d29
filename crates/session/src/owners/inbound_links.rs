//! The links of this node, one from each worker.
//!
//! Each incarnation of a link gets a [`LinkId`] here: what one of them told, and what is not settled of it, is void when it is cut.

use std::collections::HashMap;
use std::time::Duration;

use sendpi_bus::link::LinkReceiver;
use sendpi_model::NodeId;
use sendpi_model::link::{LinkAck, LinkHeader, LinkItems};
use tokio::time::Instant;

use crate::keys::LinkId;

/// A link that has been down for this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// The links of this node.
#[derive(Debug, Default)]
pub(crate) struct InboundLinks {
    links: HashMap<NodeId, InboundLink>,
    last_id: LinkId,
}

#[derive(Debug)]
struct InboundLink {
    receiver: LinkReceiver,
    id: LinkId,
    /// Where its answers go.
    reply: String,
    down_since: Option<Instant>,
}

/// What became of a message.
#[derive(Debug)]
pub(crate) struct InboundMessage {
    /// The incarnation that ended with this message.
    pub(crate) cut: Option<LinkId>,
    /// The incarnation that the message belongs to.
    pub(crate) link: LinkId,
    /// Messages that are due now, in order, with their numbers.
    pub(crate) ready: Vec<(u64, LinkItems)>,
}

impl InboundLinks {
    /// Receives a message of `bytes` bytes from a worker.
    pub(crate) fn receive(
        &mut self,
        worker: NodeId,
        reply: &str,
        (header, items, bytes): (LinkHeader, LinkItems, usize),
        now: Instant,
    ) -> InboundMessage {
        let link = self.links.entry(worker).or_insert_with(|| InboundLink {
            receiver: LinkReceiver::new(),
            id: 0,
            reply: reply.to_owned(),
            down_since: Some(now),
        });
        let was_up = link.receiver.is_up();
        let received = link.receiver.receive(header, items, bytes, now);
        let cut = received.cut.then_some(link.id);
        if link.receiver.is_up() && (received.cut || !was_up) {
            self.last_id += 1;
            link.id = self.last_id;
            link.down_since = None;
        }
        InboundMessage { cut, link: link.id, ready: received.ready }
    }

    /// Cuts the link of one worker. Returns the incarnation that ended, if the link was up.
    pub(crate) fn cut(&mut self, worker: &NodeId, now: Instant) -> Option<LinkId> {
        let link = self.links.get_mut(worker)?;
        link.receiver.cut().then(|| {
            link.down_since = Some(now);
            link.id
        })
    }

    /// Cuts all links. Returns the incarnations that ended.
    pub(crate) fn cut_all(&mut self, now: Instant) -> Vec<LinkId> {
        let workers: Vec<NodeId> = self.links.keys().cloned().collect();
        workers.iter().filter_map(|worker| self.cut(worker, now)).collect()
    }

    /// Cuts the links that have been silent, or have had a gap, for too long. Returns the incarnations that ended, with their workers.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<(NodeId, LinkId)> {
        let mut cut = Vec::new();
        for (worker, link) in &mut self.links {
            if link.receiver.tick(now) {
                link.down_since = Some(now);
                cut.push((worker.clone(), link.id));
            }
        }
        self.links.retain(|_, link| link.down_since.is_none_or(|since| now - since < FORGET_AFTER));
        cut
    }

    /// The answers that are due, and where they go. `settled` returns how far an incarnation is settled, given how far it was received.
    pub(crate) fn answers(
        &mut self,
        mut settled: impl FnMut(LinkId, u64) -> u64,
        now: Instant,
    ) -> Vec<(String, LinkAck)> {
        let mut answers = Vec::new();
        for link in self.links.values_mut() {
            let id = link.id;
            if let Some(ack) = link.receiver.answer(|received| settled(id, received), now) {
                answers.push((link.reply.clone(), ack));
            }
        }
        answers
    }
}
