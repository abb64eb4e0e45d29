//! The write path: the rows of one write by the partitions that they are in. Each partition is written in order, in
//! batches; the partitions are written side by side.

use std::collections::HashMap;

use futures_util::StreamExt;
use futures_util::stream;
use scylla::value::CqlValue;
use sendpi_model::Partition;

use super::Inner;
use super::active_hours::hour;
use super::columns::{BoundRow, hour_values};
use super::outcome::{of_all, partly};
use super::statements::Write;
use crate::{Row, WriteError};

/// The most partitions of one write that are written at one time.
const PARTITIONS: usize = 32;
/// The most rows of a batch.
const BATCH_ROWS: usize = 256;
/// The most bytes of a batch. Beyond 16 MiB, half of a segment of the commit log, a database refuses it.
const BATCH_BYTES: usize = 1024 * 1024;

/// What is written one batch after the other.
#[derive(Debug)]
struct Sequence {
    write: Write,
    /// The hour of `active_rooms` that must be known before.
    hour: Option<(Partition, u64)>,
    batches: Vec<Vec<Vec<CqlValue>>>,
}

impl Inner {
    pub(super) async fn write(&self, rows: &[Row]) -> Result<(), WriteError> {
        let sequences = sequences(rows).map_err(|error| WriteError::Failed(error.to_string()))?;
        let outcomes = stream::iter(sequences).map(|sequence| self.write_in_order(sequence));
        of_all(outcomes.buffer_unordered(PARTITIONS).collect().await)
    }

    async fn write_in_order(&self, sequence: Sequence) -> Result<(), WriteError> {
        let Sequence { write, hour, batches } = sequence;
        if let Some((partition, hour)) = hour.filter(|(partition, hour)| !self.hours.is_written(*partition, *hour)) {
            // A row without its hour would never be found. An hour without rows is only read in vain.
            self.client.write(Write::ActiveHour, &[hour_values(partition, hour)]).await?;
            self.hours.written(partition, hour);
        }
        let mut is_begun = false;
        for batch in batches {
            match self.client.write(write, &batch).await {
                Ok(()) => is_begun = true,
                Err(WriteError::Failed(why)) if is_begun => return Err(partly(why)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Returns the rows by their partitions, each in order. The buckets of one timeline are one sequence, so that its
/// events are never seen without those before them.
fn sequences(rows: &[Row]) -> Result<Vec<Sequence>, serde_json::Error> {
    let mut places: HashMap<(Write, String), usize> = HashMap::new();
    let mut sequences: Vec<(Sequence, String, usize)> = Vec::new();
    for row in rows {
        let bound = BoundRow::of(row)?;
        let whole = match row {
            Row::Event(room, _) | Row::Revised(room, ..) => room.to_string(),
            _ => bound.partition.clone(),
        };
        let hour = match row {
            Row::ActiveRoom(row) => Some((row.partition, hour(row.minute))),
            _ => None,
        };
        let place = *places.entry((bound.write, whole)).or_insert_with(|| {
            sequences.push((Sequence { write: bound.write, hour, batches: Vec::new() }, String::new(), 0));
            sequences.len() - 1
        });
        let (sequence, partition, bytes) = &mut sequences[place];
        match sequence.batches.last_mut() {
            Some(batch)
                if *partition == bound.partition && batch.len() < BATCH_ROWS && *bytes + bound.bytes <= BATCH_BYTES =>
            {
                batch.push(bound.values);
                *bytes += bound.bytes;
            }
            _ => {
                sequence.batches.push(vec![bound.values]);
                (*partition, *bytes) = (bound.partition, bound.bytes);
            }
        }
    }
    Ok(sequences.into_iter().map(|(sequence, ..)| sequence).collect())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sendpi_model::{Event, EventKind, Head, Millis, RoomId, UserId};

    use super::*;
    use crate::{EventRow, TIMELINE_BUCKET};

    fn event(room: &str, seq: u64, bytes: usize) -> Row {
        let (head, from) = (Head { seq, count: seq, at: Millis(seq) }, UserId::parse("ann").unwrap());
        let frame = Bytes::from(vec![b'x'; bytes]);
        let event = Event { head, kind: EventKind::Message, from, nonce: None, frame };
        Row::Event(RoomId::parse(room).unwrap(), EventRow { epoch: 1, event, expires: None })
    }

    fn lengths(rows: &[Row]) -> Vec<Vec<usize>> {
        let sequences = sequences(rows).unwrap().into_iter();
        sequences.map(|sequence| sequence.batches.iter().map(Vec::len).collect()).collect()
    }

    #[test]
    fn a_batch_is_one_partition_and_rooms_are_written_side_by_side() {
        let border = TIMELINE_BUCKET;
        let rows = [event("a", border - 1, 9), event("b", 1, 9), event("a", border, 9), event("a", border + 1, 9)];
        assert_eq!(lengths(&rows), [vec![1, 2], vec![1]]);
    }

    #[test]
    fn batches_are_limited_in_rows_and_bytes() {
        let many: Vec<Row> = (1..=600).map(|seq| event("a", seq, 9)).collect();
        assert_eq!(lengths(&many), [vec![256, 256, 88]]);
        let large: Vec<Row> = (1..=7).map(|seq| event("a", seq, 400 * 1024)).collect();
        assert_eq!(lengths(&large), [vec![2, 2, 2, 1]]);
    }
}
