//! Values of rows. Those of a timeline are binary and begin with a version. The others are the stamp, which
//! determines which row stays, followed by JSON.

use bytes::{Buf, BufMut, Bytes};
use sendpi_model::{Event, EventKind, Head, Millis, Nonce, UserId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::EventRow;

/// The version of the rows of timelines.
const VERSION: u8 = 1;

/// The reason why a stored row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    /// A later release wrote the row.
    #[error("the row is of version or kind {0}, which is not supported")]
    Later(u8),
    /// The row is not what the store wrote.
    #[error("the row is damaged")]
    Damaged,
}

/// Encodes an event as
/// `version u8 · count u64 · at u64 · kind u8 · from (u8 length) · nonce (u8 length, 0 for none) · frame`. Numbers
/// are little-endian. The seq and the epoch are in the key.
pub(super) fn encode_event(event: &Event) -> Vec<u8> {
    let nonce = event.nonce.as_ref().map_or("", Nonce::as_str);
    let mut bytes = Vec::with_capacity(20 + event.from.as_str().len() + nonce.len() + event.frame.len());
    bytes.put_u8(VERSION);
    bytes.put_u64_le(event.head.count);
    bytes.put_u64_le(event.head.at.0);
    bytes.put_u8(event.kind as u8);
    // Both are at most 128 bytes long, by the rules of their ids.
    for text in [event.from.as_str(), nonce] {
        bytes.put_u8(text.len() as u8);
        bytes.put_slice(text.as_bytes());
    }
    bytes.put_slice(&event.frame);
    bytes
}

pub(super) fn decode_event(seq: u64, epoch: u64, mut value: &[u8]) -> Result<EventRow, ValueError> {
    let damaged = |_| ValueError::Damaged;
    let version = value.try_get_u8().map_err(damaged)?;
    if version != VERSION {
        return Err(ValueError::Later(version));
    }
    let count = value.try_get_u64_le().map_err(damaged)?;
    let at = Millis(value.try_get_u64_le().map_err(damaged)?);
    let number = value.try_get_u8().map_err(damaged)?;
    let kind = EventKind::from_number(number).ok_or(ValueError::Later(number))?;
    let from = UserId::parse(text(&mut value)?).map_err(|_| ValueError::Damaged)?;
    let nonce = match text(&mut value)? {
        "" => None,
        nonce => Some(Nonce::parse(nonce).map_err(|_| ValueError::Damaged)?),
    };
    let frame = Bytes::copy_from_slice(value);
    Ok(EventRow { epoch, event: Event { head: Head { seq, count, at }, kind, from, nonce, frame } })
}

fn text<'a>(value: &mut &'a [u8]) -> Result<&'a str, ValueError> {
    let length = usize::from(value.try_get_u8().map_err(|_| ValueError::Damaged)?);
    let (text, rest) = value.split_at_checked(length).ok_or(ValueError::Damaged)?;
    *value = rest;
    std::str::from_utf8(text).map_err(|_| ValueError::Damaged)
}

pub(super) fn encode_json<T: Serialize>(stamp: u64, row: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = stamp.to_be_bytes().to_vec();
    serde_json::to_writer(&mut bytes, row)?;
    Ok(bytes)
}

pub(super) fn decode_json<T: DeserializeOwned>(value: &[u8]) -> Result<T, ValueError> {
    let json = value.get(8..).ok_or(ValueError::Damaged)?;
    serde_json::from_slice(json).map_err(|_| ValueError::Damaged)
}

/// Returns the stamp in front of a row.
pub(super) fn stamp(value: &[u8]) -> Option<u64> {
    value.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(nonce: Option<&str>) -> Event {
        Event {
            head: Head { seq: 7, count: 5, at: Millis(9) },
            kind: EventKind::Reaction,
            from: UserId::parse(&"ü".repeat(64)).unwrap(),
            nonce: nonce.map(|n| Nonce::parse(n).unwrap()),
            frame: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn an_event_comes_back_with_and_without_a_nonce() {
        for nonce in [None, Some("n-1")] {
            let row = decode_event(7, 3, &encode_event(&event(nonce))).unwrap();
            assert_eq!(row, EventRow { epoch: 3, event: event(nonce) });
        }
    }

    #[test]
    fn a_row_of_a_later_release_is_told_from_a_damaged_one() {
        let mut bytes = encode_event(&event(None));
        for cut in 0..20 {
            assert_eq!(decode_event(1, 1, &bytes[..cut]), Err(ValueError::Damaged));
        }
        bytes[0] = 2;
        assert_eq!(decode_event(1, 1, &bytes), Err(ValueError::Later(2)));
    }
}
