//! The push jobs that Sendpi leaves for push workers.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use sendpi_bus::Bus;
use sendpi_bus::push_stream::{PushJob, fetch_jobs, publish_job};
use sendpi_bus::subject::PUSH_STREAM;
use sendpi_model::Partition;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{NatsServer, within};

/// Lets the push stream of `nats` keep `jobs` jobs at most.
///
/// # Panics
/// If the push stream cannot be reached.
pub async fn limit_push_stream(nats: &NatsServer, jobs: i64) {
    let bus = nats.connect("test-limits").await;
    let api = |verb: &str| format!("$JS.API.STREAM.{verb}.{PUSH_STREAM}");
    let ask = async |subject: String, payload: Bytes| -> serde_json::Value {
        let answer = bus.request(subject, payload).await.unwrap_or_else(|error| panic!("{error}"));
        serde_json::from_slice(answer.payload()).unwrap_or_else(|error| panic!("{error}"))
    };
    let mut config = ask(api("INFO"), Bytes::new()).await["config"].take();
    config["max_msgs"] = jobs.into();
    let answer = ask(api("UPDATE"), config.to_string().into()).await;
    assert_eq!(answer["config"]["max_msgs"], jobs, "{answer}");
}

/// Puts a job into the push stream of `nats`, as a channel does.
///
/// # Panics
/// If the push stream does not keep it.
pub async fn put_push_job(nats: &NatsServer, job: &PushJob) {
    let bus = nats.connect("test-jobs").await;
    publish_job(&bus, Partition(0), job).await.unwrap_or_else(|error| panic!("{error}"));
}

/// How soon the push stream is asked again when it broke off.
const AGAIN: Duration = Duration::from_millis(500);

/// A push of one event to one user: room, seq and user.
pub type Push = (String, u64, String);

/// Fetches all push jobs, as a push worker would, and remembers them.
#[derive(Debug)]
pub struct PushRecorder {
    jobs: watch::Receiver<Vec<PushJob>>,
    task: JoinHandle<()>,
}

impl PushRecorder {
    /// Starts to fetch the jobs of the Sendpi that uses `nats`. It must have started already, because it makes the
    /// push stream.
    ///
    /// # Panics
    /// If the push stream cannot be reached.
    pub async fn start(nats: &NatsServer) -> Self {
        Self::start_on(nats.connect("test-pushes").await).await
    }

    /// Starts to fetch the jobs of the Sendpi to whose NATS a connection leads. Goes on when NATS comes back.
    ///
    /// # Panics
    /// If the push stream cannot be reached.
    pub async fn start_on(bus: Bus) -> Self {
        let fetched = fetch_jobs(&bus).await.unwrap_or_else(|error| panic!("cannot reach the push stream: {error}"));
        let (tell, jobs) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            let mut fetched = Some(fetched);
            loop {
                if let Some(mut fetched) = fetched.take() {
                    while let Some(Ok(taken)) = fetched.next().await {
                        tell.send_modify(|jobs| jobs.push(taken.job));
                        // If this fails the job may come again, or not.
                        let _ = taken.receipt.done().await;
                    }
                }
                tokio::time::sleep(AGAIN).await;
                fetched = fetch_jobs(&bus).await.ok();
            }
        });
        Self { jobs, task }
    }

    /// Waits until event `seq` of `room` has been pushed to `user`.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub async fn until(&mut self, room: &str, seq: u64, user: &str) {
        let push = (room.to_owned(), seq, user.to_owned());
        let waiting = self.jobs.wait_for(|jobs| events(jobs).any(|pushed| pushed == push));
        let seen = within(Duration::from_secs(20), &format!("a push of {push:?}"), waiting).await;
        assert!(seen.is_ok(), "the push stream broke");
    }

    /// Returns the jobs so far, in the order in which they were kept.
    #[must_use]
    pub fn jobs(&self) -> Vec<PushJob> {
        self.jobs.borrow().clone()
    }

    /// Returns everything pushed so far: each event of a job's range, to each of its users.
    #[must_use]
    pub fn seen(&self) -> BTreeSet<Push> {
        events(&self.jobs.borrow()).collect()
    }
}

fn events(jobs: &[PushJob]) -> impl Iterator<Item = Push> {
    jobs.iter().flat_map(|job| {
        let users = job.users.iter();
        users.flat_map(|user| (job.first..=job.last).map(|seq| (job.room.to_string(), seq, user.to_string())))
    })
}

impl Drop for PushRecorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}
