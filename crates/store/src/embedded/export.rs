//! All rows, table by table, in the order of their keys. A migration reads them.

use std::ops::Bound;

use sendpi_model::{Mark, Millis, Partition, RoomId, UserId};

use super::encode::{ValueError, decode_event, decode_json, revision_stamp};
use super::key::{split_falling, split_id, split_number};
use super::store::{damaged, failed, unreadable};
use super::table::Table;
use super::timeline::timeline_place;
use super::{Embedded, KEPT};
use crate::{ActiveRoom, MarkerRow, OrderRow, ReadError, Row};

/// Some rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedPage {
    /// The rows, without those that have expired.
    pub rows: Vec<Row>,
    /// The key after which the next page begins. `None` if this is the last one.
    pub last: Option<Vec<u8>>,
}

impl Embedded {
    /// The names of all tables, in the order in which a migration copies them.
    pub const TABLES: [&str; Table::ALL.len()] = Table::NAMES;

    /// Returns about how many rows a table has, by its place in [`Self::TABLES`].
    ///
    /// # Errors
    /// Returns [`ReadError`] if the store is closed.
    pub fn count_rows(&self, table: usize) -> Result<usize, ReadError> {
        let table = Table::ALL.get(table).ok_or_else(damaged)?;
        Ok(self.0.opened()?.tables.approximate_len(*table))
    }

    /// Returns the rows of a table that follow a key, and at most `limit` of them.
    ///
    /// # Errors
    /// Returns [`ReadError`] if the store is closed, or if a row cannot be read.
    pub fn export(&self, table: usize, after: Option<&[u8]>, limit: usize) -> Result<ExportedPage, ReadError> {
        let table = *Table::ALL.get(table).ok_or_else(damaged)?;
        let (opened, now) = (self.0.opened()?, (self.0.clock)());
        let low = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = ExportedPage { rows: Vec::new(), last: None };
        let (mut count, mut last) = (0, None);
        for row in opened.tables.range(table, low, Bound::Unbounded).take(limit) {
            let (key, value) = row.into_inner().map_err(failed)?;
            count += 1;
            page.rows.extend(Some(decode(table, &key, &value)?).filter(|row| !has_expired(row, now)));
            last = Some(key.to_vec());
        }
        if count == limit {
            page.last = last;
        }
        Ok(page)
    }
}

fn has_expired(row: &Row, now: Millis) -> bool {
    match row {
        Row::Order(row) => row.active_at < now.before(KEPT),
        Row::ActiveRoom(row) => row.minute < now.before(KEPT).minute(),
        Row::Event(_, row) | Row::Revised(_, row, _) => row.expires.is_some_and(|expires| expires <= now),
        _ => false,
    }
}

fn decode(table: Table, key: &[u8], value: &[u8]) -> Result<Row, ReadError> {
    let bad = |error: ValueError| unreadable(table, key, &error);
    Ok(match table {
        Table::Partitions => Row::Partitions(decode_json(value).map_err(bad)?),
        Table::Fence => Row::Fence(partition(key)?.0, decode_json(value).map_err(bad)?),
        Table::Starts => Row::Start(id(key)?.0, decode_json(value).map_err(bad)?),
        Table::Timeline => {
            let ((room, _), (seq, epoch)) = (id(key)?, timeline_place(key)?);
            let row = decode_event(seq, epoch, value).map_err(bad)?;
            match revision_stamp(value) {
                None => Row::Event(room, row),
                Some(by) => Row::Revised(room, row, by),
            }
        }
        Table::Rooms => Row::Room(decode_json(value).map_err(bad)?),
        Table::Members => Row::Member(decode_json(value).map_err(bad)?),
        Table::RoomsOfUser => Row::RoomOfUser(decode_json(value).map_err(bad)?),
        Table::Order => {
            let (user, rest) = user(key)?;
            let (at, room) = split_falling(rest).ok_or_else(damaged)?;
            Row::Order(OrderRow { user, active_at: Millis(at), room: last_id(room)? })
        }
        Table::Markers => {
            let (user, rest) = user(key)?;
            let mark: Mark = decode_json(value).map_err(bad)?;
            Row::Marker(MarkerRow { user, room: id(rest)?.0, mark })
        }
        Table::ActiveRooms => {
            let (partition, rest) = partition(key)?;
            let (minute, room) = split_number(rest).ok_or_else(damaged)?;
            Row::ActiveRoom(ActiveRoom { partition, minute, room: last_id(room)? })
        }
        Table::Settled => Row::Settled(partition(key)?.0, decode_json(value).map_err(bad)?),
        Table::Pushed => Row::Pushed(decode_json(value).map_err(bad)?),
        Table::Revoked => Row::Revoked(decode_json(value).map_err(bad)?),
        Table::Devices => Row::Device(decode_json(value).map_err(bad)?),
        Table::DeletedRooms => Row::Deleted(decode_json(value).map_err(bad)?),
    })
}

fn partition(key: &[u8]) -> Result<(Partition, &[u8]), ReadError> {
    let (number, rest) = key.split_first_chunk().ok_or_else(damaged)?;
    Ok((Partition(u16::from_be_bytes(*number)), rest))
}

fn id(key: &[u8]) -> Result<(RoomId, &[u8]), ReadError> {
    let (room, rest) = split_id(key).ok_or_else(damaged)?;
    Ok((RoomId::parse(room).map_err(|_| damaged())?, rest))
}

fn user(key: &[u8]) -> Result<(UserId, &[u8]), ReadError> {
    let (user, rest) = split_id(key).ok_or_else(damaged)?;
    Ok((UserId::parse(user).map_err(|_| damaged())?, rest))
}

fn last_id(bytes: &[u8]) -> Result<RoomId, ReadError> {
    let text = std::str::from_utf8(bytes).map_err(|_| damaged())?;
    RoomId::parse(text).map_err(|_| damaged())
}
