//! The implementation of the contract.

use std::collections::{HashMap, HashSet};
use std::ops::{ControlFlow, RangeInclusive};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use prometheus_client::registry::Registry;
use sendpi_model::{Mark, Millis, Partition, RoomId, UserId};

use super::active_hours::hour;
use super::columns::{RoomOfUserColumns, from_json, role_of, room_id, room_of_user};
use super::statements::Read;
use super::{Cql, Inner};
use crate::newest_rooms::NewestRooms;
use crate::{
    DeletedRoom, DeviceRow, EventRow, Fence, MemberRow, NonceRow, OrderRow, PushedRow, ReadError, RoomOfUser, RoomRow,
    Row, SettledRow, Start, Store, WriteError,
};

/// The most rooms that one statement names.
const ROOMS: usize = 100;
/// The most statements of one read that are under way at one time.
const AT_ONCE: usize = 16;

impl Inner {
    /// Reads a row that is one JSON cell.
    async fn one<T: serde::de::DeserializeOwned + Send>(
        &self,
        read: Read,
        table: &'static str,
        key: &str,
    ) -> Result<Option<T>, ReadError> {
        let rows: Vec<(String,)> = self.client.all(read, &(key,)).await?;
        rows.first().map(|(json,)| from_json(table, json)).transpose()
    }

    /// Runs a read for these rooms of a user, piece by piece, and returns all that is found.
    async fn among<R>(&self, read: Read, user: &UserId, rooms: &[RoomId]) -> Result<Vec<R>, ReadError>
    where
        R: for<'frame, 'metadata> scylla::deserialize::row::DeserializeRow<'frame, 'metadata> + Send,
    {
        let pieces: Vec<Vec<String>> =
            rooms.chunks(ROOMS).map(|piece| piece.iter().map(RoomId::to_string).collect()).collect();
        let reads = stream::iter(pieces)
            .map(|piece| async move { self.client.all::<R, _>(read, &(user.as_str(), piece)).await });
        let found: Vec<Vec<R>> = reads.buffered(AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }
}

#[async_trait]
impl Store for Cql {
    async fn write(&self, rows: Vec<Row>) -> Result<(), WriteError> {
        self.0.write(&rows).await
    }

    fn fails_apart(&self) -> bool {
        true
    }

    fn register_metrics(&self, registry: &mut Registry) {
        self.0.client.metrics().register(registry.sub_registry_with_prefix("store"));
    }

    async fn partitions(&self) -> Result<Option<u16>, ReadError> {
        let rows: Vec<(String,)> = self.0.client.all(Read::Meta, &("partitions",)).await?;
        let count = |text: &str| text.parse().map_err(|_| ReadError(format!("meta says {text} partitions")));
        rows.first().map(|(text,)| count(text)).transpose()
    }

    async fn fences(&self, partition: Partition, from: u64) -> Result<Vec<Fence>, ReadError> {
        self.0.fences.read(partition, from).await
    }

    async fn starts(&self, room: &RoomId, below: Option<u64>, limit: usize) -> Result<Vec<Start>, ReadError> {
        let below = below.map_or(i64::MAX, |below| below as i64);
        let values = (room.as_str(), below, limit_of(limit));
        let rows: Vec<(i64, i64, i64)> = self.0.client.all(Read::Starts, &values).await?;
        let start = |(epoch, next_seq, continues): (i64, i64, i64)| Start {
            epoch: epoch as u64,
            next_seq: next_seq as u64,
            continues: (continues > 0).then_some(continues as u64),
        };
        Ok(rows.into_iter().map(start).collect())
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
        self.0.one(Read::Room, "rooms", room.as_str()).await
    }

    async fn members(&self, room: &RoomId, after: Option<&UserId>, limit: usize) -> Result<Vec<MemberRow>, ReadError> {
        let mut members = Vec::new();
        if limit == 0 {
            return Ok(members);
        }
        let values = (room.as_str(), after.map_or("", UserId::as_str));
        let take = |(json,): (String,)| {
            let row: MemberRow = from_json("members", &json)?;
            if row.role.is_some() || row.banned {
                members.push(row);
            }
            Ok(if members.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        };
        self.0.client.each(Read::Members, &values, take).await?;
        Ok(members)
    }

    async fn member(&self, room: &RoomId, user: &UserId) -> Result<Option<MemberRow>, ReadError> {
        let rows: Vec<(String,)> = self.0.client.all(Read::Member, &(room.as_str(), user.as_str())).await?;
        let row: Option<MemberRow> = rows.first().map(|(json,)| from_json("members", json)).transpose()?;
        Ok(row.filter(|row| row.role.is_some()))
    }

    async fn rooms_of_user(
        &self,
        user: &UserId,
        after: Option<(Millis, RoomId)>,
        limit: usize,
    ) -> Result<Vec<RoomOfUser>, ReadError> {
        let mut page = NewestRooms::new(after, limit);
        let take = |columns: RoomOfUserColumns| {
            match room_of_user(user, columns) {
                Ok(row) => page.take(row),
                // One room that a later release changed must not keep a user from all others.
                Err(error) => tracing::warn!(%error, %user, "a room is left out of a user's list"),
            }
            Ok(ControlFlow::Continue(()))
        };
        self.0.client.each(Read::RoomsOfUser, &(user.as_str(),), take).await?;
        Ok(page.rows())
    }

    async fn rooms_of_user_among(&self, user: &UserId, rooms: &[RoomId]) -> Result<Vec<Option<RoomOfUser>>, ReadError> {
        let found: Vec<RoomOfUserColumns> = self.0.among(Read::RoomsOfUserAmong, user, rooms).await?;
        let found = found.into_iter().map(|columns| room_of_user(user, columns));
        let found: Vec<RoomOfUser> = found.collect::<Result<_, _>>()?;
        let present = found.into_iter().filter(|row| row.role.is_some());
        let by_room: HashMap<RoomId, RoomOfUser> = present.map(|row| (row.room.clone(), row)).collect();
        Ok(rooms.iter().map(|room| by_room.get(room).cloned()).collect())
    }

    async fn count_rooms_of_user(&self, user: &UserId, most: usize) -> Result<usize, ReadError> {
        let mut rooms = 0;
        let take = |(role,): (String,)| {
            rooms += usize::from(role_of(&role)?.is_some());
            Ok(if rooms < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        };
        self.0.client.each(Read::RolesOfUser, &(user.as_str(),), take).await?;
        Ok(rooms.min(most))
    }

    async fn rooms_by_activity(
        &self,
        user: &UserId,
        since: Millis,
        before: Option<(Millis, RoomId)>,
        limit: usize,
    ) -> Result<Vec<OrderRow>, ReadError> {
        let mut found: Vec<(i64, String)> = Vec::new();
        let mut until = i64::MAX;
        if let Some((at, room)) = before {
            until = at.0 as i64;
            if at >= since && limit > 0 {
                let values = (user.as_str(), until, room.as_str(), limit_of(limit));
                found = self.0.client.all(Read::OrderAt, &values).await?;
            }
        }
        let (since, left) = (since.0 as i64, limit - found.len());
        if left > 0 && since < until {
            found.extend(self.0.client.all(Read::Order, &(user.as_str(), since, until, limit_of(left))).await?);
        }
        let row = |(at, room): (i64, String)| {
            Ok(OrderRow { user: user.clone(), active_at: Millis(at as u64), room: room_id(&room)? })
        };
        found.into_iter().map(row).collect()
    }

    async fn read_markers(&self, user: &UserId, rooms: &[RoomId]) -> Result<Vec<Option<Mark>>, ReadError> {
        let found: Vec<(String, i64, i64)> = self.0.among(Read::Markers, user, rooms).await?;
        let mark = |(room, seq, count): (String, i64, i64)| (room, Mark { seq: seq as u64, count: count as u64 });
        let by_room: HashMap<String, Mark> = found.into_iter().map(mark).collect();
        Ok(rooms.iter().map(|room| by_room.get(room.as_str()).copied()).collect())
    }

    async fn active_rooms(&self, partition: Partition, minutes: RangeInclusive<u64>) -> Result<Vec<RoomId>, ReadError> {
        let (low, high) = (*minutes.start(), (*minutes.end()).min(i64::MAX as u64));
        let number = i32::from(partition.0);
        let values = (number, hour(low) as i64, hour(high) as i64);
        let hours: Vec<(i64,)> = self.0.client.all(Read::ActiveHours, &values).await?;
        let reads = stream::iter(hours).map(|(hour,)| async move {
            let values = (number, hour, low as i64, high as i64);
            self.0.client.all::<(String,), _>(Read::ActiveRooms, &values).await
        });
        let found: Vec<Vec<(String,)>> = reads.buffered(AT_ONCE).try_collect().await?;
        let mut seen = HashSet::new();
        let rooms = found.into_iter().flatten().filter(|(room,)| seen.insert(room.clone()));
        rooms.map(|(room,)| room_id(&room)).collect()
    }

    async fn settled(&self, partition: Partition) -> Result<Vec<SettledRow>, ReadError> {
        let rows: Vec<(i64, i64)> = self.0.client.all(Read::Settled, &(i32::from(partition.0),)).await?;
        Ok(rows.into_iter().map(|(epoch, at)| SettledRow { epoch: epoch as u64, at: Millis(at as u64) }).collect())
    }

    async fn pushed(&self, room: &RoomId) -> Result<Option<PushedRow>, ReadError> {
        self.0.one(Read::Pushed, "pushed", room.as_str()).await
    }

    async fn revoked(&self, user: &UserId) -> Result<Option<Millis>, ReadError> {
        let rows: Vec<(i64,)> = self.0.client.all(Read::Revoked, &(user.as_str(),)).await?;
        Ok(rows.first().map(|(before,)| Millis(*before as u64)))
    }

    async fn rooms_ever(&self, user: &UserId, after: Option<&RoomId>, limit: usize) -> Result<Vec<RoomId>, ReadError> {
        let values = (user.as_str(), after.map_or("", RoomId::as_str), limit_of(limit));
        let rows: Vec<(String,)> =
            if limit == 0 { Vec::new() } else { self.0.client.all(Read::RoomsEver, &values).await? };
        rows.into_iter().map(|(room,)| room_id(&room)).collect()
    }

    async fn deleted_rooms(&self, partition: Partition) -> Result<Vec<DeletedRoom>, ReadError> {
        let rows: Vec<(String, i64)> = self.0.client.all(Read::DeletedRooms, &(i32::from(partition.0),)).await?;
        let row =
            |(room, at): (String, i64)| Ok(DeletedRoom { partition, room: room_id(&room)?, at: Millis(at as u64) });
        rows.into_iter().map(row).collect()
    }

    async fn remove_events(&self, room: &RoomId, piece: u64) -> Result<usize, WriteError> {
        self.0.remove_events(room, piece).await
    }

    async fn remove_room(&self, partition: Partition, room: &RoomId) -> Result<(), WriteError> {
        self.0.remove_room(partition, room).await
    }

    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRow>, ReadError> {
        let rows: Vec<(String,)> = self.0.client.all(Read::Devices, &(user.as_str(),)).await?;
        let rows: Vec<DeviceRow> = rows.iter().map(|(json,)| from_json("devices", json)).collect::<Result<_, _>>()?;
        Ok(rows.into_iter().filter(|row| row.address.is_some()).collect())
    }
}

fn limit_of(limit: usize) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}
