//! The subjects of this node's users, which carry what concerns one user's devices and may be lost.
//!
//! A subscription of the client library costs 5 KB, and a node holds one for each of its users. So a small reader of
//! our own keeps them all on one plain connection. A node that does not know the servers' addresses, or cannot reach
//! one of them by a plain connection, uses the library's subscriptions instead.

mod protocol;
mod reader;

use std::fmt;

use bytes::Bytes;
use futures_util::StreamExt;
use sendpi_model::UserId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::reader::{SubjectReader, Subscribed};
use crate::{Bus, SendError, subject};

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
#[derive(Clone)]
pub struct UserSubjects(Way);

#[derive(Clone)]
enum Way {
    Own(SubjectReader),
    Library { bus: Box<Bus>, tell: mpsc::Sender<UserMessage> },
}

impl fmt::Debug for UserSubjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserSubjects").finish_non_exhaustive()
    }
}

/// Ends the subscription to a user's subject when it is dropped.
#[derive(Debug)]
pub struct UserSubscription {
    _guard: Guard,
}

#[derive(Debug)]
enum Guard {
    Own { _subscribed: Subscribed },
    Library(JoinHandle<()>),
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Self::Library(task) = self {
            task.abort();
        }
    }
}

impl UserSubjects {
    /// Starts the subscriptions of `bus`'s node. Returns them with a receiver of their messages. `servers` are those
    /// of [`crate::BusConfig`]. With them, all subscriptions share one connection of their own.
    #[must_use]
    pub fn start(bus: &Bus, servers: Option<&str>) -> (Self, mpsc::Receiver<UserMessage>) {
        let (tell, messages) = mpsc::channel(WAITING);
        let addresses = servers.and_then(reader::addresses);
        let way = match addresses {
            Some(addresses) => Way::Own(SubjectReader::start(addresses, bus.node(), tell)),
            None => Way::Library { bus: Box::new(bus.clone()), tell },
        };
        (Self(way), messages)
    }

    /// Subscribes to the user's subject. The server knows of it when this returns, or before anything that `bus`
    /// sends later.
    ///
    /// # Errors
    /// [`SendError`] if the connection is closed for good.
    pub async fn subscribe(&self, user: &UserId) -> Result<UserSubscription, SendError> {
        let guard = match &self.0 {
            Way::Own(reader) => Guard::Own { _subscribed: reader.subscribe(user).await },
            Way::Library { bus, tell } => {
                let messages = bus.subscribe(subject::user(user)).await?;
                Guard::Library(tokio::spawn(forward(messages, user.clone(), tell.clone())))
            }
        };
        Ok(UserSubscription { _guard: guard })
    }
}

async fn forward(mut messages: crate::Subscription, user: UserId, tell: mpsc::Sender<UserMessage>) {
    while let Some(message) = messages.next().await {
        let message = UserMessage { user: user.clone(), payload: message.payload().clone() };
        if let Err(mpsc::error::TrySendError::Closed(_)) = tell.try_send(message) {
            return;
        }
    }
}
