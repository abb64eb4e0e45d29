//! The embedded store's implementation of the contract.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::ops::{Bound, RangeInclusive};

use async_trait::async_trait;
use sendpi_model::{Mark, Millis, Partition, Role, RoomId, UserId};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::encode::{decode_event, decode_json};
use super::key::{RowKey, split_falling, split_id, split_number};
use super::table::Table;
use super::{Embedded, Inner, KEPT};
use crate::{
    EventRow, Fence, MemberRow, OrderRow, ReadError, RoomOfUser, RoomRow, Row, SettledRow, Start, Store, WriteError,
};

/// A scan lets other tasks run after this many rows, which is about every 100 µs. Passing a scan to a thread for
/// blocking work would cost more than most scans take.
const PIECE: usize = 256;

fn failed(error: impl std::fmt::Display) -> ReadError {
    ReadError(error.to_string())
}

fn damaged() -> ReadError {
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

impl Inner {
    fn check(&self) -> Result<(), ReadError> {
        if self.writer.is_broken() {
            return Err(ReadError("the disk failed; the store answers no reads until it is opened again".into()));
        }
        Ok(())
    }

    /// Reads one JSON row.
    fn one<T: DeserializeOwned>(&self, table: Table, key: RowKey) -> Result<Option<T>, ReadError> {
        self.check()?;
        let value = self.tables.get(table, &key.bytes()).map_err(failed)?;
        value.map(|value| decode_json(&value).map_err(failed)).transpose()
    }

    /// Reads all JSON rows whose keys begin with `prefix` and that `wanted` accepts, in the order of their keys.
    async fn all<T: DeserializeOwned + Send>(
        &self,
        table: Table,
        prefix: &[u8],
        wanted: fn(&T) -> bool,
    ) -> Result<Vec<T>, ReadError> {
        self.check()?;
        let mut rows = Vec::new();
        scan(self.tables.prefix(table, prefix), |_, value| {
            let row = decode_json(value).map_err(failed)?;
            if wanted(&row) {
                rows.push(row);
            }
            Ok(())
        })
        .await?;
        Ok(rows)
    }
}

#[async_trait]
impl Store for Embedded {
    async fn write(&self, rows: Vec<Row>) -> Result<(), WriteError> {
        self.0.writer.write(&rows).await
    }

    async fn partitions(&self) -> Result<Option<u16>, ReadError> {
        self.0.one(Table::Partitions, RowKey::default().number(0))
    }

    async fn fence(&self, partition: Partition) -> Result<Option<Fence>, ReadError> {
        self.0.check()?;
        Ok(self.0.fences.get(partition))
    }

    async fn starts(&self, room: &RoomId) -> Result<Vec<Start>, ReadError> {
        self.0.all(Table::Starts, &RowKey::of_id(room.as_str()).bytes(), |_| true).await
    }

    async fn timeline(
        &self,
        room: &RoomId,
        seqs: RangeInclusive<u64>,
        limit: usize,
        newest: bool,
    ) -> Result<Vec<EventRow>, ReadError> {
        self.0.check()?;
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let low = RowKey::of_id(room.as_str()).number(*seqs.start()).bytes();
        let high = RowKey::of_id(room.as_str()).number(*seqs.end()).number(u64::MAX).bytes();
        let range = self.0.tables.range(Table::Timeline, Bound::Included(&low), Bound::Included(&high));
        let mut rows = Vec::new();
        let take = |key: &[u8], value: &[u8]| {
            let (_, rest) = split_id(key).ok_or_else(damaged)?;
            let (seq, rest) = split_number(rest).ok_or_else(damaged)?;
            let (epoch, _) = split_number(rest).ok_or_else(damaged)?;
            rows.push(decode_event(seq, epoch, value).map_err(failed)?);
            Ok(())
        };
        if newest {
            scan(range.rev().take(limit), take).await?;
            rows.reverse();
        } else {
            scan(range.take(limit), take).await?;
        }
        Ok(rows)
    }

    async fn room(&self, room: &RoomId) -> Result<Option<RoomRow>, ReadError> {
        self.0.one(Table::Rooms, RowKey::of_id(room.as_str()))
    }

    async fn members(&self, room: &RoomId) -> Result<Vec<MemberRow>, ReadError> {
        let prefix = RowKey::of_id(room.as_str()).bytes();
        self.0.all(Table::Members, &prefix, |row: &MemberRow| row.role.is_some()).await
    }

    async fn rooms_of_user(
        &self,
        user: &UserId,
        after: Option<(Millis, RoomId)>,
        limit: usize,
    ) -> Result<Vec<RoomOfUser>, ReadError> {
        self.0.check()?;
        let after = after.map(|(at, room)| (Reverse(at), room));
        let prefix = RowKey::of_id(user.as_str()).bytes();
        let mut first = BTreeMap::new();
        scan(self.0.tables.prefix(Table::RoomsOfUser, &prefix), |_, value| {
            let row: RoomOfUser = decode_json(value).map_err(failed)?;
            let place = (Reverse(row.active_at), row.room.clone());
            if row.role.is_some() && after.as_ref().is_none_or(|after| place > *after) {
                first.insert(place, row);
                if first.len() > limit {
                    first.pop_last();
                }
            }
            Ok(())
        })
        .await?;
        Ok(first.into_values().collect())
    }

    async fn rooms_of_user_among(&self, user: &UserId, rooms: &[RoomId]) -> Result<Vec<Option<RoomOfUser>>, ReadError> {
        let row = |room: &RoomId| {
            let row = self.0.one(Table::RoomsOfUser, RowKey::of_id(user.as_str()).id(room.as_str()))?;
            Ok(row.filter(|row: &RoomOfUser| row.role.is_some()))
        };
        rooms.iter().map(row).collect()
    }

    async fn count_rooms_of_user(&self, user: &UserId, most: usize) -> Result<usize, ReadError> {
        /// The only field that counting needs.
        #[derive(Deserialize)]
        struct RoleOfRow {
            role: Option<Role>,
        }
        self.0.check()?;
        let prefix = RowKey::of_id(user.as_str()).bytes();
        let mut rooms = 0;
        scan(self.0.tables.prefix(Table::RoomsOfUser, &prefix), |_, value| {
            let row: RoleOfRow = decode_json(value).map_err(failed)?;
            rooms += usize::from(row.role.is_some());
            Ok(())
        })
        .await?;
        Ok(rooms.min(most))
    }

    async fn rooms_by_activity(
        &self,
        user: &UserId,
        since: Millis,
        before: Option<(Millis, RoomId)>,
        limit: usize,
    ) -> Result<Vec<OrderRow>, ReadError> {
        self.0.check()?;
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
        let range = self.0.tables.range(Table::Order, Bound::Excluded(&low), Bound::Excluded(&high));
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
            self.0.check()?;
            let keys: Vec<_> =
                rooms.iter().map(|room| RowKey::of_id(user.as_str()).id(room.as_str()).bytes()).collect();
            let values = self.0.tables.get_all(Table::Markers, keys.iter().map(Vec::as_slice)).map_err(failed)?;
            for value in values {
                marks.push(value.map(|value| decode_json(&value).map_err(failed)).transpose()?);
            }
        }
        Ok(marks)
    }

    async fn active_rooms(&self, partition: Partition, minutes: RangeInclusive<u64>) -> Result<Vec<RoomId>, ReadError> {
        self.0.check()?;
        let oldest = (*minutes.start()).max((self.0.clock)().before(KEPT).minute());
        if minutes.is_empty() || oldest > *minutes.end() {
            return Ok(Vec::new());
        }
        let low = RowKey::of_partition(partition).number(oldest).bytes();
        let high = RowKey::of_partition(partition).number(*minutes.end()).after_ids().bytes();
        let range = self.0.tables.range(Table::ActiveRooms, Bound::Included(&low), Bound::Excluded(&high));
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
}
