//! A KV bucket with compare-and-set, and a time-to-live for single keys.
//!
//! This module sends raw requests to the bucket's stream. The client's own `update` loses the time-to-live, and its
//! errors do not distinguish a refusal from an unknown outcome.

mod batch;
mod watch;

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;

use crate::{Bus, RequestError, subject};

pub(crate) use self::batch::{BatchMiss, LastValues};
pub(crate) use self::watch::{WatchedKey, watch};

/// The sequence of a write in the bucket's stream.
pub type Revision = u64;

/// Why a write is not known to be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// The key has another revision than the expected one.
    #[error("the key has another revision")]
    WrongRevision,
    /// The server refused the write for another reason.
    #[error("refused: {0}")]
    Refused(String),
    /// The write may have been done.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// The present state of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// The revision of its last write.
    pub revision: Revision,
    /// Its value. `None` if the key was deleted and a marker is left.
    pub value: Option<Bytes>,
}

/// One KV bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    bus: Bus,
    name: &'static str,
}

/// The server's error code for a wrong last sequence.
const WRONG_LAST_SEQUENCE: u64 = 10071;

/// Returns whether a message with these headers is the marker of a key that is gone.
fn is_marker(has_header: impl Fn(&str) -> bool) -> bool {
    ["KV-Operation", "Nats-Marker-Reason"].into_iter().any(has_header)
}

impl Bucket {
    /// Returns the bucket `name`, reached through `bus`.
    #[must_use]
    pub fn new(bus: &Bus, name: &'static str) -> Self {
        Self { bus: bus.clone(), name }
    }

    /// Returns the connection through which the bucket is reached.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Writes `value` if the key's revision is `expected`. The key expires after `ttl`.
    ///
    /// An `expected` of 0 means that the key does not exist, or that only a marker of it is left. `None` means any
    /// revision.
    ///
    /// # Errors
    /// [`PutError`] distinguishes a refusal from an unknown outcome.
    pub async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: Option<Revision>,
        ttl: Option<Duration>,
    ) -> Result<Revision, PutError> {
        let mut headers = HeaderMap::new();
        if let Some(revision) = expected {
            headers.insert("Nats-Expected-Last-Subject-Sequence", revision.to_string());
        }
        if let Some(ttl) = ttl {
            headers.insert("Nats-TTL", format!("{}s", ttl.as_secs().max(1)));
        }
        self.publish(key, value, headers).await
    }

    /// Purges a key. Its marker expires after 10 s. A plain delete would leave a marker for ever.
    ///
    /// # Errors
    /// [`PutError`] distinguishes a refusal from an unknown outcome.
    pub async fn purge(&self, key: &str) -> Result<Revision, PutError> {
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "PURGE");
        headers.insert("Nats-Rollup", "sub");
        headers.insert("Nats-TTL", "10s");
        self.publish(key, Bytes::new(), headers).await
    }

    async fn publish(&self, key: &str, value: Bytes, headers: HeaderMap) -> Result<Revision, PutError> {
        #[derive(Deserialize)]
        struct Ack {
            seq: Option<u64>,
            error: Option<ApiError>,
        }
        #[derive(Deserialize)]
        struct ApiError {
            err_code: u64,
            description: String,
        }
        let to = format!("{}{key}", self.prefix());
        let answer = match self.bus.request_with(to, value, Some(headers)).await {
            Ok(answer) => answer,
            // The stream may be changing its leader: nobody listens for a moment, and nothing was written.
            Err(RequestError::NoResponders) => return Err(PutError::Unknown("no responders".to_owned())),
            Err(RequestError::Unknown(why)) => return Err(PutError::Unknown(why)),
        };
        let ack: Ack = serde_json::from_slice(answer.payload()).map_err(|e| PutError::Unknown(e.to_string()))?;
        match ack {
            Ack { error: Some(error), .. } if error.err_code == WRONG_LAST_SEQUENCE => Err(PutError::WrongRevision),
            // Error 10164: another write of the key was under way, and its outcome decides.
            Ack { error: Some(error), .. } if error.err_code == 10164 => Err(PutError::Unknown(error.description)),
            Ack { error: Some(error), .. } => Err(PutError::Refused(error.description)),
            Ack { seq: Some(seq), .. } => Ok(seq),
            Ack { .. } => Err(PutError::Unknown("an answer without a sequence".to_owned())),
        }
    }

    /// Returns the present state of a key, as the stream's leader has it. `None` if there is no trace of the key.
    ///
    /// # Errors
    /// [`RequestError`] if the leader did not answer.
    pub async fn read(&self, key: &str) -> Result<Option<KeyEntry>, RequestError> {
        use async_nats::jetstream::stream::LastRawMessageErrorKind;
        let stream = self
            .bus
            .jetstream()
            .get_stream_no_info(self.stream())
            .await
            .map_err(|e| RequestError::Unknown(e.to_string()))?;
        match stream.get_last_raw_message_by_subject(&format!("{}{key}", self.prefix())).await {
            Ok(message) => {
                // The last is the answer to a direct get, which somebody had sent to this subject; see `rights`.
                let gone = is_marker(|name| message.headers.get(name).is_some())
                    || message.headers.get("Nats-Stream").is_some();
                Ok(Some(KeyEntry { revision: message.sequence, value: (!gone).then_some(message.payload) }))
            }
            Err(e) if e.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(e) => Err(RequestError::Unknown(e.to_string())),
        }
    }

    /// Returns the keys that match `filter`, those that left only a marker too, as the stream's leader has them.
    ///
    /// # Errors
    /// [`RequestError`] if the leader did not answer.
    pub(crate) async fn keys(&self, filter: &str) -> Result<Vec<String>, RequestError> {
        use futures_util::TryStreamExt;
        let unknown = |e: &dyn std::fmt::Display| RequestError::Unknown(e.to_string());
        let stream = self.bus.jetstream().get_stream_no_info(self.stream()).await.map_err(|e| unknown(&e))?;
        let prefix = self.prefix();
        let subjects = stream.info_with_subjects(format!("{prefix}{filter}")).await.map_err(|e| unknown(&e))?;
        let subjects: Vec<String> =
            subjects.map_ok(|(subject, _)| subject).try_collect().await.map_err(|e| unknown(&e))?;
        Ok(subjects.iter().filter_map(|subject| subject.strip_prefix(&prefix)).map(str::to_owned).collect())
    }

    /// Returns the name of the bucket's stream.
    pub(crate) fn stream(&self) -> String {
        subject::bucket_stream(self.name)
    }

    /// Returns the prefix of every key in the bucket's subjects.
    pub(crate) fn prefix(&self) -> String {
        subject::bucket_prefix(self.name)
    }
}
