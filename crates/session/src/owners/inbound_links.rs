//! The links of this node, one from each worker. Pure.
//!
//! Each incarnation of a link gets a [`LinkId`] here. When an incarnation is cut, its audiences and everything of
//! it that is not settled become void.

use std::collections::HashMap;
use std::time::Duration;

use sendpi_bus::link::LinkReceiver;
use sendpi_model::NodeId;
use sendpi_model::link::{LinkAck, LinkHeader, LinkItems};
use tokio::time::Instant;

use crate::keys::LinkId;

/// How long a link that is down is remembered.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// All links of this node.
#[derive(Debug, Default)]
pub(crate) struct InboundLinks {
    links: HashMap<NodeId, InboundLink>,
    last_id: LinkId,
}

#[derive(Debug)]
struct InboundLink {
    receiver: LinkReceiver,
    id: LinkId,
    /// The subject that the link's answers go to.
    reply: String,
    down_since: Option<Instant>,
}

/// The result of receiving a message.
#[derive(Debug)]
pub(crate) struct InboundMessage {
    /// The incarnation that ended because this message belongs to a newer one.
    pub(crate) cut: Option<LinkId>,
    /// Whether the link came up again after this node had cut it. The worker may have put users into an audience of the
    /// incarnation that ended, so they are attached again.
    pub(crate) again: bool,
    /// The incarnation that the message belongs to.
    pub(crate) link: LinkId,
    /// The messages to deliver now, in order, with their numbers.
    pub(crate) ready: Vec<(u64, LinkItems)>,
}

impl InboundLinks {
    /// Receives a message from a worker: its header, its items and its size in bytes.
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
        let begins = link.receiver.is_up() && (received.cut || !was_up);
        let again = begins && !was_up && link.id != 0;
        if begins {
            self.last_id += 1;
            link.id = self.last_id;
            link.down_since = None;
        }
        InboundMessage { cut, again, link: link.id, ready: received.ready }
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

    /// Cuts the links that have been silent, or have had a gap, for too long. Forgets links that have been down for
    /// long. Returns the incarnations that ended, with their workers.
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

    /// Counts the silence of all workers from now on, because this node could hear nobody.
    pub(crate) fn reset_silence(&mut self, now: Instant) {
        self.links.values_mut().for_each(|link| link.receiver.reset_silence(now));
    }

    /// Makes answers to all workers due at once, because no others may follow them.
    pub(crate) fn answer_at_last(&mut self) {
        self.links.values_mut().for_each(|link| link.receiver.answer_at_last());
    }

    /// Returns the answers that are due, with the subjects they go to. `settled` returns up to which number an
    /// incarnation is settled, given up to which number it was received.
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
