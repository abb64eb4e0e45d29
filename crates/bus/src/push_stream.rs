//! Push jobs, which the channel tier leaves for push workers in a work queue.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sendpi_model::{Partition, RoomId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Bus, RequestError, subject};

/// The most users of one job.
pub const JOB_USERS: usize = 500;

/// One event and up to [`JOB_USERS`] users who want a push for it. The same job may come more than once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PushJob {
    /// The version of this format.
    pub v: u8,
    /// The room.
    pub room: RoomId,
    /// The event's seq.
    pub seq: u64,
    /// The users who want the push.
    pub users: Vec<UserId>,
    /// The event, as the client's frame.
    pub event: Box<RawValue>,
}

/// Puts a job into the work queue. Returns once the queue keeps it.
///
/// # Errors
/// [`RequestError`] if that is not known. Publish the job again.
pub async fn publish_job(bus: &Bus, partition: Partition, job: &PushJob) -> Result<(), RequestError> {
    let payload = serde_json::to_vec(job).map_err(|e| RequestError::Unknown(e.to_string()))?;
    let answer = bus.request(subject::push(partition), Bytes::from(payload)).await?;
    let ack: serde_json::Value =
        serde_json::from_slice(answer.payload()).map_err(|e| RequestError::Unknown(e.to_string()))?;
    match ack.get("error") {
        Some(error) => Err(RequestError::Unknown(error.to_string())),
        None => Ok(()),
    }
}

/// Returns how many jobs are in the work queue.
///
/// # Errors
/// [`RequestError`] if the queue cannot be reached.
pub async fn count_jobs(bus: &Bus) -> Result<u64, RequestError> {
    let stream = bus.jetstream().get_stream(subject::PUSH_STREAM).await;
    Ok(stream.map_err(|e| RequestError::Unknown(e.to_string()))?.cached_info().state.messages)
}

/// The consumer that all push workers share.
const CONSUMER: &str = "push-workers";

/// A job that was fetched from the work queue. It comes again unless it is acknowledged.
#[derive(Debug)]
pub struct FetchedJob {
    /// The job.
    pub job: PushJob,
    message: async_nats::jetstream::Message,
}

impl FetchedJob {
    /// Removes the job from the queue for good.
    ///
    /// # Errors
    /// [`RequestError`] if that is not known. The job may come again.
    pub async fn done(&self) -> Result<(), RequestError> {
        self.message.double_ack().await.map_err(|e| RequestError::Unknown(e.to_string()))
    }
}

/// Fetches the jobs of the work queue, which all push workers share. A job that cannot be read is dropped and logged.
///
/// # Errors
/// [`RequestError`] if the queue cannot be reached.
pub async fn fetch_jobs(
    bus: &Bus,
) -> Result<impl Stream<Item = Result<FetchedJob, RequestError>> + Unpin + use<>, RequestError> {
    use async_nats::jetstream::consumer::{AckPolicy, pull};
    let unknown = |e: &dyn std::fmt::Display| RequestError::Unknown(e.to_string());
    let stream = bus.jetstream().get_stream(subject::PUSH_STREAM).await.map_err(|e| unknown(&e))?;
    let config = pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ..pull::Config::default()
    };
    let consumer = stream.get_or_create_consumer(CONSUMER, config).await.map_err(|e| unknown(&e))?;
    let messages = consumer.messages().await.map_err(|e| unknown(&e))?;
    Ok(Box::pin(messages.filter_map(|message| async {
        let message = match message {
            Ok(message) => message,
            Err(error) => return Some(Err(RequestError::Unknown(error.to_string()))),
        };
        match serde_json::from_slice(&message.payload) {
            Ok(job) => Some(Ok(FetchedJob { job, message })),
            Err(error) => {
                tracing::error!(%error, subject = %message.subject, "a push job cannot be read and is dropped");
                let dropped = message.ack_with(async_nats::jetstream::AckKind::Term).await;
                dropped.err().map(|error| Err(RequestError::Unknown(error.to_string())))
            }
        }
    })))
}
