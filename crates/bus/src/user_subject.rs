//! The subjects of this node's users, which carry what concerns one user's devices and may be lost.
//!
//! A subscription of the client library costs 5 KB, and a node holds one for each of its users. So a small reader of
//! our own keeps them all on one connection.

mod handshake;
mod protocol;
mod reader;

use bytes::Bytes;
use sendpi_model::UserId;
use tokio::sync::mpsc;

use self::reader::{SubjectReader, Subscribed};
use crate::Bus;

/// The most messages that wait at one time, of all users together. Further ones are lost, as they may be.
const WAITING: usize = 1024;

/// A message to one user's devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserMessage {
    /// The user.
    pub user: UserId,
    /// The message's content.
    pub payload: Bytes,
}

/// The subscriptions to the subjects of this node's users. Cheap to clone.
#[derive(Debug, Clone)]
pub struct UserSubjects(SubjectReader);

/// Ends the subscription to a user's subject when it is dropped.
#[derive(Debug)]
pub struct UserSubscription {
    _subscribed: Subscribed,
}

impl UserSubjects {
    /// Starts the subscriptions of `bus`'s node, on a connection of their own. Returns them with a receiver of their
    /// messages.
    #[must_use]
    pub fn start(bus: &Bus) -> (Self, mpsc::Receiver<UserMessage>) {
        let (tell, messages) = mpsc::channel(WAITING);
        (Self(SubjectReader::start(bus, tell)), messages)
    }

    /// Subscribes to the user's subject. The server knows of it when this returns.
    pub async fn subscribe(&self, user: &UserId) -> UserSubscription {
        UserSubscription { _subscribed: self.0.subscribe(user).await }
    }
}
