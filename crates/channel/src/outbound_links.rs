//! The links of this worker, one for each node that it sends anything to.

use std::collections::HashMap;

use bytes::Bytes;
use sendpi_bus::link::{GiveUp, LinkEvent, LinkLoad, LinkSender, Unsettled};
use sendpi_model::link::{AudienceAdded, AudienceReason, AudienceRemoved, LinkAck};
use sendpi_model::server_frame::OpFrame;
use sendpi_model::{Millis, NodeId, Partition};
use tokio::time::Instant;

use crate::room::{AnswerAddress, Room};

/// Messages to be sent, by node.
type NodeMessages = Vec<(NodeId, Vec<Bytes>)>;

/// All links of this worker.
#[derive(Debug, Default)]
pub(crate) struct OutboundLinks {
    links: HashMap<NodeId, LinkSender>,
    /// Answers that wait for nodes.
    held: Vec<HeldAnswer>,
    /// Answers to the worker's own requests, by number.
    own: Vec<(u64, Bytes)>,
}

/// The nodes that must have removed users from an audience, each with the number of the last message that says so.
#[derive(Debug, Default)]
pub(crate) struct Removals(Vec<(NodeId, u64)>);

impl Removals {
    /// Adds a message, which is the latest one to its node.
    pub(crate) fn add(&mut self, node: &NodeId, number: u64) {
        match self.0.iter_mut().find(|(known, _)| known == node) {
            Some((_, last)) => *last = number,
            None => self.0.push((node.clone(), number)),
        }
    }
}

/// An answer that is given once nodes have received something. A node that does not is given up after a few seconds, so
/// none is held for long.
#[derive(Debug)]
struct HeldAnswer {
    to: AnswerAddress,
    frame: Bytes,
    until: Removals,
}

impl OutboundLinks {
    /// Returns the link to `node`, which begins now if there is none. Incarnations are random, and stay below 2^53
    /// for JSON.
    pub(crate) fn to(&mut self, node: &NodeId) -> &mut LinkSender {
        self.links.entry(node.clone()).or_insert_with(|| LinkSender::new(rand::random::<u64>() >> 11, Instant::now()))
    }

    pub(crate) fn event(&mut self, node: &NodeId, event: &LinkEvent<'_>) {
        self.to(node).event(event);
    }

    pub(crate) fn added(&mut self, node: &NodeId, added: AudienceAdded) {
        self.to(node).added(added);
    }

    /// Removes a user from an audience. Returns the number of the message that carries this.
    pub(crate) fn removed(&mut self, node: &NodeId, removed: AudienceRemoved) -> u64 {
        self.to(node).removed(removed)
    }

    /// Answers a request once all nodes have made the removals, or were given up. The node that asked makes them before
    /// it reads the answer, which is behind them on its link.
    pub(crate) fn answer_after(&mut self, to: AnswerAddress, frame: Bytes, mut until: Removals) {
        until.0.retain(|(node, _)| *node != to.node);
        if until.0.is_empty() {
            self.answer_frame(&to, frame);
        } else {
            self.held.push(HeldAnswer { to, frame, until });
        }
    }

    /// Gives the answers that waited only for this node, up to a number that it has received.
    fn release(&mut self, node: &NodeId, received: u64) {
        for held in &mut self.held {
            held.until.0.retain(|(other, number)| other != node || *number > received);
        }
        for HeldAnswer { to, frame, .. } in self.held.extract_if(.., |held| held.until.0.is_empty()).collect::<Vec<_>>()
        {
            self.answer_frame(&to, frame);
        }
    }

    /// Answers a request.
    pub(crate) fn answer(&mut self, to: &AnswerAddress, answer: &impl OpFrame) {
        self.answer_frame(to, answer.to_frame().into());
    }

    /// Takes the answers to the worker's own requests.
    pub(crate) fn take_own_answers(&mut self) -> Vec<(u64, Bytes)> {
        std::mem::take(&mut self.own)
    }

    /// Answers a request with an encoded frame.
    pub(crate) fn answer_frame(&mut self, to: &AnswerAddress, frame: Bytes) {
        if to.node == NodeId::own_requests() {
            self.own.push((to.n, frame));
            return;
        }
        self.to(&to.node).answer(to.partition, to.n, frame);
    }

    /// Removes everybody from the audience of a channel that has ended. No client is told a reason.
    pub(crate) fn end_audience(&mut self, room: &Room) {
        for (user, node) in room.audience.places() {
            let (room, user) = (room.id.clone(), user.clone());
            self.removed(node, AudienceRemoved { room, user, reason: AudienceReason::Presence });
        }
    }

    /// Returns whether the link to one of these nodes is heavy.
    pub(crate) fn any_heavy<'a>(&self, nodes: impl IntoIterator<Item = &'a NodeId>) -> bool {
        nodes.into_iter().any(|node| self.links.get(node).is_some_and(|link| link.load() == LinkLoad::Heavy))
    }

    /// Receives a node's answer and returns the messages to be resent.
    pub(crate) fn ack(&mut self, node: &NodeId, ack: &LinkAck) -> Vec<Bytes> {
        let Some(link) = self.links.get_mut(node) else { return Vec::new() };
        let resend = link.ack(ack, Instant::now());
        if link.is_answered_by(ack) && !self.held.is_empty() {
            self.release(node, ack.received);
        }
        resend
    }

    /// Drains everything that waits, by node.
    pub(crate) fn drain(&mut self) -> NodeMessages {
        let now = Instant::now();
        let waiting = self.links.iter_mut().map(|(node, link)| (node.clone(), link.drain(now)));
        waiting.filter(|(_, messages)| !messages.is_empty()).collect()
    }

    /// Handles the passing of time. Returns the messages to be sent, and the nodes that must be given up.
    pub(crate) fn tick(&mut self) -> (NodeMessages, Vec<(NodeId, GiveUp)>) {
        let now = Instant::now();
        let (mut send, mut give_up) = (Vec::new(), Vec::new());
        for (node, link) in &mut self.links {
            let tick = link.tick(now);
            if let Some(why) = tick.give_up {
                give_up.push((node.clone(), why));
            } else if !tick.send.is_empty() {
                send.push((node.clone(), tick.send));
            }
        }
        (send, give_up)
    }

    /// Returns whether the node was heard of just now, or could not have been heard of.
    pub(crate) fn was_heard(&self, node: &NodeId) -> bool {
        self.links.get(node).is_some_and(|link| link.was_heard(Instant::now()))
    }

    /// Counts the silence of all nodes from now on, because the worker could hear nobody.
    pub(crate) fn reset_silence(&mut self) {
        let now = Instant::now();
        self.links.values_mut().for_each(|link| link.reset_silence(now));
    }

    /// Returns an announcement for each node that has not settled everything, by node.
    pub(crate) fn announce_unsettled(&mut self) -> NodeMessages {
        let now = Instant::now();
        let unsettled = self.links.iter_mut().filter(|(_, link)| !link.is_settled());
        unsettled.map(|(node, link)| (node.clone(), vec![link.announce(now)])).collect()
    }

    /// Returns whether all nodes have received everything.
    pub(crate) fn is_received(&self) -> bool {
        self.links.values().all(LinkSender::is_received)
    }

    /// Returns whether all nodes have settled everything that they were sent.
    pub(crate) fn is_settled(&self) -> bool {
        self.links.values().all(LinkSender::is_settled)
    }

    /// Ends a link and returns the events that the node did not settle. `None` if there was no link.
    pub(crate) fn give_up(&mut self, node: &NodeId) -> Option<Unsettled> {
        self.held.retain(|held| held.to.node != *node);
        self.release(node, u64::MAX);
        self.links.remove(node).map(LinkSender::give_up)
    }

    /// Calls `tell` for each link and partition with the time of the oldest event that is not settled.
    pub(crate) fn oldest_unsettled(&self, mut tell: impl FnMut(Partition, Millis)) {
        self.links.values().for_each(|link| link.oldest_unsettled(&mut tell));
    }
}
