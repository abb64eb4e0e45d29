//! The push log: what became of pushes, for 72 hours.

use bytes::Bytes;
use sendpi_model::{Millis, RoomId, UserId, encode_json};
use serde::{Deserialize, Serialize};

use crate::{Bus, RequestError, subject};

/// The most entries that are kept for a user in a room.
pub const ENTRIES: i64 = 50;

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushOutcome {
    /// The webhook took it.
    Posted,
    /// The webhook did not take it yet. It is tried again.
    Waiting,
    /// The user had read it before it was posted.
    Read,
    /// The messages were deleted before it was posted.
    Deleted,
    /// The user had muted the room before it was posted.
    Muted,
    /// The user was no member any more.
    NotAMember,
    /// No webhook is configured.
    NoWebhook,
    /// The webhook did not take it, and it is tried no more. It is kept as a dead letter.
    DeadLetter,
}

/// What became of a push of a range of events to a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushLogEntry {
    /// The version of this format.
    pub v: u8,
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
    /// The seq of the first event.
    pub first: u64,
    /// The seq of the last event.
    pub last: u64,
    /// What became of it.
    pub outcome: PushOutcome,
    /// When.
    pub at: Millis,
    /// What the webhook said, or the name of the notification that it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Adds an entry. It is only told, so one that is lost is missed by nobody but who asks.
///
/// # Errors
/// [`RequestError`] if it is not known whether it is kept.
pub async fn log_push(bus: &Bus, entry: &PushLogEntry) -> Result<(), RequestError> {
    let subject = subject::push_log(&entry.room, &entry.user);
    bus.request(subject, Bytes::from(encode_json(entry))).await.map(drop)
}

/// Returns the entries of a user in a room, oldest first.
///
/// # Errors
/// [`RequestError`] if the log cannot be read.
pub async fn read_push_log(bus: &Bus, room: &RoomId, user: &UserId) -> Result<Vec<PushLogEntry>, RequestError> {
    use async_nats::jetstream::stream::RawMessageErrorKind;
    let unknown = |e: &dyn std::fmt::Display| RequestError::Unknown(e.to_string());
    let stream = bus.jetstream().get_stream(subject::PUSH_LOG_STREAM).await.map_err(|e| unknown(&e))?;
    let (subject, mut from, mut entries) = (subject::push_log(room, user), 1, Vec::new());
    while entries.len() <= ENTRIES as usize {
        match stream.get_first_raw_message_by_subject(subject.clone(), from).await {
            Ok(message) => {
                from = message.sequence + 1;
                entries.extend(serde_json::from_slice::<PushLogEntry>(&message.payload).ok());
            }
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => break,
            Err(error) => return Err(unknown(&error)),
        }
    }
    Ok(entries)
}
