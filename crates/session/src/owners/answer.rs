//! Reads the owners' answers, as far as this node has to understand them.

use bytes::Bytes;
use sendpi_model::server_frame::{AnswerError, EventPage, OkAnswer, OpFrame, read_answer};
use sendpi_model::{Code, Refusal, RoomInfo};
use serde::Deserialize;

use crate::client::ws_frame;

/// The time after which a client may retry, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// Returns the refusal for a request that got no answer.
pub(crate) fn unavailable() -> Refusal {
    Refusal::unavailable("the room could not be reached in time; it may have been done or not", RETRY_MS)
}

/// Reads an answer.
///
/// # Errors
/// Returns the refusal if the answer is one, or `internal` if the answer is not of the expected op.
pub(crate) fn read<'a, T: OpFrame + Deserialize<'a>>(answer: &'a [u8]) -> Result<T, Refusal> {
    read_answer(answer).map_err(|error| match error {
        AnswerError::Refused(refusal) => refusal,
        AnswerError::Malformed(error) => malformed(&error),
    })
}

fn malformed(error: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(%error, "an owner's answer is unreadable");
    Refusal::new(Code::Internal, "the answer could not be read")
}

/// Returns whether a refusal says that the user is not in the room.
pub(crate) fn is_not_a_member(refusal: &Refusal) -> bool {
    matches!(refusal.code, Code::NoSuchRoom | Code::NotAMember | Code::Forbidden)
}

/// A room as its owner describes it to a member.
#[derive(Debug)]
pub(crate) struct RoomAnswer {
    pub(crate) info: RoomInfo,
    /// Whether the room's channel is active.
    pub(crate) live: bool,
}

impl RoomAnswer {
    /// Reads an answer to `attach` or `peek`.
    ///
    /// # Errors
    /// See [`read`].
    pub(crate) fn read(answer: &[u8]) -> Result<Self, Refusal> {
        match read(answer)? {
            OkAnswer { info: Some(info), live, .. } => Ok(Self { info, live }),
            _ => Err(malformed(&"the answer holds no room info")),
        }
    }
}

/// A page of a timeline, its events encoded as WebSocket frames.
#[derive(Debug)]
pub(crate) struct HistoryPage {
    /// The events with their seqs, oldest first.
    pub(crate) events: Vec<(u64, Bytes)>,
    /// Whether the timeline goes on after this page.
    pub(crate) more: bool,
}

impl HistoryPage {
    /// Reads an answer to `history`.
    ///
    /// # Errors
    /// See [`read`].
    pub(crate) fn read(answer: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct EventSeq {
            seq: u64,
        }
        let page: EventPage<'_> = read(answer)?;
        let events = page.events.iter().map(|event| {
            let EventSeq { seq } = serde_json::from_str(event.get()).map_err(|error| malformed(&error))?;
            Ok((seq, ws_frame::text(event.get().as_bytes())))
        });
        Ok(Self { events: events.collect::<Result<_, Refusal>>()?, more: page.more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_an_answer() {
        let refused = read::<OkAnswer>(br#"{"op":"error","code":"no_such_room","message":"m"}"#);
        assert_eq!(refused.unwrap_err().code, Code::NoSuchRoom);
        assert_eq!(read::<OkAnswer>(br#"{"op":"page"}"#).unwrap_err().code, Code::Internal);
        assert_eq!(RoomAnswer::read(br#"{"op":"ok","seq":1}"#).unwrap_err().code, Code::Internal);
    }

    #[test]
    fn the_events_of_a_page_stay_as_they_are() {
        let page =
            HistoryPage::read(br#"{"op":"page","room":"r","events":[{"op":"event", "seq":3}],"more":true}"#).unwrap();
        assert_eq!((page.events[0].0, page.more), (3, true));
        assert_eq!(&page.events[0].1[2..], br#"{"op":"event", "seq":3}"#);
    }
}
