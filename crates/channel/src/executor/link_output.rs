//! What goes out on the links, and what nodes answer to them.

use bytes::Bytes;
use sendpi_bus::NatsMessage;
use sendpi_bus::subject::{self, NodeSubject};
use sendpi_model::NodeId;
use sendpi_model::faults::{BusFault, FailPoint, bus_fault, fail_point, fail_point_armed};
use sendpi_model::link::LinkAck;
use sendpi_model::timing::RECONNECT_GRACE;
use tokio::time::Instant;

use super::Executor;

impl Executor {
    /// Sends everything that waits, as one message on each link unless it is too large, then starts the push jobs of
    /// what is live now.
    pub(super) async fn send_links(&mut self) {
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
            if self.connected.elapsed() > RECONNECT_GRACE {
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

    /// Sends what is due by the clock, and gives up the nodes that have been silent for too long.
    pub(super) async fn tick_links(&mut self) {
        let (send, silent) = self.links.tick();
        for (node, messages) in send {
            self.send_to_node(&node, messages).await;
        }
        let can_hear = self.can_hear();
        for node in silent.into_iter().filter(|_| can_hear) {
            tracing::info!(%node, "a node is silent: it counts as unreachable");
            self.give_up(&node);
        }
    }

    /// Returns whether silence counts. A worker without a connection hears nobody, and after a reconnect, silence
    /// counts only once the links know of the reconnect.
    fn can_hear(&self) -> bool {
        let connection = *self.context.bus.connection().borrow();
        connection.up && connection.connects == self.connects
    }
}
