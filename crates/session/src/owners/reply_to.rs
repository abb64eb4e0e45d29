//! The tag of a request in a flow: what its answer is for.

use std::sync::Arc;

use bytes::Bytes;
use sendpi_model::{FrameId, RoomId};
use tokio::sync::oneshot;

use crate::client::outbound::Outbound;
use crate::keys::{RetryKey, SessionKey};
use crate::state::AttachRequest;

/// What an answer is for.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    /// A client's request. The answer goes straight into the outbound queue of its session.
    Client {
        outbound: Arc<Outbound>,
        id: Option<FrameId>,
        /// The read marker that the answer moves, if it moves one.
        marks: Option<MarkerMove>,
    },
    /// An attach. Its answer is judged first, and then goes to the task that waits for it.
    Attach(Box<AttachRequest>, oneshot::Sender<Bytes>),
    /// A request whose answer a task on this node waits for.
    Wait(oneshot::Sender<Bytes>),
    /// A request that is retried until it is confirmed.
    Retry(RetryKey),
}

/// The effect of an answer that moves a user's read marker.
#[derive(Debug)]
pub(crate) struct MarkerMove {
    pub(crate) room: RoomId,
    /// The session that sent `read`. The user's other devices are told. `None` for a sent message: the devices get the
    /// message itself, and its sender has read it.
    pub(crate) read_in: Option<SessionKey>,
}
