//! The user keys of this node in the presence bucket: which users have a session here.
//!
//! Each key has one writer, which has at most one write under way. The next write begins after the answer to the
//! last. After an unknown outcome, the present state is written again. After each reconnect, the keys of users who are
//! not here are purged: a server that was killed may have brought purged keys back.

mod plan;
mod strays;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sendpi_model::{NodeId, UserId};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use self::plan::{KeyPlan, KeyWrite};
use crate::{Bucket, Bus, Revision, subject};

/// The most writes under way at one time.
const IN_FLIGHT: usize = 256;
/// The pause before another try of a write that is not known to have been done.
const PAUSE: Duration = Duration::from_millis(200);

/// Keeps the user keys of this node. Cheap to clone.
#[derive(Clone)]
pub struct UserKeys(Arc<SharedPlan>);

struct SharedPlan {
    core: Mutex<KeyPlan>,
    news: Notify,
}

impl fmt::Debug for UserKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserKeys").finish_non_exhaustive()
    }
}

/// Resolves to the revision of a key once the server has confirmed its write. Resolves to `None` if the writer has
/// ended or the user has signed out before that.
#[derive(Debug)]
pub struct Written(oneshot::Receiver<Revision>);

impl Future for Written {
    type Output = Option<Revision>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Revision>> {
        Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}

impl UserKeys {
    /// Starts the writer for the node of `bus`. It runs until `stop` is cancelled.
    #[must_use]
    pub fn start(bus: &Bus, stop: CancellationToken) -> Self {
        let keys = Self(Arc::new(SharedPlan { core: Mutex::new(KeyPlan::default()), news: Notify::new() }));
        let writer = KeyWriter { bucket: Bucket::new(bus, subject::PRESENCE_BUCKET), node: bus.node().clone() };
        let (shared, bus) = (Arc::clone(&keys.0), bus.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = writer.run(&shared) => {}
                () = strays::run(&bus, &shared) => {}
            }
        });
        keys
    }

    /// Queues the key of a user whose first session here begins. Returns the sign-in number, and a future that waits
    /// for the key's answer.
    #[must_use]
    pub fn signed_in(&self, user: &UserId) -> (u64, Written) {
        let (tell, written) = oneshot::channel();
        let number = self.0.core().signed_in(user, tell);
        self.0.news.notify_one();
        (number, Written(written))
    }

    /// Queues another write of a signed-in user's key. Its revision is higher than those of all writes that were
    /// confirmed before the call, on whatever node.
    #[must_use]
    pub fn put_again(&self, user: &UserId) -> Written {
        let (tell, written) = oneshot::channel();
        self.0.core().put_again(user, tell);
        self.0.news.notify_one();
        Written(written)
    }

    /// Queues the purge of the key of a user whose last session here has ended.
    pub fn signed_out(&self, user: &UserId) {
        self.0.core().signed_out(user);
        self.0.news.notify_one();
    }

    /// Writes the keys of all signed-in users again and waits for all answers. It is called after NATS may have lost
    /// them, or after this node may have counted as dead.
    pub async fn put_all(&self) {
        let mut waits: FuturesUnordered<Written> = self.0.core().all_again().into_iter().map(Written).collect();
        self.0.news.notify_one();
        while waits.next().await.is_some() {}
    }

    /// Returns how many keys are not as they should be yet.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.0.core().unwritten()
    }
}

impl SharedPlan {
    fn core(&self) -> MutexGuard<'_, KeyPlan> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct KeyWriter {
    bucket: Bucket,
    node: NodeId,
}

impl KeyWriter {
    async fn run(&self, shared: &SharedPlan) {
        let mut writes = FuturesUnordered::new();
        loop {
            while writes.len() < IN_FLIGHT {
                let Some(job) = shared.core().next_job() else { break };
                writes.push(Box::pin(self.write(job)));
            }
            tokio::select! {
                () = shared.news.notified() => {}
                Some((job, written)) = writes.next() => shared.core().done(&job, written),
            }
        }
    }

    async fn write(&self, job: KeyWrite) -> (KeyWrite, Option<Revision>) {
        let key = subject::user_key(&job.user, &self.node);
        let outcome = match job.number {
            Some(number) => self.bucket.put(&key, number.to_string().into(), None, None).await,
            None => self.bucket.purge(&key).await,
        };
        if let Err(error) = &outcome {
            tracing::debug!(%error, user = %job.user, "a user key could not be written; it is tried again");
            tokio::time::sleep(PAUSE).await;
        }
        (job, outcome.ok())
    }
}
