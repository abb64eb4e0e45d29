//! A page of a user's rooms, collected from rows that come in another order.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use sendpi_model::{Millis, RoomId};

use crate::RoomOfUser;

/// The place of a room in the list: the newest first, and then by room.
type Place = (Reverse<Millis>, RoomId);

/// The first rows behind the last one of the page before. It keeps no more than that many rows.
#[derive(Debug)]
pub(crate) struct NewestRooms {
    after: Option<Place>,
    limit: usize,
    first: BTreeMap<Place, RoomOfUser>,
}

impl NewestRooms {
    pub(crate) fn new(after: Option<(Millis, RoomId)>, limit: usize) -> Self {
        Self { after: after.map(|(at, room)| (Reverse(at), room)), limit, first: BTreeMap::new() }
    }

    /// Looks at a row, which may be of a room that the user left.
    pub(crate) fn take(&mut self, row: RoomOfUser) {
        let place = (Reverse(row.active_at), row.room.clone());
        if row.role.is_some() && self.after.as_ref().is_none_or(|after| place > *after) {
            self.first.insert(place, row);
            if self.first.len() > self.limit {
                self.first.pop_last();
            }
        }
    }

    /// Returns the page.
    pub(crate) fn rows(self) -> Vec<RoomOfUser> {
        self.first.into_values().collect()
    }
}
