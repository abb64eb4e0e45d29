//! The subscriptions to the requests of partitions, one for each partition that this worker serves.

use std::collections::HashMap;
use std::pin::Pin;

use futures_util::stream::{AbortHandle, SelectAll, abortable};
use futures_util::{Stream, StreamExt};
use sendpi_bus::{NatsMessage, Subscription};
use sendpi_model::Partition;

type PartitionMessages = Pin<Box<dyn Stream<Item = (Partition, NatsMessage)> + Send>>;

/// The subscriptions to the requests of partitions.
#[derive(Default)]
pub(super) struct Inboxes {
    open: HashMap<Partition, AbortHandle>,
    messages: SelectAll<PartitionMessages>,
}

impl Inboxes {
    /// Adds the subscription of a partition, in place of the one before.
    pub(super) fn open(&mut self, partition: Partition, messages: Subscription) {
        let (messages, handle) = abortable(messages.map(move |message| (partition, message)));
        self.messages.push(Box::pin(messages));
        if let Some(former) = self.open.insert(partition, handle) {
            former.abort();
        }
    }

    /// Ends the subscription of a partition. What has arrived and was not read is dropped: flows send it again.
    pub(super) fn close(&mut self, partition: Partition) {
        if let Some(handle) = self.open.remove(&partition) {
            handle.abort();
        }
    }

    /// Ends all subscriptions at once.
    pub(super) fn close_all(&mut self) {
        self.open.clear();
        self.messages.clear();
    }

    /// Returns the next message. `None` if there is no subscription.
    pub(super) async fn next(&mut self) -> Option<(Partition, NatsMessage)> {
        self.messages.next().await
    }
}
