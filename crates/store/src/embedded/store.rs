//! The embedded store's implementation of the contract.

use std::collections::HashSet;
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use async_trait::async_trait;
use sendpi_model::{Mark, Millis, Partition, Role, RoomId, UserId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::encode::{ValueError, decode_json};
use super::key::{RowKey, split_falling, split_id, split_number};
use super::opened::Opened;
use super::table::Table;
use super::{Embedded, Inner, KEPT};
use crate::newest_rooms::NewestRooms;
use crate::{
    DeletedRoom, DeviceRow, EventRow, Fence, MemberRow, NonceRow, OrderRow, PushedRow, ReadError, RevokedRow,
    RoomOfUser, RoomRow, Row, SettledRow, Start, Store, StoreHealth, WriteError,
};

/// A scan lets other tasks run after this many rows, which is about every 100 µs. Passing a scan to a thread for
/// blocking work would cost more than most scans take.
pub(super) const PIECE: usize = 256;

pub(super) fn unreadable(table: Table, key: &[u8], error: &ValueError) -> ReadError {
    ReadError(format!("row {} of {} cannot be read: {error}", key.escape_ascii(), table.name()))
}

pub(super) fn failed(error: impl std::fmt::Display) -> ReadError {
    ReadError(error.to_string())
}

pub(super) fn damaged() -> ReadError {
    ReadError("a key is damaged".into())
}

/// Passes the key and the value of every row to `take`, which keeps what it needs.
async fn scan(
    rows: impl Iterator<Item = fjall::Guard> + Send,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), ReadError> + Send,
) -> Result<(), ReadError> {
    for (n, row) in rows.enumerate() {
        if n > 0 && n.is_multiple_of(PIECE) {
            tokio::task::yield_now().await;
        }
        let (key, value) = row.into_inner().map_err(failed)?;
        take(&key, &value)?;
    }
    Ok(())
}

/// Reads rows until `limit` of them are kept by `read`, which returns `None` for a row that nobody wants.
pub(super) async fn read_rows<T: Send>(
    rows: impl Iterator<Item = fjall::Guard> + Send,
    limit: usize,
    read: impl Fn(&[u8], &[u8]) -> Result<Option<T>, ReadError> + Send,
) -> Result<Vec<T>, ReadError> {
    let mut found = Vec::new();
    for (n, row) in rows.enumerate() {
        if found.len() == limit {
            break;
        }
        if n > 0 && n.is_multiple_of(PIECE) {
            tokio::task::yield_now().await;
        }
        let (key, value) = row.into_inner().map_err(failed)?;
        found.extend(read(&key, &value)?);
    }
    Ok(found)
}

/// Reads JSON rows until `limit` of them are accepted by `wanted`.
async fn read_json<T: DeserializeOwned + Send>(
    table: Table,
    range: impl Iterator<Item = fjall::Guard> + Send,
    limit: usize,
    wanted: fn(&T) -> bool,
) -> Result<Vec<T>, ReadError> {
    let read = |key: &[u8], value: &[u8]| {
        let row = decode_json(value).map_err(|error| unreadable(table, key, &error))?;
        Ok(Some(row).filter(wanted))
    };
    read_rows(range, limit, read).await
}

/// Decodes a row of a user's rooms. Returns `None` if it cannot be read: one room that a later release changed must not
/// keep a user from all others.
fn room_of_user<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Option<T> {
    let row = decode_json(value).map_err(|error| unreadable(Table::RoomsOfUser, key, &error));
    row.inspect_err(|error| tracing::warn!(%error, "a room is left out of a user's list")).ok()
}

impl Inner {
    pub(super) fn opened(&self) -> Result<Arc<Opened>, ReadError> {
        self.slot
            .get()
            .ok_or_else(|| ReadError("the disk failed; the store is closed until it can be opened again".into()))
    }

    /// Reads one JSON row.
    fn one<T: DeserializeOwned>(&self, table: Table, key: RowKey) -> Result<Option<T>, ReadError> {
        let key = key.bytes();
        let value = self.opened()?.tables.get(table, &key).map_err(failed)?;
        value.map(|value| decode_json(&value).map_err(|error| unreadable(table, &key, &error))).transpose()
    }

    /// Reads all JSON rows whose keys begin with `prefix` and that `wanted` accepts, in the order of their keys.
    async fn all<T: DeserializeOwned + Send>(
        &self,
        table: Table,
        prefix: &[u8],
        wanted: fn(&T) -> bool,
    ) -> Result<Vec<T>, ReadError> {
        read_json(table, self.opened()?.tables.prefix(table, prefix), usize::MAX, wanted).await
    }

    /// Passes what `T` keeps of each row of a user's rooms to `take`, without the rows that cannot be read.
    async fn each_room_of<T: DeserializeOwned>(
        &self,
        user: &UserId,
        mut take: impl FnMut(T) + Send,
    ) -> Result<(), ReadError> {
        let opened = self.opened()?;
        let prefix = RowKey::of_id(user.as_str()).bytes();
        scan(opened.tables.prefix(Table::RoomsOfUser, &prefix), |key, value| {
            if let Some(row) = room_of_user(key, value) {
                take(row);
            }
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Store for Embedded {
    async fn write(&self, rows: Vec<Row>) -> Result<(), WriteError> {
        self.0.writer.write(&rows).await
    }

    fn health(&self) -> watch::Receiver<StoreHealth> {
        self.0.writer.health()
    }

    async fn partitions(&self) -> Result<Option<u16>, ReadError> {
        self.0.one(Table::Partitions, RowKey::default().number(0))
    }

    async fn fences(&self, partition: Partition, from: u64) -> Result<Vec<Fence>, ReadError> {
        let mut fences = self.0.opened()?.fences.highest(partition);
        fences.retain(|fence| fence.epoch >= from);
        Ok(fences)
    }

    async fn starts(&self, room: &RoomId, below: Option<u64>, limit: usize) -> Result<Vec<Start>, ReadError> {
        let opened = self.0.opened()?;
        let low = RowKey::of_id(room.as_str()).bytes();
        let high = RowKey::of_id(room.as_str()).number(below.unwrap_or(u64::MAX)).bytes();
        let range = opened.tables.range(Table::Starts, Bound::Included(&low), Bound::Excluded(&high));
        read_json(Table::Starts, range.rev(), limit, |_| true).await
    }

    async fn timeline(
        &self,
        room: &RoomId,
        seqs: RangeInclusive<u64>,
        limit: usize,
        newest: bool,
    ) -> Result<Vec<EventRow>, ReadError> {
        self.0.timeline(room, seqs, limit, newest).await
    }

    async fn nonces(&self, room: &RoomId, seqs: RangeInclusive<u64>) -> Result<Vec<NonceRow>, ReadError> {
        self.0.nonces(room, seqs).await
    }

    async fn room(&self, room: &RoomId) -> Result<Option<RoomRow>, ReadError> {
        self.0.one(Table::Rooms, RowKey::of_id(room.as_str()))
    }

    async fn members(&self, room: &RoomId, after: Option<&UserId>, limit: usize) -> Result<Vec<MemberRow>, ReadError> {
        let opened = self.0.opened()?;
        let low = match after {
            Some(user) => RowKey::of_id(room.as_str()).id(user.as_str()).bytes(),
            None => RowKey::of_id(room.as_str()).bytes(),
        };
        let high = RowKey::of_id(room.as_str()).after_ids().bytes();
        let range = opened.tables.range(Table::Members, Bound::Excluded(&low), Bound::Excluded(&high));
        read_json(Table::Members, range, limit, |row: &MemberRow| row.role.is_some() || row.banned).await
    }

    async fn member(&self, room: &RoomId, user: &UserId) -> Result<Option<MemberRow>, ReadError> {
        let row: Option<MemberRow> = self.0.one(Table::Members, RowKey::of_id(room.as_str()).id(user.as_str()))?;
        Ok(row.filter(|row| row.role.is_some()))
    }

    async fn rooms_of_user(
        &self,
        user: &UserId,
        after: Option<(Millis, RoomId)>,
        limit: usize,
    ) -> Result<Vec<RoomOfUser>, ReadError> {
        let mut page = NewestRooms::new(after, limit);
        self.0.each_room_of(user, |row| page.take(row)).await?;
        Ok(page.rows())
    }

    async fn rooms_of_user_among(&self, user: &UserId, rooms: &[RoomId]) -> Result<Vec<Option<RoomOfUser>>, ReadError> {
        let opened = self.0.opened()?;
        let row = |room: &RoomId| {
            let key = RowKey::of_id(user.as_str()).id(room.as_str()).bytes();
            let value = opened.tables.get(Table::RoomsOfUser, &key).map_err(failed)?;
            let row: Option<RoomOfUser> = value.and_then(|value| room_of_user(&key, &value));
            Ok(row.filter(|row| row.role.is_some()))
        };
        rooms.iter().map(row).collect()
    }

    async fn count_rooms_of_user(&self, user: &UserId, most: usize) -> Result<usize, ReadError> {
        /// The only field that counting needs.
        #[derive(Deserialize)]
        struct RoleOfRow {
            role: Option<Role>,
        }
        let mut rooms = 0;
        self.0.each_room_of(user, |row: RoleOfRow| rooms += usize::from(row.role.is_some())).await?;
        Ok(rooms.min(most))
    }

    async fn rooms_by_activity(
        &self,
        user: &UserId,
        since: Millis,
        before: Option<(Millis, RoomId)>,
        limit: usize,
    ) -> Result<Vec<OrderRow>, ReadError> {
        let opened = self.0.opened()?;
        let key = || RowKey::of_id(user.as_str());
        let low = match &before {
            Some((at, room)) => key().falling(at.0).last_id(room.as_str()).bytes(),
            None => key().bytes(),
        };
        let since = since.max((self.0.clock)().before(KEPT));
        let high = key().falling(since.0).after_ids().bytes();
        if low >= high {
            return Ok(Vec::new());
        }
        let range = opened.tables.range(Table::Order, Bound::Excluded(&low), Bound::Excluded(&high));
        let mut rows = Vec::new();
        scan(range.take(limit), |key, _| {
            let (_, rest) = split_id(key).ok_or_else(damaged)?;
            let (at, room) = split_falling(rest).ok_or_else(damaged)?;
            let room = std::str::from_utf8(room).ok().and_then(|room| RoomId::parse(room).ok()).ok_or_else(damaged)?;
            rows.push(OrderRow { user: user.clone(), active_at: Millis(at), room });
            Ok(())
        })
        .await?;
        Ok(rows)
    }

    async fn read_markers(&self, user: &UserId, rooms: &[RoomId]) -> Result<Vec<Option<Mark>>, ReadError> {
        let mut marks = Vec::with_capacity(rooms.len());
        for rooms in rooms.chunks(PIECE) {
            if !marks.is_empty() {
                tokio::task::yield_now().await;
            }
            let opened = self.0.opened()?;
            let keys: Vec<_> =
                rooms.iter().map(|room| RowKey::of_id(user.as_str()).id(room.as_str()).bytes()).collect();
            let values = opened.tables.get_all(Table::Markers, keys.iter().map(Vec::as_slice)).map_err(failed)?;
            for (key, value) in keys.iter().zip(values) {
                let mark = value.map(|value| decode_json(&value).map_err(|e| unreadable(Table::Markers, key, &e)));
                marks.push(mark.transpose()?);
            }
        }
        Ok(marks)
    }

    async fn active_rooms(&self, partition: Partition, minutes: RangeInclusive<u64>) -> Result<Vec<RoomId>, ReadError> {
        let opened = self.0.opened()?;
        let oldest = (*minutes.start()).max((self.0.clock)().before(KEPT).minute());
        if minutes.is_empty() || oldest > *minutes.end() {
            return Ok(Vec::new());
        }
        let low = RowKey::of_partition(partition).number(oldest).bytes();
        let high = RowKey::of_partition(partition).number(*minutes.end()).after_ids().bytes();
        let range = opened.tables.range(Table::ActiveRooms, Bound::Included(&low), Bound::Excluded(&high));
        let mut seen: HashSet<Box<[u8]>> = HashSet::new();
        let mut rooms = Vec::new();
        scan(range, |key, _| {
            let (_, room) = key.get(2..).and_then(split_number).ok_or_else(damaged)?;
            if !seen.contains(room) {
                seen.insert(room.into());
                let room = std::str::from_utf8(room).ok().and_then(|room| RoomId::parse(room).ok());
                rooms.push(room.ok_or_else(damaged)?);
            }
            Ok(())
        })
        .await?;
        Ok(rooms)
    }

    async fn settled(&self, partition: Partition) -> Result<Vec<SettledRow>, ReadError> {
        self.0.all(Table::Settled, &RowKey::of_partition(partition).bytes(), |_| true).await
    }

    async fn pushed(&self, room: &RoomId) -> Result<Option<PushedRow>, ReadError> {
        self.0.one(Table::Pushed, RowKey::of_id(room.as_str()))
    }

    async fn revoked(&self, user: &UserId) -> Result<Option<Millis>, ReadError> {
        let row: Option<RevokedRow> = self.0.one(Table::Revoked, RowKey::of_id(user.as_str()))?;
        Ok(row.map(|row| row.before))
    }

    async fn rooms_ever(&self, user: &UserId, after: Option<&RoomId>, limit: usize) -> Result<Vec<RoomId>, ReadError> {
        let opened = self.0.opened()?;
        let key = || RowKey::of_id(user.as_str());
        let low = after.map_or_else(|| key().bytes(), |room| key().id(room.as_str()).bytes());
        let high = key().after_ids().bytes();
        let range = opened.tables.range(Table::RoomsOfUser, Bound::Excluded(&low), Bound::Excluded(&high));
        let mut rooms = Vec::new();
        scan(range.take(limit), |key, _| {
            let room = split_id(key).and_then(|(_, rest)| split_id(rest)).map(|(room, _)| room);
            rooms.push(room.and_then(|room| RoomId::parse(room).ok()).ok_or_else(damaged)?);
            Ok(())
        })
        .await?;
        Ok(rooms)
    }

    async fn deleted_rooms(&self, partition: Partition) -> Result<Vec<DeletedRoom>, ReadError> {
        self.0.all(Table::DeletedRooms, &RowKey::of_partition(partition).bytes(), |_| true).await
    }

    async fn remove_events(&self, room: &RoomId, piece: u64) -> Result<usize, WriteError> {
        self.0.remove_events(room, piece).await
    }

    async fn remove_room(&self, partition: Partition, room: &RoomId) -> Result<(), WriteError> {
        self.0.remove_room(partition, room).await
    }

    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRow>, ReadError> {
        let prefix = RowKey::of_id(user.as_str()).bytes();
        self.0.all(Table::Devices, &prefix, |row: &DeviceRow| row.address.is_some()).await
    }
}
