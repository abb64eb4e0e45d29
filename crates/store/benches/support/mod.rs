//! The events that the benchmarks write.

use std::error::Error;

use bytes::Bytes;
use sendpi_model::{Event, EventKind, Head, Millis, RoomId, UserId};
use sendpi_store::{EventRow, Row};

/// The timelines of rooms that get events in turn.
pub(crate) struct BenchTimelines {
    from: UserId,
    frame: Bytes,
    pub(crate) rooms: Vec<(RoomId, u64)>,
    next: usize,
}

impl BenchTimelines {
    pub(crate) fn new(prefix: &str, rooms: u64) -> Result<Self, Box<dyn Error>> {
        let rooms = (0..rooms).map(|n| Ok((RoomId::parse(&format!("{prefix}-{n}"))?, 0)));
        let rooms = rooms.collect::<Result<_, sendpi_model::IdError>>()?;
        let frame = Bytes::from(format!(r#"{{"op":"event","body":{{"text":"{}"}}}}"#, "x".repeat(265)));
        Ok(Self { from: UserId::parse("ann")?, frame, rooms, next: 0 })
    }

    pub(crate) fn batch(&mut self, size: usize) -> Vec<Row> {
        (0..size)
            .map(|_| {
                self.next = (self.next + 1) % self.rooms.len();
                let (room, seq) = &mut self.rooms[self.next];
                *seq += 1;
                let head = Head { seq: *seq, count: *seq, at: Millis(*seq) };
                let (from, frame) = (self.from.clone(), self.frame.clone());
                let event = Event { head, kind: EventKind::Message, from, nonce: None, frame };
                Row::Event(room.clone(), EventRow { epoch: 1, event, expires: None })
            })
            .collect()
    }
}
