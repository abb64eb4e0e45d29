//! Timelines. A row that has expired is not read, whether the sweep has removed it or not.

use std::ops::{Bound, RangeInclusive};

use sendpi_model::RoomId;

use super::Inner;
use super::encode::{decode_event, decode_nonce, has_expired};
use super::key::{RowKey, split_id, split_number};
use super::opened::Opened;
use super::store::{damaged, failed, read_rows};
use super::table::Table;
use crate::{EventRow, NonceRow, ReadError};

/// Returns the seq and the epoch in the key of a timeline's row.
pub(super) fn timeline_place(key: &[u8]) -> Result<(u64, u64), ReadError> {
    let (_, rest) = split_id(key).ok_or_else(damaged)?;
    let (seq, rest) = split_number(rest).ok_or_else(damaged)?;
    let (epoch, _) = split_number(rest).ok_or_else(damaged)?;
    Ok((seq, epoch))
}

/// Returns the rows of a timeline whose seq is in `seqs`, which is not empty.
pub(super) fn timeline_range(opened: &Opened, room: &RoomId, seqs: &RangeInclusive<u64>) -> fjall::Iter {
    let low = RowKey::of_id(room.as_str()).number(*seqs.start()).bytes();
    let high = RowKey::of_id(room.as_str()).number(*seqs.end()).number(u64::MAX).bytes();
    opened.tables.range(Table::Timeline, Bound::Included(&low), Bound::Included(&high))
}

impl Inner {
    pub(super) async fn timeline(
        &self,
        room: &RoomId,
        seqs: RangeInclusive<u64>,
        limit: usize,
        newest: bool,
    ) -> Result<Vec<EventRow>, ReadError> {
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let range = timeline_range(&*self.opened()?, room, &seqs);
        let decode = |seq, epoch, value: &[u8]| {
            let unreadable = |error| ReadError(format!("event {seq} of epoch {epoch} cannot be read: {error}"));
            decode_event(seq, epoch, value).map(Some).map_err(unreadable)
        };
        if newest {
            let mut rows = self.decoded(range.rev(), limit, decode).await?;
            rows.reverse();
            Ok(rows)
        } else {
            self.decoded(range, limit, decode).await
        }
    }

    pub(super) async fn nonces(&self, room: &RoomId, seqs: RangeInclusive<u64>) -> Result<Vec<NonceRow>, ReadError> {
        if seqs.is_empty() {
            return Ok(Vec::new());
        }
        let range = timeline_range(&*self.opened()?, room, &seqs);
        self.decoded(range, usize::MAX, |seq, epoch, value| decode_nonce(seq, epoch, value).map_err(failed)).await
    }

    /// Decodes the rows that have not expired, until there are `limit`.
    async fn decoded<T: Send>(
        &self,
        rows: impl Iterator<Item = fjall::Guard> + Send,
        limit: usize,
        decode: impl Fn(u64, u64, &[u8]) -> Result<Option<T>, ReadError> + Send,
    ) -> Result<Vec<T>, ReadError> {
        let now = (self.clock)();
        let read = move |key: &[u8], value: &[u8]| {
            if has_expired(value, now) {
                return Ok(None);
            }
            let (seq, epoch) = timeline_place(key)?;
            decode(seq, epoch, value)
        };
        read_rows(rows, limit, read).await
    }
}
