//! The last values of many keys at once. What a replica answers may lag behind the bucket.

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::{Bucket, Revision, is_marker};
use crate::{NatsMessage, subject};

/// Why a batch of keys was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchMiss {
    /// Too many keys match: ask for fewer.
    TooMany,
    /// There was no answer, or the copy that answered is too old: ask again.
    Again,
}

/// The last value of each key that matched. `None` is the marker of a key that is gone.
pub(crate) type LastValues = Vec<(String, Revision, Option<Bytes>)>;

impl Bucket {
    /// Reads the last value of each key that matches one of `filters`, until `give_up` at most. This is a batched
    /// direct get, which the client's API does not have. The server matches at most 1,024 keys.
    pub(crate) async fn multi_last(&self, filters: &[String], give_up: Instant) -> Result<LastValues, BatchMiss> {
        let (bus, prefix) = (&self.bus, self.prefix());
        let subjects: Vec<String> = filters.iter().map(|filter| format!("{prefix}{filter}")).collect();
        let inbox = bus.new_inbox();
        let mut answers = bus.subscribe(inbox.clone()).await.map_err(|_| BatchMiss::Again)?;
        let request = serde_json::json!({ "multi_last": subjects, "batch": 1024 }).to_string();
        let api = subject::direct_get(&self.stream());
        bus.publish_with_reply(api, inbox, request.into()).await.map_err(|_| BatchMiss::Again)?;
        let mut keys = LastValues::new();
        let read = async {
            while let Some(answer) = answers.next().await {
                match answer.status() {
                    // The end mark of a batch, or the answer if nothing matches.
                    Some(204 | 404) => return Ok(()),
                    Some(413) => return Err(BatchMiss::TooMany),
                    Some(_) => return Err(BatchMiss::Again),
                    None => keys.extend(key_of(&answer, &prefix)),
                }
            }
            Err(BatchMiss::Again)
        };
        let deadline = give_up.min(Instant::now() + bus.timeout());
        timeout_at(deadline, read).await.unwrap_or(Err(BatchMiss::Again))?;
        Ok(keys)
    }
}

fn key_of(answer: &NatsMessage, prefix: &str) -> Option<(String, Revision, Option<Bytes>)> {
    let key = answer.header("Nats-Subject")?.strip_prefix(prefix)?.to_owned();
    let revision = answer.header("Nats-Sequence")?.parse().ok()?;
    let gone = is_marker(|name| answer.header(name).is_some());
    Some((key, revision, (!gone).then(|| answer.payload().clone())))
}
