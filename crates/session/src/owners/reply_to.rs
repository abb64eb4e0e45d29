//! What the answer to a request of a flow is for.

use std::sync::Arc;

use bytes::Bytes;
use sendpi_model::{FrameId, RoomId};
use tokio::sync::oneshot;

use crate::client::outbound::Outbound;
use crate::keys::{RetryKey, SessionKey};

/// What an answer is for.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    /// A client's request: the answer goes straight into its session's queue.
    Client {
        outbound: Arc<Outbound>,
        id: Option<FrameId>,
        /// The room whose read marker the answer moves.
        marks: Option<MarkerMove>,
    },
    /// Somebody on this node waits for it.
    Wait(oneshot::Sender<Bytes>),
    /// One of what is repeated until it is confirmed.
    Retry(RetryKey),
}

/// An answer that moves a read marker.
#[derive(Debug)]
pub(crate) struct MarkerMove {
    pub(crate) room: RoomId,
    /// The session to whose other devices the marker is told; `None` where it is not told: the sender of a message has read it.
    pub(crate) tell: Option<SessionKey>,
}
