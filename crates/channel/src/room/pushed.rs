//! What of a room is in the push stream already. It is kept for the next owner, who must not push it again.

use std::collections::VecDeque;
use std::sync::Arc;

use sendpi_model::{RoomId, UserId};
use sendpi_store::{PushedRange, PushedRow, Stamp};

/// The most ranges that are kept. If there are more, the oldest are forgotten, and may be pushed twice after a crash.
const RANGES: usize = 64;

/// The ranges that are in the push stream, oldest first.
#[derive(Debug, Default)]
pub(crate) struct PushedLog {
    ranges: VecDeque<(u64, u64, Arc<[UserId]>)>,
    /// The highest seq of all ranges there ever were.
    last: u64,
    /// The stamp of the last row.
    stamp: Stamp,
}

impl PushedLog {
    /// Adds that the push stream has everything that `users` want of a range.
    pub(crate) fn add(&mut self, first: u64, last: u64, users: Arc<[UserId]>) {
        self.last = self.last.max(last);
        match self.ranges.back_mut() {
            // The same list means that nobody of it came online in between.
            Some(known) if Arc::ptr_eq(&known.2, &users) && known.1 < first => known.1 = last,
            _ => self.ranges.push_back((first, last, users)),
        }
        while self.ranges.len() > RANGES {
            self.ranges.pop_front();
        }
    }

    /// Returns the row for the next owner. Forgets what lies below `unsettled`, which no owner dispatches again.
    pub(crate) fn row(&mut self, room: &RoomId, unsettled: u64) -> PushedRow {
        self.ranges.retain(|(_, last, _)| *last >= unsettled);
        self.stamp = self.stamp.next().max(Stamp::of(self.last));
        let range = |(first, last, users): &(u64, u64, Arc<[UserId]>)| {
            let users = users.iter().map(PushedRange::name).collect();
            PushedRange { first: *first, last: *last, users }
        };
        PushedRow { room: room.clone(), stamp: self.stamp, ranges: self.ranges.iter().map(range).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(names: &[&str]) -> Arc<[UserId]> {
        names.iter().map(|name| UserId::parse(name).unwrap()).collect()
    }

    fn ranges(row: &PushedRow) -> Vec<(u64, u64, usize)> {
        row.ranges.iter().map(|range| (range.first, range.last, range.users.len())).collect()
    }

    #[test]
    fn ranges_for_the_same_list_are_one_until_somebody_came_or_went() {
        let (mut log, room) = (PushedLog::default(), RoomId::parse("r").unwrap());
        let list = users(&["ann", "bob"]);
        log.add(2, 5, Arc::clone(&list));
        log.add(7, 7, Arc::clone(&list));
        log.add(8, 9, users(&["ann", "bob"]));
        assert_eq!(ranges(&log.row(&room, 0)), [(2, 7, 2), (8, 9, 2)]);
        assert_eq!(ranges(&log.row(&room, 8)), [(8, 9, 2)]);
        let nothing = log.row(&room, 10);
        assert_eq!((nothing.ranges.len(), nothing.stamp), (0, Stamp::of(9).next().next()));
    }

    #[test]
    fn the_ranges_are_limited() {
        let mut log = PushedLog::default();
        (1..200).for_each(|seq| log.add(seq, seq, users(&["ann"])));
        assert_eq!(log.ranges.len(), RANGES);
    }
}
