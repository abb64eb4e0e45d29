//! Push jobs, which the channel tier leaves for push workers in a work queue.

use async_nats::HeaderMap;
use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sendpi_model::subject_token::encode;
use sendpi_model::{Millis, Partition, RoomId, UserId, fnv1a_64};
use serde::{Deserialize, Serialize};

use crate::{Bus, RequestError, subject};

/// The most users of one job.
pub const JOB_USERS: usize = 500;

/// A range of a room's events and up to [`JOB_USERS`] users who want a push for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PushJob {
    /// The version of this format.
    pub v: u8,
    /// The room.
    pub room: RoomId,
    /// The seq of the first event.
    pub first: u64,
    /// The seq of the last event.
    pub last: u64,
    /// How many events of the range each of the users wants.
    pub count: u64,
    /// The users who want the push.
    pub users: Vec<UserId>,
    /// The newest event that they want, as the client's frame.
    #[serde(with = "frame")]
    pub newest: Bytes,
}

impl PushJob {
    /// Returns what names the job in the queue, which keeps a job of the same name once within its duplicate window.
    /// It follows from the room, the range and the users.
    #[must_use]
    pub fn id(&self) -> String {
        let users = self.users.iter().flat_map(|user| user.as_str().bytes().chain([0]));
        let hash = fnv1a_64(users);
        format!("{}.{}-{}.{}.{hash:016x}", encode(self.room.as_str()), self.first, self.last, self.count)
    }
}

/// A frame, which is JSON already, as a field of a job.
mod frame {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::value::RawValue;

    pub(super) fn serialize<S: Serializer>(frame: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_slice(frame).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(String::from(Box::<str>::from(raw)).into())
    }
}

/// Puts a job into the work queue. Returns once the queue keeps it.
///
/// # Errors
/// [`RequestError`] if that is not known, or if the queue is full. Publish the job again, as it is.
pub async fn publish_job(bus: &Bus, partition: Partition, job: &PushJob) -> Result<(), RequestError> {
    let unknown = |e: &dyn std::fmt::Display| RequestError::Unknown(e.to_string());
    let payload = serde_json::to_vec(job).map_err(|e| unknown(&e))?;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", job.id().as_str());
    let answer = bus.request_with(subject::push(partition), Bytes::from(payload), Some(headers)).await?;
    let ack: serde_json::Value = serde_json::from_slice(answer.payload()).map_err(|e| unknown(&e))?;
    match ack.get("error") {
        Some(error) => Err(unknown(error)),
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

/// After this time without a word about a job, it comes again.
pub const ACK_WAIT: std::time::Duration = std::time::Duration::from_secs(15);
/// The most jobs that are fetched and not done, of all push workers together.
pub const JOBS_UNDER_WAY: usize = 10_000;

/// A job that was fetched from the work queue.
#[derive(Debug)]
pub struct FetchedJob {
    /// The job.
    pub job: PushJob,
    /// Its place in the queue.
    pub place: JobPlace,
    /// How often it was fetched, this time included.
    pub deliveries: u64,
    /// How it is acknowledged.
    pub receipt: JobReceipt,
}

/// What stays the same of a job however often it is fetched, and is no other job's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobPlace {
    /// When the job was published.
    pub published: Millis,
    /// Its number in the queue, which begins anew if the queue is made anew.
    pub seq: u64,
}

/// The receipt of a job that was fetched. The job comes again unless it is acknowledged.
#[derive(Debug)]
pub struct JobReceipt(async_nats::jetstream::Message);

impl JobReceipt {
    /// Removes the job from the queue for good.
    ///
    /// # Errors
    /// [`RequestError`] if that is not known. The job may come again.
    pub async fn done(&self) -> Result<(), RequestError> {
        self.0.double_ack().await.map_err(|e| RequestError::Unknown(e.to_string()))
    }

    /// Says that the job is still being worked on. If that is lost, the job comes again.
    pub async fn is_under_way(&self) {
        self.say(AckKind::Progress).await;
    }

    /// Gives the job back to the queue, for the next worker to fetch.
    pub async fn give_back(&self) {
        self.say(AckKind::Nak(None)).await;
    }

    async fn say(&self, word: AckKind) {
        if let Err(error) = self.0.ack_with(word).await {
            tracing::debug!(%error, "a push job may come again");
        }
    }
}

impl FetchedJob {
    fn new(job: PushJob, mut message: async_nats::jetstream::Message) -> Result<Self, RequestError> {
        let info = message.info().map_err(|error| RequestError::Unknown(error.to_string()))?;
        let published = u64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
        let place = JobPlace { published: Millis(published), seq: info.stream_sequence };
        let deliveries = u64::try_from(info.delivered).unwrap_or(1);
        // Nothing but the address of the receipt is needed of it, and receipts are kept for long.
        message.message.payload = Bytes::new();
        Ok(Self { job, place, deliveries, receipt: JobReceipt(message) })
    }
}

/// Returns the consumer that all push workers share, which is made if it is missing.
pub(crate) async fn push_consumer(bus: &Bus) -> Result<PullConsumer, RequestError> {
    let unknown = |e: &dyn std::fmt::Display| RequestError::Unknown(e.to_string());
    let stream = bus.jetstream().get_stream(subject::PUSH_STREAM).await.map_err(|e| unknown(&e))?;
    let config = pull::Config {
        durable_name: Some(subject::PUSH_CONSUMER.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_ack_pending: JOBS_UNDER_WAY as i64,
        ..pull::Config::default()
    };
    stream.get_or_create_consumer(subject::PUSH_CONSUMER, config).await.map_err(|e| unknown(&e))
}

/// Fetches the jobs of the work queue, which all push workers share. A job that cannot be read is dropped and logged.
///
/// # Errors
/// [`RequestError`] if the queue cannot be reached.
pub async fn fetch_jobs(
    bus: &Bus,
) -> Result<impl Stream<Item = Result<FetchedJob, RequestError>> + Unpin + use<>, RequestError> {
    let unknown = |e: &dyn std::fmt::Display| RequestError::Unknown(e.to_string());
    let consumer = push_consumer(bus).await?;
    let messages = consumer.messages().await.map_err(|e| unknown(&e))?;
    Ok(Box::pin(messages.filter_map(|message| async {
        let message = match message {
            Ok(message) => message,
            Err(error) => return Some(Err(RequestError::Unknown(error.to_string()))),
        };
        match serde_json::from_slice(&message.payload) {
            Ok(job) => Some(FetchedJob::new(job, message)),
            Err(error) => {
                tracing::error!(%error, subject = %message.subject, "a push job cannot be read and is dropped");
                let dropped = message.ack_with(AckKind::Term).await;
                dropped.err().map(|error| Err(RequestError::Unknown(error.to_string())))
            }
        }
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(room: &str, users: &[&str]) -> PushJob {
        PushJob {
            v: 2,
            room: RoomId::parse(room).unwrap(),
            first: 3,
            last: 9,
            count: 4,
            users: users.iter().map(|user| UserId::parse(user).unwrap()).collect(),
            newest: Bytes::from_static(br#"{"op":"event", "seq":9}"#),
        }
    }

    #[test]
    fn a_job_comes_back_with_its_frame_as_it_was() {
        let job = job("r", &["ann"]);
        let text = serde_json::to_string(&job).unwrap();
        assert!(text.ends_with(r#""newest":{"op":"event", "seq":9}}"#), "{text}");
        assert_eq!(serde_json::from_str::<PushJob>(&text).unwrap(), job);
    }

    #[test]
    fn its_name_follows_from_the_room_the_range_and_the_users() {
        assert_eq!(job("a.b", &["ann"]).id(), "a=2Eb.3-9.4.96bca983b55a6ca8");
        let others = [job("a", &["ann"]), job("a.b", &["an", "n"]), PushJob { last: 8, ..job("a.b", &["ann"]) }];
        assert!(others.iter().all(|other| other.id() != job("a.b", &["ann"]).id()));
    }
}
