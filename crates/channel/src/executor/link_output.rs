//! What goes out on the links, and what nodes answer to them.

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use sendpi_bus::NatsMessage;
use sendpi_bus::link::GiveUp;
use sendpi_bus::subject::{self, NodeSubject};
use sendpi_model::NodeId;
use sendpi_model::faults::{BusFault, FailPoint, bus_fault, fail_point, fail_point_armed};
use sendpi_model::link::LinkAck;
use tokio::time::Instant;

use super::{Executor, ROUND_MAX};

impl Executor {
    /// Sends everything that waits, as one message on each link unless it is too large, then starts the push jobs of
    /// what is live now.
    pub(super) async fn send_links(&mut self) {
        self.answer_own();
        let waiting = self.links.drain();
        for (node, messages) in waiting {
            self.send_to_node(&node, messages).await;
        }
        if std::mem::take(&mut self.has_dispatched) {
            for point in [FailPoint::AfterDispatch, FailPoint::AfterAnswer] {
                if fail_point_armed(point) {
                    // What was sent must have left the process before it ends.
                    self.context.bus.flush().await.ok();
                    fail_point(point);
                }
            }
        }
        self.pushes.start_due(Instant::now());
    }

    pub(super) async fn send_to_node(&mut self, node: &NodeId, messages: Vec<Bytes>) {
        let (to, reply) = (subject::node(node, NodeSubject::Link), subject::link_reply(self.context.bus.node(), node));
        for message in messages {
            if bus_fault(BusFault::LoseLinkMessage) {
                continue;
            }
            if let Err(error) = self.context.bus.publish_with_reply(to.clone(), reply.clone(), message).await {
                tracing::error!(%error, %node, "the connection to NATS is closed");
                return;
            }
        }
    }

    pub(super) async fn receive_link_answer(&mut self, message: &NatsMessage) {
        let Some(node) = subject::link_reply_node(message.subject()) else { return };
        if message.is_no_responders() {
            if self.hearing.counts(Instant::now()) {
                tracing::info!(%node, "nobody listens there any more");
                self.give_up(&node);
            }
            return;
        }
        match LinkAck::parse(message.payload()) {
            Ok(ack) => {
                let resend = self.links.ack(&node, &ack);
                self.send_to_node(&node, resend).await;
            }
            Err(error) => tracing::warn!(%error, %node, "a link's answer cannot be read"),
        }
    }

    /// Sends what is due by the clock, and gives up the nodes that have been silent for too long. Silence counts only
    /// while the worker can hear: the answers that wait are read first, and after the process was frozen, or NATS
    /// brought nothing, it counts from then on.
    pub(super) async fn tick_links(&mut self) {
        for _ in 0..ROUND_MAX {
            let Some(Some(answer)) = self.acks.next().now_or_never() else { break };
            self.receive_link_answer(&answer).await;
        }
        if self.hearing.is_deaf(&self.context.bus, Instant::now()) {
            self.links.reset_silence();
        }
        let (send, give_up) = self.links.tick();
        for (node, messages) in send {
            self.send_to_node(&node, messages).await;
        }
        for (node, why) in give_up {
            match why {
                GiveUp::Silent => tracing::info!(%node, "a node is silent: it counts as unreachable"),
                GiveUp::Full => tracing::warn!(%node, "too much is under way to a node: it counts as unreachable"),
            }
            self.give_up(&node);
        }
    }
}
