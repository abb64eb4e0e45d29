//! System events that services publish, kept by JetStream until the owner of their room has them in the store.
//!
//! A consumer delivers in the order of the stream only what was never delivered before: what was under way when a
//! reader ended would come again later, behind what followed it. So each reader begins with a consumer of its own,
//! right behind the last message up to which all are acknowledged, and then removes the one before. What comes again by
//! this is recognized in the room by its nonce.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::Stream as NatsStream;
use async_nats::jetstream::{AckKind, Message};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sendpi_model::{Millis, Partition};

use crate::{Bus, RequestError, subject};

/// The most messages of one partition that are delivered and not acknowledged.
pub const INGEST_UNDER_WAY: usize = 256;
/// After this time without an acknowledgement or a sign of progress, a message comes again.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// A message that a service published.
#[derive(Debug)]
pub struct IngestMessage {
    /// The subject behind the partition: `room.<encoded id>` or `user.<encoded id>`.
    pub target: String,
    /// The publisher's name for the message, which JetStream keeps once.
    pub id: Option<String>,
    /// The number of the message in the stream.
    pub seq: u64,
    /// When JetStream got it.
    pub published: Millis,
    message: Message,
}

impl IngestMessage {
    /// Returns what was published.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// Removes the message from what is to be delivered.
    ///
    /// # Errors
    /// [`RequestError`] if that is not known. The message may come again.
    pub async fn done(&self) -> Result<(), RequestError> {
        self.message.double_ack().await.map_err(|e| RequestError::Unknown(e.to_string()))
    }

    /// Says that the message is still being worked on. If that is lost, the message comes again.
    pub async fn is_under_way(&self) {
        if let Err(error) = self.message.ack_with(AckKind::Progress).await {
            tracing::debug!(%error, "a system event may come again");
        }
    }
}

/// Reads the messages of a partition, in order.
///
/// # Errors
/// [`RequestError`] if JetStream does not answer.
pub async fn read_ingest(
    bus: &Bus,
    partition: Partition,
) -> Result<impl Stream<Item = Result<IngestMessage, RequestError>> + Unpin + use<>, RequestError> {
    let unknown = |e: &dyn std::fmt::Display| RequestError::Unknown(e.to_string());
    let stream = bus.jetstream().get_stream(subject::INGEST_STREAM).await.map_err(|e| unknown(&e))?;
    let names = [subject::ingest_consumer(partition, false), subject::ingest_consumer(partition, true)];
    let floors = [acknowledged(&stream, &names[0]).await?, acknowledged(&stream, &names[1]).await?];
    let (old, new) = if floors[0] >= floors[1] { (&names[0], &names[1]) } else { (&names[1], &names[0]) };
    // Of an earlier reader that ended while it did the same.
    remove(&stream, new).await?;
    let config = pull::Config {
        durable_name: Some(new.clone()),
        filter_subject: subject::ingested(partition),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_ack_pending: INGEST_UNDER_WAY as i64,
        deliver_policy: match floors.into_iter().flatten().max() {
            Some(floor) => DeliverPolicy::ByStartSequence { start_sequence: floor + 1 },
            None => DeliverPolicy::All,
        },
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|e| unknown(&e))?;
    remove(&stream, old).await?;
    let messages = consumer.messages().await.map_err(|e| unknown(&e))?;
    Ok(Box::pin(messages.map(|message| message.map_err(|e| RequestError::Unknown(e.to_string())).and_then(read))))
}

/// Returns the number up to which everything is acknowledged. `None` if there is no such consumer.
async fn acknowledged(stream: &NatsStream, name: &str) -> Result<Option<u64>, RequestError> {
    match stream.consumer_info(name).await {
        Ok(info) => Ok(Some(info.ack_floor.stream_sequence)),
        Err(error) if matches!(error.kind(), ConsumerInfoErrorKind::NotFound) => Ok(None),
        Err(error) => Err(RequestError::Unknown(error.to_string())),
    }
}

async fn remove(stream: &NatsStream, name: &str) -> Result<(), RequestError> {
    match stream.delete_consumer(name).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(RequestError::Unknown(error.to_string())),
    }
}

fn is_not_found(error: &async_nats::jetstream::stream::ConsumerError) -> bool {
    use async_nats::jetstream::ErrorCode;
    use async_nats::jetstream::stream::ConsumerErrorKind;
    matches!(error.kind(), ConsumerErrorKind::JetStream(error) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND)
}

fn read(message: Message) -> Result<IngestMessage, RequestError> {
    let info = message.info().map_err(|e| RequestError::Unknown(e.to_string()))?;
    let (seq, published) = (info.stream_sequence, Millis((info.published.unix_timestamp_nanos() / 1_000_000) as u64));
    let target = message.subject.splitn(4, '.').nth(3).unwrap_or_default().to_owned();
    let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id")).map(|id| id.as_str().to_owned());
    Ok(IngestMessage { target, id, seq, published, message })
}

/// Keeps what cannot be used with the reason, for a week: a system event, or a push.
///
/// # Errors
/// [`RequestError`] if it is not known whether it is kept. Publishing it again keeps it once.
pub async fn keep_dead_letter(bus: &Bus, subject: String, id: &str, letter: Bytes) -> Result<(), RequestError> {
    let unknown = |e: &dyn std::fmt::Display| RequestError::Unknown(e.to_string());
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    let answer = bus.request_with(subject, letter, Some(headers)).await?;
    let ack: serde_json::Value = serde_json::from_slice(answer.payload()).map_err(|e| unknown(&e))?;
    ack.get("error").map_or(Ok(()), |error| Err(unknown(error)))
}
