//! Timelines: a range of seqs is read bucket by bucket, from the end where the caller wants rows. A bucket may be
//! empty, because its events have expired, and those before it may have been kept for longer.

use std::ops::RangeInclusive;

use sendpi_model::RoomId;

use super::Inner;
use super::columns::{EventColumns, NonceColumns, event_row, nonce_row};
use super::statements::{Read, bucket};
use crate::{EventRow, NonceRow, ReadError, TIMELINE_BUCKET};

/// Returns the part of a range that is in a bucket.
fn part(seqs: &RangeInclusive<u64>, bucket: u64) -> (i64, i64, i64) {
    let first = bucket * TIMELINE_BUCKET;
    let (low, high) = ((*seqs.start()).max(first), (*seqs.end()).min(first + (TIMELINE_BUCKET - 1)));
    (bucket as i64, low as i64, high as i64)
}

impl Inner {
    pub(super) async fn timeline(
        &self,
        room: &RoomId,
        seqs: RangeInclusive<u64>,
        limit: usize,
        newest: bool,
    ) -> Result<Vec<EventRow>, ReadError> {
        let mut rows: Vec<EventRow> = Vec::new();
        if seqs.is_empty() {
            return Ok(rows);
        }
        let (first, last) = (bucket(*seqs.start()), bucket(*seqs.end()));
        let read = if newest { Read::TimelineNewest } else { Read::Timeline };
        for n in 0..=last - first {
            let left = limit - rows.len();
            if left == 0 {
                break;
            }
            let (bucket, low, high) = part(&seqs, if newest { last - n } else { first + n });
            let left = i32::try_from(left).unwrap_or(i32::MAX);
            let values = (room.as_str(), bucket, low, high, left);
            let found: Vec<EventColumns> = self.client.all(read, &values).await?;
            for columns in found {
                rows.push(event_row(columns)?);
            }
        }
        if newest {
            rows.reverse();
        }
        Ok(rows)
    }

    pub(super) async fn nonces(&self, room: &RoomId, seqs: RangeInclusive<u64>) -> Result<Vec<NonceRow>, ReadError> {
        let mut rows = Vec::new();
        if seqs.is_empty() {
            return Ok(rows);
        }
        for bucket in bucket(*seqs.start())..=bucket(*seqs.end()) {
            let (bucket, low, high) = part(&seqs, bucket);
            let found: Vec<NonceColumns> = self.client.all(Read::Nonces, &(room.as_str(), bucket, low, high)).await?;
            for columns in found {
                rows.extend(nonce_row(columns)?);
            }
        }
        Ok(rows)
    }
}
