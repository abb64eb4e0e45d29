//! What a change of the state asks the code around it to do.

use std::sync::Arc;

use sendpi_bus::UserSubscription;
use sendpi_model::{RoomId, UserId, Verb};

use crate::client::outbound::Outbound;
use crate::keys::RoomKey;
use crate::owners::reply_to::ReplyTo;

/// A request to push into the flow to a room's owner.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) room: RoomId,
    pub(crate) user: UserId,
    pub(crate) verb: Verb,
    pub(crate) tag: ReplyTo,
}

/// The effects of a change of the state.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// The outbound queues with something to write, each once.
    pub(crate) touched: Vec<Arc<Outbound>>,
    /// The requests to send, in order.
    pub(crate) asks: Vec<Ask>,
    /// Rooms with a new gap that no task fills yet.
    pub(crate) fills: Vec<RoomKey>,
    /// Users whose presence keys are to be removed.
    pub(crate) signed_out: Vec<UserId>,
    /// Subscriptions to end by dropping them.
    pub(crate) unsubscribed: Vec<UserSubscription>,
    /// Whether all links are to be cut, because the log of unconfirmed events or the retry queue is full.
    pub(crate) overrun: bool,
}

impl Effects {
    /// Notes that an outbound queue has something to write.
    pub(crate) fn touch(&mut self, outbound: &Arc<Outbound>) {
        if outbound.touch() {
            self.touched.push(Arc::clone(outbound));
        }
    }
}
