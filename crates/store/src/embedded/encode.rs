//! Rows as the engine holds them: the table, the key, the value, and which of two writes stays. Values of a timeline
//! are binary and begin with a version. The others are the stamp, which determines which row stays, followed by JSON.

use bytes::{Buf, BufMut, Bytes};
use sendpi_model::{Event, EventKind, Head, Millis, Nonce, UserId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::key::RowKey;
use super::table::Table;
use crate::{EventRow, NonceRow, Row};

/// The version of the rows of timelines as they are first written.
const VERSION: u8 = 1;
/// The version of revised rows of timelines, which have a stamp.
const REVISED: u8 = 2;
/// What the version of a row has besides if the row expires. The time follows it.
const EXPIRING: u8 = 0x80;

/// The rule for which of two writes of one key stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Either one, because they are equal. Nothing needs to be looked up.
    Either,
    /// The first write.
    First,
    /// The write with the higher stamp, or the later one if the stamps are equal.
    Higher(u64),
    /// The same, for an event. One that is not revised has no stamp.
    Revised(u64),
}

impl Keep {
    /// Returns whether a write with this rule stays that follows one with the rule `earlier` in the same group.
    pub(super) fn follows(self, earlier: Self) -> bool {
        match (self, earlier) {
            (Self::Higher(new), Self::Higher(old)) | (Self::Revised(new), Self::Revised(old)) => new >= old,
            (Self::Revised(_), Self::Either) => true,
            _ => false,
        }
    }

    /// Returns whether a write with this rule gives way to what is stored.
    pub(super) fn gives_way(self, stored: &[u8]) -> bool {
        match self {
            Self::Either => false,
            Self::First => true,
            Self::Higher(new) => stamp(stored).is_some_and(|there| there > new),
            Self::Revised(new) => revision_stamp(stored).is_some_and(|there| there > new),
        }
    }
}

/// One row, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EncodedRow {
    pub(super) table: Table,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) keep: Keep,
}

impl EncodedRow {
    pub(super) fn of(row: &Row) -> Result<Self, serde_json::Error> {
        let put = |table, key: RowKey, value, keep| Self { table, key: key.bytes(), value, keep };
        Ok(match row {
            Row::Partitions(count) => {
                put(Table::Partitions, RowKey::default().number(0), encode_json(0, count)?, Keep::First)
            }
            Row::Fence(partition, fence) => {
                let key = RowKey::of_partition(*partition).number(fence.epoch).last_id(&fence.claim);
                put(Table::Fence, key, encode_json(fence.epoch, fence)?, Keep::Either)
            }
            Row::Start(room, start) => {
                let key = RowKey::of_id(room.as_str()).number(start.epoch);
                put(Table::Starts, key, encode_json(0, start)?, Keep::First)
            }
            Row::Event(room, row) => {
                let key = RowKey::of_id(room.as_str()).number(row.event.head.seq).number(row.epoch);
                put(Table::Timeline, key, encode_event(row, None), Keep::Either)
            }
            Row::Revised(room, row, by) => {
                let key = RowKey::of_id(room.as_str()).number(row.event.head.seq).number(row.epoch);
                put(Table::Timeline, key, encode_event(row, Some(*by)), Keep::Revised(*by))
            }
            Row::Room(row) => {
                let key = RowKey::of_id(row.room.as_str());
                put(Table::Rooms, key, encode_json(row.stamp.number(), row)?, Keep::Higher(row.stamp.number()))
            }
            Row::Member(row) => {
                let key = RowKey::of_id(row.room.as_str()).id(row.user.as_str());
                put(Table::Members, key, encode_json(row.stamp.number(), row)?, Keep::Higher(row.stamp.number()))
            }
            Row::RoomOfUser(row) => {
                let key = RowKey::of_id(row.user.as_str()).id(row.room.as_str());
                put(Table::RoomsOfUser, key, encode_json(row.stamp.number(), row)?, Keep::Higher(row.stamp.number()))
            }
            Row::Order(row) => {
                let key = RowKey::of_id(row.user.as_str()).falling(row.active_at.0).last_id(row.room.as_str());
                put(Table::Order, key, Vec::new(), Keep::Either)
            }
            Row::Marker(row) => {
                let key = RowKey::of_id(row.user.as_str()).id(row.room.as_str());
                put(Table::Markers, key, encode_json(row.mark.seq, &row.mark)?, Keep::Higher(row.mark.seq))
            }
            Row::ActiveRoom(row) => {
                let key = RowKey::of_partition(row.partition).number(row.minute).last_id(row.room.as_str());
                put(Table::ActiveRooms, key, Vec::new(), Keep::Either)
            }
            Row::Settled(partition, row) => {
                let key = RowKey::of_partition(*partition).number(row.epoch);
                put(Table::Settled, key, encode_json(row.at.0, row)?, Keep::Higher(row.at.0))
            }
            Row::Pushed(row) => {
                let key = RowKey::of_id(row.room.as_str());
                put(Table::Pushed, key, encode_json(row.stamp.number(), row)?, Keep::Higher(row.stamp.number()))
            }
            Row::Revoked(row) => {
                let key = RowKey::of_id(row.user.as_str());
                put(Table::Revoked, key, encode_json(row.before.0, row)?, Keep::Higher(row.before.0))
            }
            Row::Device(row) => {
                let key = RowKey::of_id(row.user.as_str()).id(row.device.as_str());
                put(Table::Devices, key, encode_json(row.at.0, row)?, Keep::Higher(row.at.0))
            }
            Row::Deleted(row) => {
                let key = RowKey::of_partition(row.partition).last_id(row.room.as_str());
                put(Table::DeletedRooms, key, encode_json(0, row)?, Keep::First)
            }
        })
    }
}

/// The reason why a stored row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    /// A later release wrote the row.
    #[error("a later release wrote it, as version {0} of its kind of row")]
    Later(u8),
    /// The row is not what the store wrote.
    #[error("it is damaged")]
    Damaged,
}

/// Encodes an event as
/// `version u8 · count u64 · at u64 · kind u8 · from (u8 length) · nonce (u8 length, 0 for none) · frame`. Numbers
/// are little-endian. The seq and the epoch are in the key. A revised row has version 2, and behind it the stamp as
/// u64. A row that expires has 128 added to its version, and behind that (and the stamp) the time as u64.
fn encode_event(row: &EventRow, stamp: Option<u64>) -> Vec<u8> {
    let (event, expires) = (&row.event, row.expires);
    let nonce = event.nonce.as_ref().map_or("", Nonce::as_str);
    let mut bytes = Vec::with_capacity(36 + event.from.as_str().len() + nonce.len() + event.frame.len());
    let expiring = if expires.is_some() { EXPIRING } else { 0 };
    match stamp {
        Some(stamp) => {
            bytes.put_u8(REVISED | expiring);
            bytes.put_u64_le(stamp);
        }
        None => bytes.put_u8(VERSION | expiring),
    }
    if let Some(expires) = expires {
        bytes.put_u64_le(expires.0);
    }
    bytes.put_u64_le(event.head.count);
    bytes.put_u64_le(event.head.at.0);
    bytes.put_u8(event.kind.number());
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
    let expires = skip_version(&mut value)?;
    let count = value.try_get_u64_le().map_err(damaged)?;
    let at = Millis(value.try_get_u64_le().map_err(damaged)?);
    let kind = EventKind::from_number(value.try_get_u8().map_err(damaged)?);
    let from = UserId::parse(text(&mut value)?).map_err(|_| ValueError::Damaged)?;
    let nonce = match text(&mut value)? {
        "" => None,
        nonce => Some(Nonce::parse(nonce).map_err(|_| ValueError::Damaged)?),
    };
    let frame = Bytes::copy_from_slice(value);
    Ok(EventRow { epoch, event: Event { head: Head { seq, count, at }, kind, from, nonce, frame }, expires })
}

/// Reads whose event a row is, and its nonce. `None` if the event has none.
pub(super) fn decode_nonce(seq: u64, epoch: u64, mut value: &[u8]) -> Result<Option<NonceRow>, ValueError> {
    let damaged = |_| ValueError::Damaged;
    skip_version(&mut value)?;
    let count = value.try_get_u64_le().map_err(damaged)?;
    let at = Millis(value.try_get_u64_le().map_err(damaged)?);
    let _kind = value.try_get_u8().map_err(damaged)?;
    let (from, nonce) = (text(&mut value)?, text(&mut value)?);
    if nonce.is_empty() {
        return Ok(None);
    }
    let from = UserId::parse(from).map_err(|_| ValueError::Damaged)?;
    let nonce = Nonce::parse(nonce).map_err(|_| ValueError::Damaged)?;
    Ok(Some(NonceRow { epoch, head: Head { seq, count, at }, from, nonce }))
}

/// Skips the version of an event, the stamp of a revised one, and the time at which it expires, which is returned.
fn skip_version(value: &mut &[u8]) -> Result<Option<Millis>, ValueError> {
    let damaged = |_| ValueError::Damaged;
    let version = value.try_get_u8().map_err(damaged)?;
    match version & !EXPIRING {
        VERSION => {}
        REVISED => value.try_get_u64_le().map(drop).map_err(damaged)?,
        _ => return Err(ValueError::Later(version)),
    }
    if version & EXPIRING == 0 {
        return Ok(None);
    }
    Ok(Some(Millis(value.try_get_u64_le().map_err(damaged)?)))
}

/// Returns whether an event has expired at `now`. One that cannot be read has not.
pub(super) fn has_expired(mut value: &[u8], now: Millis) -> bool {
    matches!(skip_version(&mut value), Ok(Some(expires)) if expires <= now)
}

/// Returns the stamp of an event. `None` if it was never revised.
pub(super) fn revision_stamp(value: &[u8]) -> Option<u64> {
    let (version, rest) = value.split_first()?;
    rest.first_chunk().filter(|_| *version & !EXPIRING == REVISED).map(|bytes| u64::from_le_bytes(*bytes))
}

fn text<'a>(value: &mut &'a [u8]) -> Result<&'a str, ValueError> {
    let length = usize::from(value.try_get_u8().map_err(|_| ValueError::Damaged)?);
    let (text, rest) = value.split_at_checked(length).ok_or(ValueError::Damaged)?;
    *value = rest;
    std::str::from_utf8(text).map_err(|_| ValueError::Damaged)
}

fn encode_json<T: Serialize>(stamp: u64, row: &T) -> Result<Vec<u8>, serde_json::Error> {
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

    fn event(kind: EventKind, nonce: Option<&str>) -> Event {
        Event {
            head: Head { seq: 7, count: 5, at: Millis(9) },
            kind,
            from: UserId::parse(&"ü".repeat(64)).unwrap(),
            nonce: nonce.map(|n| Nonce::parse(n).unwrap()),
            frame: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn an_event_comes_back_with_and_without_a_nonce() {
        for nonce in [None, Some("n-1")] {
            let event = event(EventKind::Reaction, nonce);
            for (stamp, expires) in [(None, None), (Some(u64::MAX), None), (None, Some(9)), (Some(5), Some(9))] {
                let row = EventRow { epoch: 3, event: event.clone(), expires: expires.map(Millis) };
                let value = encode_event(&row, stamp);
                assert_eq!(decode_event(7, 3, &value), Ok(row));
                assert_eq!(revision_stamp(&value), stamp);
                let expired = [8, 9].map(|now| has_expired(&value, Millis(now)));
                assert_eq!(expired, [false, expires.is_some()]);
            }
        }
    }

    #[test]
    fn an_event_of_a_kind_of_a_later_release_passes_through() {
        let event = event(EventKind::Later(200), Some("n-1"));
        let row = EventRow { epoch: 3, event, expires: None };
        assert_eq!(decode_event(7, 3, &encode_event(&row, None)), Ok(row));
    }

    #[test]
    fn a_row_of_a_later_release_is_told_from_a_damaged_one() {
        let event = event(EventKind::Reaction, None);
        let mut bytes = encode_event(&EventRow { epoch: 1, event, expires: None }, None);
        for cut in 0..20 {
            assert_eq!(decode_event(1, 1, &bytes[..cut]), Err(ValueError::Damaged));
        }
        bytes[0] = 3;
        assert_eq!(decode_event(1, 1, &bytes), Err(ValueError::Later(3)));
    }
}
