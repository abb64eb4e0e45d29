//! The uplink: one task per node that sends the requests in the flows, and hears when nobody answers for a partition.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use sendpi_bus::{NatsMessage, Subscription, subject};
use sendpi_model::flow::{FlowRefusal, ORPHAN_VERSION, OrphanReport};
use sendpi_model::{Millis, Partition, encode_json};
use tokio::time::{Instant, sleep_until, timeout};

use crate::context::NodeContext;
use crate::owners::answer;
use crate::owners::reply_to::ReplyTo;

/// The least time between two reports that a partition has no owner.
const ORPHAN_EVERY: Duration = Duration::from_secs(1);
/// How long the connection may take to accept a message. Its flow resends what the connection does not accept.
const PUBLISH: Duration = Duration::from_secs(1);
/// How long to sleep if nothing is due.
const IDLE: Duration = Duration::from_secs(3600);
/// The shortest sleep between two steps while the connection is down.
const DOWN: Duration = Duration::from_millis(50);

/// Runs the uplink until the node's shutdown.
pub(crate) async fn run(node: Arc<NodeContext>, replies: Subscription, served: Subscription) {
    let shutdown = node.shutdown.clone();
    let mut uplink = Uplink { node, replies, served, said_orphan: HashMap::new() };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = uplink.serve() => tracing::error!("the uplink to the owners ended before shutdown"),
    }
}

struct Uplink {
    node: Arc<NodeContext>,
    replies: Subscription,
    /// The word of workers that they serve a partition from now on.
    served: Subscription,
    said_orphan: HashMap<Partition, Instant>,
}

impl Uplink {
    async fn serve(&mut self) {
        let mut connection = self.node.bus.connection();
        let mut due = Instant::now() + IDLE;
        loop {
            let reply = tokio::select! {
                () = self.node.uplink.notified() => None,
                () = sleep_until(due) => None,
                changed = connection.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if connection.borrow_and_update().up {
                        self.node.flows.lock().schedule_all_resends(Instant::now(), rand::random());
                    }
                    None
                }
                served = self.served.next() => {
                    let Some(served) = served else { return };
                    if let Some(partition) = subject::partition_of(served.subject()) {
                        self.node.flows.lock().resend_now(partition, Instant::now());
                    }
                    None
                }
                reply = self.replies.next() => match reply {
                    Some(reply) => Some(reply),
                    None => return,
                },
            };
            if let Some(reply) = reply {
                self.reply(&reply).await;
                while let Some(Some(reply)) = self.replies.next().now_or_never() {
                    self.reply(&reply).await;
                }
            }
            let up = connection.borrow().up;
            due = self.step(up).await;
        }
    }

    /// Sends what is due in all flows. Returns when the next step is due.
    async fn step(&self, up: bool) -> Instant {
        let now = Instant::now();
        let step = self.node.flows.lock().drain(now, Millis::now(), up, rand::random());
        self.node.ended(step.ended);
        for (partition, message) in step.messages {
            let reply = subject::flow_reply(self.node.bus.node(), partition);
            let sent = self.node.bus.publish_with_reply(subject::room(partition), reply, message);
            match timeout(PUBLISH, sent).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, %partition, "could not send requests"),
                Err(_) => tracing::warn!(%partition, "the connection to NATS is blocked; requests will be resent"),
            }
        }
        let due = step.due.unwrap_or(now + IDLE);
        if up { due } else { due.max(now + DOWN) }
    }

    /// Handles a message about a flow: NATS reports no responders, or a worker reports that it does not own the
    /// partition.
    async fn reply(&mut self, reply: &NatsMessage) {
        let Some(partition) = subject::partition_of(reply.subject()) else { return };
        let orphan = reply.is_no_responders();
        if !orphan && serde_json::from_slice::<FlowRefusal>(reply.payload()).is_err() {
            tracing::warn!(%partition, "ignored an unknown reply about a flow");
            return;
        }
        let now = Instant::now();
        self.node.flows.lock().schedule_resend(partition, now, rand::random());
        let said = self.said_orphan.get(&partition);
        if orphan && said.is_none_or(|said| now - *said >= ORPHAN_EVERY) {
            self.said_orphan.insert(partition, now);
            let report = encode_json(&OrphanReport { v: ORPHAN_VERSION, dead: None });
            let told = self.node.bus.publish(subject::orphan(partition), report.into());
            if let Ok(Err(error)) = timeout(PUBLISH, told).await {
                tracing::debug!(%error, "could not report that a partition has no owner");
            }
        }
    }
}

impl NodeContext {
    /// Handles requests that ended without an answer.
    pub(crate) fn ended(self: &Arc<Self>, tags: Vec<ReplyTo>) {
        for tag in tags {
            match tag {
                ReplyTo::Client { outbound, id, .. } => {
                    outbound.end_request();
                    outbound.refuse(&answer::unavailable(), id.as_ref());
                    outbound.flush_now();
                }
                // Dropping the reply closes the oneshot, which tells the waiter that no answer will come.
                ReplyTo::Wait(_) | ReplyTo::Attach(..) => {}
                ReplyTo::Retry(key) => self.with(|state, effects| {
                    state.not_confirmed(key, None, Instant::now(), effects);
                }),
            }
        }
    }
}
