//! Reads what owners answer, as far as this node has to know it.

use bytes::Bytes;
use sendpi_model::{Code, Mark, Refusal, RoomId};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::ws_frame;

/// When it is worth trying again, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// The answer to a request that got none.
pub(crate) fn unavailable() -> Refusal {
    Refusal::unavailable("the room could not be reached in time; it may have been done or not", RETRY_MS)
}

/// The refusal that an answer is; `None` where it is none.
pub(crate) fn refusal(answer: &[u8]) -> Option<Refusal> {
    if !answer.starts_with(br#"{"op":"error""#) {
        return None;
    }
    Some(serde_json::from_slice(answer).unwrap_or_else(|_| internal()))
}

fn internal() -> Refusal {
    Refusal::new(Code::Internal, "the answer could not be read")
}

/// Reads the fields of an answer.
///
/// # Errors
/// The refusal that it is, or `internal` where it is not of the form expected.
pub(crate) fn read<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, Refusal> {
    if let Some(refusal) = refusal(answer) {
        return Err(refusal);
    }
    serde_json::from_slice(answer).map_err(|error| {
        tracing::error!(%error, "an owner's answer cannot be read");
        internal()
    })
}

/// Seq and count of an `ok`, where it tells both.
pub(crate) fn mark(answer: &[u8]) -> Option<Mark> {
    answer.starts_with(br#"{"op":"ok""#).then(|| serde_json::from_slice(answer).ok()).flatten()
}

/// A page of a timeline, with its events as WebSocket frames.
#[derive(Debug)]
pub(crate) struct EventPage {
    pub(crate) events: Vec<(u64, Bytes)>,
    pub(crate) more: bool,
}

impl EventPage {
    /// Reads an answer to `history`.
    ///
    /// # Errors
    /// See [`read`].
    pub(crate) fn read(answer: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Frame<'a> {
            #[serde(borrow)]
            events: Vec<&'a RawValue>,
            more: bool,
        }
        #[derive(Deserialize)]
        struct Seq {
            seq: u64,
        }
        let page: Frame<'_> = read(answer)?;
        let events = page.events.iter().map(|event| {
            let seq: Seq = serde_json::from_str(event.get()).map_err(|_| internal())?;
            Ok((seq.seq, ws_frame::text(event.get().as_bytes())))
        });
        Ok(Self { events: events.collect::<Result<_, Refusal>>()?, more: page.more })
    }
}

/// Reads an answer to `heads`.
///
/// # Errors
/// See [`read`].
pub(crate) fn heads(answer: &[u8]) -> Result<Vec<(RoomId, u64)>, Refusal> {
    #[derive(Deserialize)]
    struct Heads {
        rooms: std::collections::HashMap<RoomId, u64>,
    }
    read::<Heads>(answer).map(|heads| heads.rooms.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_an_answer() {
        assert_eq!(refusal(br#"{"op":"error","code":"no_such_room","message":"m"}"#).unwrap().code, Code::NoSuchRoom);
        assert_eq!(refusal(br#"{"op":"ok"}"#), None);
        assert_eq!(mark(br#"{"op":"ok","seq":4,"count":3,"at":1}"#), Some(Mark { seq: 4, count: 3 }));
        assert_eq!(mark(br#"{"op":"error","code":"conflict","message":"m"}"#), None);
    }

    #[test]
    fn the_events_of_a_page_stay_as_they_are() {
        let page =
            EventPage::read(br#"{"op":"page","room":"r","events":[{"op":"event", "seq":3}],"more":true}"#).unwrap();
        assert_eq!((page.events[0].0, page.more), (3, true));
        assert_eq!(&page.events[0].1[2..], br#"{"op":"event", "seq":3}"#);
    }
}
