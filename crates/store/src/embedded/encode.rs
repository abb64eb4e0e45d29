//! Rows as they are passed to the engine: the table, the key, and which of two writes stays.

use super::key::RowKey;
use super::table::Table;
use super::value::{encode_event, encode_json};
use crate::Row;

/// The rule for which of two writes of one key stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Either one, because they are equal. Nothing needs to be looked up.
    Either,
    /// The first write.
    First,
    /// The write with the higher stamp, or the later one if the stamps are equal.
    Higher(u64),
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
                let key = RowKey::of_partition(*partition);
                put(Table::Fence, key, encode_json(fence.epoch, fence)?, Keep::Higher(fence.epoch))
            }
            Row::Start(room, start) => {
                let key = RowKey::of_id(room.as_str()).number(start.epoch);
                put(Table::Starts, key, encode_json(0, start)?, Keep::First)
            }
            Row::Event(room, row) => {
                let key = RowKey::of_id(room.as_str()).number(row.event.head.seq).number(row.epoch);
                put(Table::Timeline, key, encode_event(&row.event), Keep::Either)
            }
            Row::Room(row) => {
                let key = RowKey::of_id(row.room.as_str());
                put(Table::Rooms, key, encode_json(row.stamp, row)?, Keep::Higher(row.stamp))
            }
            Row::Member(row) => {
                let key = RowKey::of_id(row.room.as_str()).id(row.user.as_str());
                put(Table::Members, key, encode_json(row.stamp, row)?, Keep::Higher(row.stamp))
            }
            Row::RoomOfUser(row) => {
                let key = RowKey::of_id(row.user.as_str()).id(row.room.as_str());
                put(Table::RoomsOfUser, key, encode_json(row.stamp, row)?, Keep::Higher(row.stamp))
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
        })
    }
}
