//! What a change of the state asks for, carried out by the shell around it.

use std::sync::Arc;

use sendpi_bus::UserSubscription;
use sendpi_model::{RoomId, UserId, Verb};

use crate::client::outbound::Outbound;
use crate::keys::RoomKey;
use crate::owners::reply_to::ReplyTo;

/// A request to a room's owner.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) room: RoomId,
    pub(crate) user: UserId,
    pub(crate) verb: Verb,
    pub(crate) tag: ReplyTo,
}

/// What a change of the state asks for.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Lines that have something to write, each once.
    pub(crate) touched: Vec<Arc<Outbound>>,
    /// Requests, in order.
    pub(crate) asks: Vec<Ask>,
    /// Rooms of which something is missing that nobody reads yet.
    pub(crate) fills: Vec<RoomKey>,
    /// Users who are offline here from now on.
    pub(crate) signed_out: Vec<UserId>,
    /// Subscriptions that end.
    pub(crate) unsubscribed: Vec<UserSubscription>,
    /// More is unsettled than may be: all links are to be cut.
    pub(crate) overrun: bool,
}

impl Effects {
    /// A line has something to write.
    pub(crate) fn touch(&mut self, outbound: &Arc<Outbound>) {
        if outbound.touch() {
            self.touched.push(Arc::clone(outbound));
        }
    }
}
