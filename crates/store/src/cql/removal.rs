//! Removes what is left of rooms that were deleted. These are the only deletions there are.

use scylla::value::CqlValue;
use sendpi_model::{Millis, Partition, RoomId};

use super::Inner;
use super::columns::{number, partition_number, text};
use super::statements::{Read, Write};
use crate::WriteError;

/// Returns the timestamp of a removal, in microseconds. It is above the stamps of all rows that it removes: those rise
/// with the seq of the room, and are far below the time.
fn timestamp() -> CqlValue {
    number(Millis::now().0 * 1_000)
}

impl Inner {
    pub(super) async fn remove_events(&self, room: &RoomId, piece: u64) -> Result<usize, WriteError> {
        let seqs = self.client.all::<(i64,), _>(Read::Seqs, &(room.as_str(), piece as i64)).await;
        let events = seqs.map_err(|error| WriteError::Failed(error.to_string()))?.len();
        // A tombstone for what is not there would be read in vain.
        if events > 0 {
            let values = vec![timestamp(), text(room.as_str()), number(piece)];
            self.client.write(Write::RemoveEvents, &[values]).await?;
        }
        Ok(events)
    }

    pub(super) async fn remove_room(&self, partition: Partition, room: &RoomId) -> Result<(), WriteError> {
        for write in [Write::RemoveStarts, Write::RemoveMembers, Write::RemovePushed] {
            self.client.write(write, &[vec![timestamp(), text(room.as_str())]]).await?;
        }
        let values = vec![timestamp(), partition_number(partition), text(room.as_str())];
        self.client.write(Write::RemoveDeletedRoom, &[values]).await
    }
}
