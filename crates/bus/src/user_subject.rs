//! The subjects of this node's users: what concerns one user's devices and may be lost.

use std::fmt;

use bytes::Bytes;
use futures_util::StreamExt;
use sendpi_model::UserId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{Bus, SendError, subject};

/// Messages that wait at one time, of all users together; what comes beyond is lost, as it may be.
const WAITING: usize = 1024;

/// What was said to one user's devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserMessage {
    /// Which user.
    pub user: UserId,
    /// What was said.
    pub payload: Bytes,
}

/// Subscribes to the subjects of this node's users; cheap to clone.
#[derive(Clone)]
pub struct UserSubjects {
    bus: Bus,
    tell: mpsc::Sender<UserMessage>,
}

impl fmt::Debug for UserSubjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserSubjects").finish_non_exhaustive()
    }
}

/// Ends the subscription to a user's subject when it is dropped.
#[derive(Debug)]
pub struct UserSubscription(JoinHandle<()>);

impl Drop for UserSubscription {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl UserSubjects {
    /// The subscriptions of `bus`'s node, and what comes on them.
    #[must_use]
    pub fn start(bus: &Bus) -> (Self, mpsc::Receiver<UserMessage>) {
        let (tell, messages) = mpsc::channel(WAITING);
        (Self { bus: bus.clone(), tell }, messages)
    }

    /// Subscribes to the user's subject. The server knows of it before anything that `bus` sends later.
    ///
    /// # Errors
    /// [`SendError`] where the connection is closed for good.
    pub async fn subscribe(&self, user: &UserId) -> Result<UserSubscription, SendError> {
        let mut messages = self.bus.subscribe(subject::user(user)).await?;
        let (tell, user) = (self.tell.clone(), user.clone());
        Ok(UserSubscription(tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                let message = UserMessage { user: user.clone(), payload: message.payload().clone() };
                if let Err(mpsc::error::TrySendError::Closed(_)) = tell.try_send(message) {
                    return;
                }
            }
        })))
    }
}
