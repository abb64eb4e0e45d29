//! The flows of this node, one to each partition. Pure.

use bytes::Bytes;
use sendpi_bus::flow::{FlowFull, FlowSender};
use sendpi_model::{Millis, NodeId, Partition, Partitions};
use tokio::time::Instant;

use crate::owners::reply_to::ReplyTo;

/// The result of one step of all flows.
#[derive(Debug, Default)]
pub(crate) struct FlowsStep {
    /// The messages to publish now, in order within each partition.
    pub(crate) messages: Vec<(Partition, Bytes)>,
    /// The tags of requests that end unanswered.
    pub(crate) ended: Vec<ReplyTo>,
    /// When the next step is due. `None` if all flows are empty.
    pub(crate) due: Option<Instant>,
}

/// All flows of this node.
#[derive(Debug)]
pub(crate) struct Flows {
    partitions: Partitions,
    senders: Vec<FlowSender<ReplyTo>>,
}

impl Flows {
    pub(crate) fn new(node: &NodeId, partitions: Partitions, now: Instant) -> Self {
        Self { partitions, senders: partitions.all().map(|_| FlowSender::new(node.clone(), now)).collect() }
    }

    fn sender(&mut self, partition: Partition) -> Option<&mut FlowSender<ReplyTo>> {
        self.senders.get_mut(usize::from(partition.0))
    }

    /// Pushes an encoded request into the flow to a partition.
    ///
    /// # Errors
    /// Returns the tag if the flow is full.
    pub(crate) fn push(
        &mut self,
        partition: Partition,
        request: Vec<u8>,
        tag: ReplyTo,
        now: Instant,
    ) -> Result<(), ReplyTo> {
        match self.sender(partition) {
            Some(sender) => sender.push(request, tag, now).map_err(|FlowFull(tag)| tag),
            None => Err(tag),
        }
    }

    /// Pushes a request that is never answered. Drops it if the flow is full.
    pub(crate) fn push_unanswered(&mut self, partition: Partition, request: Vec<u8>, now: Instant) {
        if let Some(sender) = self.sender(partition) {
            sender.push_unanswered(request, now);
        }
    }

    /// Marks request `n` as answered and returns its tag. Returns `None` if it was answered before or has ended.
    pub(crate) fn answered(&mut self, partition: Partition, n: u64, now: Instant) -> Option<ReplyTo> {
        self.sender(partition)?.answered(n, now)
    }

    /// Schedules a resend of everything unanswered in the flow to a partition, because nobody answers for it at the
    /// moment.
    pub(crate) fn schedule_resend(&mut self, partition: Partition, now: Instant, random: f64) {
        if let Some(sender) = self.sender(partition) {
            sender.schedule_resend(now, random);
        }
    }

    /// Has everything unanswered in the flow to a partition resent at once, because a worker says that it serves it
    /// from now on.
    pub(crate) fn resend_now(&mut self, partition: Partition, now: Instant) {
        if let Some(sender) = self.sender(partition) {
            sender.resend_now(now);
        }
    }

    /// Schedules a resend in all flows. The connection was lost and made again, so anything under way may be lost.
    pub(crate) fn schedule_all_resends(&mut self, now: Instant, random: f64) {
        self.senders.iter_mut().for_each(|sender| sender.schedule_resend(now, random));
    }

    /// Drains the messages that are due, and ends the requests that are too old. Drains no messages while the
    /// connection is down.
    pub(crate) fn drain(&mut self, now: Instant, wall: Millis, connected: bool, random: f64) -> FlowsStep {
        let mut step = FlowsStep::default();
        for (partition, sender) in self.partitions.all().zip(&mut self.senders) {
            step.ended.extend(sender.tick(now, random));
            while let Some(message) = connected.then(|| sender.drain_message(now, wall)).flatten() {
                step.messages.push((partition, message));
            }
            step.due = step.due.into_iter().chain(sender.due(now)).min();
        }
        step
    }

    /// Returns the number of unanswered requests.
    pub(crate) fn unanswered(&self) -> usize {
        self.senders.iter().map(FlowSender::unanswered).sum()
    }
}
