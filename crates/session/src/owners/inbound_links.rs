//! The links of this node, one from each worker.

use std::collections::HashMap;
use std::time::Duration;

use sendpi_bus::link::LinkReceiver;
use sendpi_model::NodeId;
use sendpi_model::link::{LinkAck, LinkHeader, LinkItems};
use tokio::time::Instant;

/// A link that has been down for so long is forgotten.
const FORGET: Duration = Duration::from_secs(600);

/// The links of this node.
#[derive(Debug, Default)]
pub(crate) struct InboundLinks {
    links: HashMap<NodeId, InboundLink>,
    lives: u32,
}

#[derive(Debug)]
struct InboundLink {
    receiver: LinkReceiver,
    /// Numbers this life of the link among all lives of all links.
    life: u32,
    reply: String,
    down_since: Option<Instant>,
}

/// What became of a message.
#[derive(Debug)]
pub(crate) struct InboundMessage {
    /// The life that ended with it.
    pub(crate) cut: Option<u32>,
    /// The life that it belongs to.
    pub(crate) life: u32,
    /// What is due now, in order.
    pub(crate) ready: Vec<(u64, LinkItems)>,
}

impl InboundLinks {
    /// Takes a message of `bytes` bytes from a worker.
    pub(crate) fn take(
        &mut self,
        worker: NodeId,
        reply: &str,
        message: (LinkHeader, LinkItems, usize),
        now: Instant,
    ) -> InboundMessage {
        let lives = &mut self.lives;
        let link = self.links.entry(worker).or_insert_with(|| InboundLink {
            receiver: LinkReceiver::new(),
            life: 0,
            reply: reply.to_owned(),
            down_since: Some(now),
        });
        let was_up = link.receiver.is_up();
        let taken = link.receiver.take(message.0, message.1, message.2, now);
        let cut = taken.cut.then_some(link.life);
        if link.receiver.is_up() && (taken.cut || !was_up) {
            *lives += 1;
            link.life = *lives;
            link.down_since = None;
        }
        InboundMessage { cut, life: link.life, ready: taken.ready }
    }

    /// Cuts the link of one worker; gives the life that ended.
    pub(crate) fn cut(&mut self, worker: &NodeId, now: Instant) -> Option<u32> {
        let link = self.links.get_mut(worker)?;
        link.receiver.cut().then(|| {
            link.down_since = Some(now);
            link.life
        })
    }

    /// Cuts all links; gives the lives that ended.
    pub(crate) fn cut_all(&mut self, now: Instant) -> Vec<u32> {
        let workers: Vec<NodeId> = self.links.keys().cloned().collect();
        workers.iter().filter_map(|worker| self.cut(worker, now)).collect()
    }

    /// Cuts the links that time has cut; gives the lives that ended, with their workers.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<(NodeId, u32)> {
        let mut cut = Vec::new();
        for (worker, link) in &mut self.links {
            if link.receiver.tick(now) {
                link.down_since = Some(now);
                cut.push((worker.clone(), link.life));
            }
        }
        self.links.retain(|_, link| link.down_since.is_none_or(|since| now - since < FORGET));
        cut
    }

    /// The answers that are due, and where they go; `settled` tells how far a life of a link is settled.
    pub(crate) fn answers(&mut self, mut settled: impl FnMut(u32, u64) -> u64, now: Instant) -> Vec<(String, LinkAck)> {
        let mut answers = Vec::new();
        for link in self.links.values_mut() {
            let life = link.life;
            if let Some(ack) = link.receiver.answer(|has| settled(life, has), now) {
                answers.push((link.reply.clone(), ack));
            }
        }
        answers
    }
}
