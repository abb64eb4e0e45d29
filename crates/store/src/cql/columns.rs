//! Rows as the tables hold them.

use std::time::Duration;

use bytes::Bytes;
use scylla::value::CqlValue;
use sendpi_model::{Event, EventKind, Head, Mark, Millis, Nonce, Role, RoomId, UserId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::active_hours::hour;
use super::statements::{Write, bucket};
use crate::{EventRow, NonceRow, ReadError, RoomOfUser, Row, Stamp};

/// The most seconds that a row may have left, by the rule of CQL: 20 years.
const MAX_TTL: i32 = 630_720_000;
/// The timestamp of rows that never change.
const UNCHANGING: u64 = 1;

/// A row with the values of its statement. Rows with the same partition may be written in one batch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BoundRow {
    pub(super) write: Write,
    /// The partition, as a text that no other partition of the table has.
    pub(super) partition: String,
    pub(super) values: Vec<CqlValue>,
    /// About how many bytes it has.
    pub(super) bytes: usize,
}

pub(super) fn number(value: u64) -> CqlValue {
    // Seqs, epochs and times stay far below 2⁶³.
    CqlValue::BigInt(value as i64)
}

pub(super) fn text(value: &str) -> CqlValue {
    CqlValue::Text(value.to_owned())
}

pub(super) fn partition_number(partition: sendpi_model::Partition) -> CqlValue {
    CqlValue::Int(i32::from(partition.0))
}

fn json<T: Serialize>(row: &T) -> Result<CqlValue, serde_json::Error> {
    serde_json::to_string(row).map(CqlValue::Text)
}

/// Returns the timestamp of a row that never changes and expires, by which its table is compacted. ScyllaDB refuses one
/// that is days ahead of its clock (`restrict_future_timestamp`), and the owner's clock may be.
fn micros(at: Millis) -> u64 {
    at.min(Millis::now()).0 * 1_000
}

/// Returns the name of a role, or '' for none.
fn role_text(role: Option<Role>) -> &'static str {
    match role {
        None => "",
        Some(Role::Member) => "member",
        Some(Role::Admin) => "admin",
        Some(Role::Owner) => "owner",
    }
}

/// Returns the role of this name. `None` is no member.
pub(super) fn role_of(text: &str) -> Result<Option<Role>, ReadError> {
    match text {
        "" => Ok(None),
        "member" => Ok(Some(Role::Member)),
        "admin" => Ok(Some(Role::Admin)),
        "owner" => Ok(Some(Role::Owner)),
        other => Err(ReadError(format!("a later release wrote the role {other}"))),
    }
}

impl BoundRow {
    /// Binds a row to its statement.
    pub(super) fn of(row: &Row) -> Result<Self, serde_json::Error> {
        let bind = |write, partition: String, mut values: Vec<CqlValue>, timestamp: u64| {
            let bytes = values.iter().map(size).sum();
            values.push(number(timestamp));
            Self { write, partition, values, bytes }
        };
        Ok(match row {
            Row::Partitions(count) => {
                bind(Write::Meta, "partitions".into(), vec![text("partitions"), text(&count.to_string())], UNCHANGING)
            }
            Row::Fence(partition, fence) => {
                let values = vec![partition_number(*partition), number(fence.epoch), text(&fence.claim)];
                bind(Write::Fence, partition.to_string(), values, fence.epoch)
            }
            Row::Start(room, start) => {
                let continues = number(start.continues.unwrap_or(0));
                let values = vec![text(room.as_str()), number(start.epoch), number(start.next_seq), continues];
                bind(Write::Start, room.to_string(), values, UNCHANGING)
            }
            Row::Event(room, row) => bind_event(room, row, UNCHANGING),
            Row::Revised(room, row, by) => bind_event(room, row, Stamp::of(*by).number()),
            Row::Room(row) => {
                let values = vec![text(row.room.as_str()), json(row)?];
                bind(Write::Room, row.room.to_string(), values, row.stamp.number())
            }
            Row::Member(row) => {
                let values = vec![text(row.room.as_str()), text(row.user.as_str()), json(row)?];
                bind(Write::Member, row.room.to_string(), values, row.stamp.number())
            }
            Row::RoomOfUser(row) => {
                let values = vec![
                    text(row.user.as_str()),
                    text(row.room.as_str()),
                    text(role_text(row.role)),
                    number(row.joined.seq),
                    number(row.joined.count),
                    number(row.active_at.0),
                ];
                bind(Write::RoomOfUser, row.user.to_string(), values, row.stamp.number())
            }
            Row::Order(row) => {
                let values = vec![text(row.user.as_str()), number(row.active_at.0), text(row.room.as_str())];
                bind(Write::Order, row.user.to_string(), values, micros(row.active_at))
            }
            Row::Marker(row) => {
                let (user, room) = (text(row.user.as_str()), text(row.room.as_str()));
                let values = vec![user, room, number(row.mark.seq), number(row.mark.count)];
                bind(Write::Marker, row.user.to_string(), values, row.mark.seq)
            }
            Row::ActiveRoom(row) => {
                let hour = hour(row.minute);
                let partition = partition_number(row.partition);
                let values = vec![partition, number(hour), number(row.minute), text(row.room.as_str())];
                bind(
                    Write::ActiveRoom,
                    format!("{}/{hour}", row.partition),
                    values,
                    micros(Millis(row.minute * 60_000)),
                )
            }
            Row::Settled(partition, row) => {
                let values = vec![partition_number(*partition), number(row.epoch), number(row.at.0)];
                bind(Write::Settled, partition.to_string(), values, row.at.0)
            }
            Row::Pushed(row) => {
                let values = vec![text(row.room.as_str()), json(row)?];
                bind(Write::Pushed, row.room.to_string(), values, row.stamp.number())
            }
            Row::Revoked(row) => {
                let values = vec![text(row.user.as_str()), number(row.before.0)];
                bind(Write::Revoked, row.user.to_string(), values, row.before.0)
            }
            Row::Device(row) => {
                let values = vec![text(row.user.as_str()), text(row.device.as_str()), json(row)?];
                bind(Write::Device, row.user.to_string(), values, row.at.0)
            }
            Row::Deleted(row) => {
                let values = vec![partition_number(row.partition), text(row.room.as_str()), number(row.at.0)];
                bind(Write::DeletedRoom, row.partition.to_string(), values, UNCHANGING)
            }
        })
    }
}

/// Returns the values of the row of `active_hours` that must be there before a row of `active_rooms`.
pub(super) fn hour_values(partition: sendpi_model::Partition, hour: u64) -> Vec<CqlValue> {
    vec![partition_number(partition), number(hour), number(UNCHANGING)]
}

fn bind_event(room: &RoomId, row: &EventRow, timestamp: u64) -> BoundRow {
    let EventRow { epoch, event: Event { head, kind, from, nonce, frame }, expires } = row;
    let bucket = bucket(head.seq);
    let values = vec![
        text(room.as_str()),
        number(bucket),
        number(head.seq),
        number(*epoch),
        number(head.count),
        number(head.at.0),
        CqlValue::SmallInt(i16::from(kind.number())),
        text(from.as_str()),
        text(nonce.as_ref().map_or("", Nonce::as_str)),
        CqlValue::Blob(frame.to_vec()),
        number(timestamp),
        time_to_live(*expires, Millis::now()),
    ];
    let bytes = values.iter().map(size).sum();
    BoundRow { write: Write::Event, partition: format!("{room}/{bucket}"), values, bytes }
}

/// Returns in how many seconds a row expires. 0 is never. It is not too early, although the database counts whole
/// seconds. One whose time is over expires in a second.
fn time_to_live(expires: Option<Millis>, now: Millis) -> CqlValue {
    let left = |expires: Millis| expires.since(now).as_millis().div_ceil(1_000) as u64 + 1;
    let seconds = expires.map_or(0, left);
    CqlValue::Int(i32::try_from(seconds).unwrap_or(i32::MAX).min(MAX_TTL))
}

/// Returns about how many bytes a value has.
fn size(value: &CqlValue) -> usize {
    match value {
        CqlValue::Text(text) => text.len(),
        CqlValue::Blob(bytes) => bytes.len(),
        _ => 8,
    }
}

/// The columns of an event: seq, epoch, count, at, kind, sender, nonce, frame, and the seconds that it has left.
pub(super) type EventColumns = (i64, i64, i64, i64, i16, String, String, Vec<u8>, Option<i32>);

/// Reads an event.
pub(super) fn event_row(columns: EventColumns) -> Result<EventRow, ReadError> {
    let (seq, epoch, count, at, kind, from, nonce, frame, left) = columns;
    let event = Event {
        head: Head { seq: seq as u64, count: count as u64, at: Millis(at as u64) },
        kind: EventKind::from_number(u8::try_from(kind).map_err(|_| damaged("timeline", &seq))?),
        from: UserId::parse(&from).map_err(|_| damaged("timeline", &seq))?,
        nonce: nonce_of(&nonce).map_err(|_| damaged("timeline", &seq))?,
        frame: Bytes::from(frame),
    };
    let expires = left.map(|left| Millis::now().after(Duration::from_secs(u64::try_from(left).unwrap_or_default())));
    Ok(EventRow { epoch: epoch as u64, event, expires })
}

/// The columns of a nonce: seq, epoch, count, at, sender, nonce.
pub(super) type NonceColumns = (i64, i64, i64, i64, String, String);

/// Reads whose event a row is, and its nonce. `None` if the event has none.
pub(super) fn nonce_row(columns: NonceColumns) -> Result<Option<NonceRow>, ReadError> {
    let (seq, epoch, count, at, from, nonce) = columns;
    let Some(nonce) = nonce_of(&nonce).map_err(|_| damaged("timeline", &seq))? else { return Ok(None) };
    let from = UserId::parse(&from).map_err(|_| damaged("timeline", &seq))?;
    let head = Head { seq: seq as u64, count: count as u64, at: Millis(at as u64) };
    Ok(Some(NonceRow { epoch: epoch as u64, head, from, nonce }))
}

fn nonce_of(text: &str) -> Result<Option<Nonce>, sendpi_model::IdError> {
    if text.is_empty() { Ok(None) } else { Nonce::parse(text).map(Some) }
}

/// The columns of a room of a user: room, role, joined_seq, joined_count, active_at, and the timestamp.
pub(super) type RoomOfUserColumns = (String, String, i64, i64, i64, i64);

/// Reads a room of a user.
pub(super) fn room_of_user(user: &UserId, columns: RoomOfUserColumns) -> Result<RoomOfUser, ReadError> {
    let (room, role, seq, count, active_at, timestamp) = columns;
    Ok(RoomOfUser {
        user: user.clone(),
        room: room_id(&room)?,
        stamp: Stamp::from_number(timestamp as u64),
        role: role_of(&role)?,
        joined: Mark { seq: seq as u64, count: count as u64 },
        active_at: Millis(active_at as u64),
    })
}

pub(super) fn room_id(text: &str) -> Result<RoomId, ReadError> {
    RoomId::parse(text).map_err(|_| damaged("a table of rooms", &text))
}

/// Reads a row that is one JSON cell.
pub(super) fn from_json<T: DeserializeOwned>(table: &str, json: &str) -> Result<T, ReadError> {
    serde_json::from_str(json).map_err(|error| ReadError(format!("a row of {table} cannot be read: {error}")))
}

fn damaged(table: &str, key: &dyn std::fmt::Display) -> ReadError {
    ReadError(format!("row {key} of {table} is not what Sendpi writes"))
}
