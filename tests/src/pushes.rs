//! The push jobs that Sendpi leaves for push workers.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use sendpi_bus::push_stream::{FetchedJob, fetch_jobs};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{NatsServer, within};

/// A push of one event to one user: room, seq and user.
pub type Push = (String, u64, String);

/// Fetches all push jobs, as a push worker would, and remembers which users they notify of which events.
#[derive(Debug)]
pub struct PushRecorder {
    seen: watch::Receiver<BTreeSet<Push>>,
    task: JoinHandle<()>,
}

impl PushRecorder {
    /// Starts to fetch the jobs of the Sendpi that uses `nats`. It must have started already, because it makes the
    /// push stream.
    ///
    /// # Panics
    /// If the push stream cannot be reached.
    pub async fn start(nats: &NatsServer) -> Self {
        let bus = nats.connect("test-pushes").await;
        let mut jobs = fetch_jobs(&bus).await.unwrap_or_else(|error| panic!("cannot reach the push stream: {error}"));
        let (tell, seen) = watch::channel(BTreeSet::new());
        let task = tokio::spawn(async move {
            while let Some(Ok(taken)) = jobs.next().await {
                let FetchedJob { job, .. } = &taken;
                tell.send_modify(|seen| {
                    seen.extend(job.users.iter().map(|user| (job.room.to_string(), job.seq, user.to_string())));
                });
                // If the acknowledgement fails, the job comes again, which adds nothing to the set.
                let _ = taken.done().await;
            }
        });
        Self { seen, task }
    }

    /// Waits until event `seq` of `room` has been pushed to `user`.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub async fn until(&mut self, room: &str, seq: u64, user: &str) {
        let push = (room.to_owned(), seq, user.to_owned());
        let waiting = self.seen.wait_for(|seen| seen.contains(&push));
        let seen = within(Duration::from_secs(20), &format!("a push of {push:?}"), waiting).await;
        assert!(seen.is_ok(), "the push stream broke");
    }

    /// Returns everything pushed so far.
    #[must_use]
    pub fn seen(&self) -> BTreeSet<Push> {
        self.seen.borrow().clone()
    }
}

impl Drop for PushRecorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}
