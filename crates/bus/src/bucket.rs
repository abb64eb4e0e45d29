//! A KV bucket with compare-and-set, and time-to-live for single keys.
//!
//! Raw requests to the bucket's stream: the client's own `update` loses the time-to-live, and its errors do not tell a refusal from an
//! unknown outcome.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;

use crate::{Bus, RequestError, subject};

/// The place of a write in the bucket's stream.
pub type Revision = u64;

/// Why a write is not known to be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// The key has another revision than the one expected.
    #[error("the key has another revision")]
    WrongRevision,
    /// The server refused it for another reason.
    #[error("refused: {0}")]
    Refused(String),
    /// It may have been done.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// A key's present value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// Its revision.
    pub revision: Revision,
    /// Its value; `None` where the key was deleted and a marker tells so.
    pub value: Option<Bytes>,
}

/// One KV bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    bus: Bus,
    name: &'static str,
}

/// The server's error for a wrong last sequence.
const WRONG_LAST_SEQUENCE: u64 = 10071;

impl Bucket {
    /// The bucket `name`, reached through `bus`.
    #[must_use]
    pub fn new(bus: &Bus, name: &'static str) -> Self {
        Self { bus: bus.clone(), name }
    }

    /// The connection that it is reached through.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Writes `value`, if the key's revision is `expected` (0: there is no key, or only the trace of one; `None`: whatever it is), to be gone
    /// after `ttl`.
    ///
    /// # Errors
    /// [`PutError`] tells a refusal from an unknown outcome.
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

    /// Takes a key away. Its marker is gone after 10 s; a plain delete would leave one for ever.
    ///
    /// # Errors
    /// [`PutError`] tells a refusal from an unknown outcome.
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
            // The stream's leader may be changing hands: nobody listens for a moment, and nothing was written.
            Err(RequestError::NoResponders) => return Err(PutError::Unknown("no responders".to_owned())),
            Err(RequestError::Unknown(why)) => return Err(PutError::Unknown(why)),
        };
        let ack: Ack = serde_json::from_slice(answer.payload()).map_err(|e| PutError::Unknown(e.to_string()))?;
        match ack {
            Ack { error: Some(error), .. } if error.err_code == WRONG_LAST_SEQUENCE => Err(PutError::WrongRevision),
            // 10164: another write of the key was under way, whose outcome decides.
            Ack { error: Some(error), .. } if error.err_code == 10164 => Err(PutError::Unknown(error.description)),
            Ack { error: Some(error), .. } => Err(PutError::Refused(error.description)),
            Ack { seq: Some(seq), .. } => Ok(seq),
            Ack { .. } => Err(PutError::Unknown("an answer without a sequence".to_owned())),
        }
    }

    /// The present state of a key, as the stream's leader has it; `None` where there is no trace of it.
    ///
    /// # Errors
    /// [`RequestError`] where the leader did not answer.
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
                let gone = message.headers.get("KV-Operation").is_some()
                    || message.headers.get("Nats-Marker-Reason").is_some();
                Ok(Some(KeyEntry { revision: message.sequence, value: (!gone).then_some(message.payload) }))
            }
            Err(e) if e.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(e) => Err(RequestError::Unknown(e.to_string())),
        }
    }

    /// The name of the bucket's stream.
    pub(crate) fn stream(&self) -> String {
        subject::bucket_stream(self.name)
    }

    /// What stands before a key in the bucket's subjects.
    pub(crate) fn prefix(&self) -> String {
        subject::bucket_prefix(self.name)
    }
}
