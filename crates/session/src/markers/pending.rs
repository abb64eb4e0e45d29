//! The read markers that moved lately, the highest one of each user and room: those of this node until they are in the
//! store and for a while after, and those that other nodes told of. Also the queue of notices that are not published
//! yet.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sendpi_model::server_frame::MarkerFrame;
use sendpi_model::{Mark, RoomId, UserId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::markers::notice::Notice;

/// The most markers that are kept. Further ones take the place of the oldest that are in the store. If half of them are
/// still to be written, further ones are refused.
const KEPT: usize = 200_000;
/// How long a marker is kept that is in the store. Longer than a sign-in takes: its list of rooms may have been read
/// before the marker was written.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// The most markers that are told to another node at once.
const TOLD: usize = 1_000;
/// The most notices that wait to be published. Further ones are lost.
const NOTICES: usize = 1024;

/// What moved a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MovedBy {
    /// A `read` on this node.
    Read,
    /// The user's own message, sent on this node. The devices get the message, so they are not told of the marker.
    OwnMessage,
    /// Another node, which writes it.
    OtherNode,
}

/// Too many markers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MarkersFull;

#[derive(Debug)]
struct RecentMarker {
    mark: Mark,
    by: MovedBy,
    /// Whether this node still has to write it.
    unwritten: bool,
    moved: Instant,
}

#[derive(Debug, Default)]
struct RecentMarkers {
    users: HashMap<UserId, HashMap<RoomId, RecentMarker>>,
    count: usize,
    /// How many are still to be written.
    unwritten: usize,
}

/// The read markers that moved lately.
#[derive(Debug)]
pub(crate) struct PendingMarkers {
    recent: Mutex<RecentMarkers>,
    limit: usize,
    notices: mpsc::Sender<(UserId, Bytes)>,
}

impl RecentMarkers {
    /// Keeps only the markers for which `keep` returns `true`.
    fn retain(&mut self, mut keep: impl FnMut(&RecentMarker) -> bool) {
        self.users.retain(|_, rooms| {
            rooms.retain(|_, marker| keep(marker));
            !rooms.is_empty()
        });
        self.count = self.users.values().map(HashMap::len).sum();
    }

    /// Forgets the older half of the markers that are in the store. Half of them, so that this is seldom needed.
    fn forget_older_half(&mut self) {
        let written = self.users.values().flat_map(HashMap::values).filter(|marker| !marker.unwritten);
        let mut moved: Vec<Instant> = written.map(|marker| marker.moved).collect();
        let Some(last) = moved.len().checked_sub(1) else { return };
        let middle = *moved.select_nth_unstable(last / 2).1;
        self.retain(|marker| marker.unwritten || marker.moved > middle);
    }
}

/// The queue of notices that are not published yet.
pub(crate) type Notices = mpsc::Receiver<(UserId, Bytes)>;

/// A user's marker in a room.
pub(crate) type UserMark = (UserId, RoomId, Mark);

impl PendingMarkers {
    pub(crate) fn new() -> (Self, Notices) {
        Self::within(KEPT)
    }

    fn within(limit: usize) -> (Self, Notices) {
        let (notices, waiting) = mpsc::channel(NOTICES);
        (Self { recent: Mutex::default(), limit, notices }, waiting)
    }

    fn recent(&self) -> MutexGuard<'_, RecentMarkers> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a marker is at `mark`. Returns whether that is higher than what was known here.
    ///
    /// # Errors
    /// Returns [`MarkersFull`] if no marker is known for the room and too many are still to be written.
    pub(crate) fn raise(
        &self,
        user: &UserId,
        room: &RoomId,
        mark: Mark,
        by: MovedBy,
        now: Instant,
    ) -> Result<bool, MarkersFull> {
        let mut recent = self.recent();
        let recent = &mut *recent;
        let own = by != MovedBy::OtherNode;
        if let Some(known) = recent.users.get_mut(user).and_then(|rooms| rooms.get_mut(room)) {
            let rose = mark > known.mark;
            if rose {
                recent.unwritten += usize::from(own && !known.unwritten);
                *known = RecentMarker { mark, by, unwritten: own || known.unwritten, moved: now };
            }
            return Ok(rose);
        }
        if recent.unwritten >= self.limit / 2 {
            return Err(MarkersFull);
        }
        if recent.count >= self.limit {
            recent.forget_older_half();
        }
        recent.count += 1;
        recent.unwritten += usize::from(own);
        let marker = RecentMarker { mark, by, unwritten: own, moved: now };
        recent.users.entry(user.clone()).or_default().insert(room.clone(), marker);
        Ok(true)
    }

    /// Returns the user's marker in a room if it moved lately.
    pub(crate) fn get(&self, user: &UserId, room: &RoomId) -> Option<Mark> {
        Some(self.recent().users.get(user)?.get(room)?.mark)
    }

    /// Returns the markers of a user that reads on this node moved lately, the newest first.
    pub(crate) fn moved_lately(&self, user: &UserId) -> Vec<MarkerFrame> {
        let recent = self.recent();
        let rooms = recent.users.get(user).into_iter().flatten();
        let mut read: Vec<_> = rooms.filter(|(_, marker)| marker.by == MovedBy::Read).collect();
        read.sort_by_key(|(_, marker)| std::cmp::Reverse(marker.moved));
        read.truncate(TOLD);
        let frame = |(room, RecentMarker { mark, .. }): (&RoomId, &RecentMarker)| MarkerFrame {
            room: room.clone(),
            seq: mark.seq,
            count: mark.count,
        };
        read.into_iter().map(frame).collect()
    }

    /// Returns whether a marker of the user is still to be written.
    pub(crate) fn is_unwritten(&self, user: &UserId) -> bool {
        self.recent().users.get(user).is_some_and(|rooms| rooms.values().any(|marker| marker.unwritten))
    }

    /// Returns all markers that are still to be written. They stay so until [`PendingMarkers::written`].
    pub(crate) fn unwritten(&self) -> Vec<UserMark> {
        let recent = self.recent();
        let all = recent.users.iter().flat_map(|(user, rooms)| rooms.iter().map(move |(room, m)| (user, room, m)));
        all.filter(|(.., m)| m.unwritten).map(|(user, room, m)| (user.clone(), room.clone(), m.mark)).collect()
    }

    /// Notes that these markers are in the store. One that has moved since is still to be written.
    pub(crate) fn written(&self, markers: &[UserMark]) {
        let mut recent = self.recent();
        let RecentMarkers { users, unwritten, .. } = &mut *recent;
        for (user, room, mark) in markers {
            if let Some(marker) = users.get_mut(user).and_then(|rooms| rooms.get_mut(room))
                && marker.mark == *mark
                && std::mem::take(&mut marker.unwritten)
            {
                *unwritten -= 1;
            }
        }
    }

    /// Forgets the markers that have been in the store for long.
    pub(crate) fn forget_old(&self, now: Instant) {
        self.recent().retain(|marker| marker.unwritten || now - marker.moved < KEPT_FOR);
    }

    /// Queues a notice to the nodes of a user. The notice is lost if the queue is full.
    pub(crate) fn publish_notice(&self, user: &UserId, notice: &Notice) {
        if let Err(error) = self.notices.try_send((user.clone(), notice.encode())) {
            tracing::debug!(%error, "could not queue a notice; it is lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(seq: u64) -> Mark {
        Mark { seq, count: seq }
    }

    fn markers() -> (PendingMarkers, UserId, RoomId, Instant) {
        let (markers, _) = PendingMarkers::new();
        (markers, UserId::parse("ann").unwrap(), RoomId::parse("r").unwrap(), Instant::now())
    }

    #[test]
    fn a_marker_only_rises_whoever_moves_it() {
        let (markers, ann, r, now) = markers();
        assert_eq!(markers.raise(&ann, &r, mark(18), MovedBy::OtherNode, now), Ok(true));
        assert_eq!(markers.raise(&ann, &r, mark(14), MovedBy::Read, now), Ok(false));
        assert_eq!(markers.raise(&ann, &r, mark(18), MovedBy::Read, now), Ok(false));
        assert_eq!((markers.get(&ann, &r), markers.unwritten()), (Some(mark(18)), vec![]));
        assert_eq!(markers.raise(&ann, &r, mark(19), MovedBy::Read, now), Ok(true));
        assert_eq!(markers.unwritten(), [(ann, r, mark(19))]);
    }

    #[test]
    fn a_marker_is_found_until_it_is_written_and_for_a_while_after() {
        let (markers, ann, r, now) = markers();
        markers.raise(&ann, &r, mark(4), MovedBy::Read, now).unwrap();
        let writing = markers.unwritten();
        assert_eq!(markers.get(&ann, &r), Some(mark(4)));
        markers.raise(&ann, &r, mark(5), MovedBy::Read, now).unwrap();
        markers.written(&writing);
        assert!(markers.is_unwritten(&ann), "it moved while the row was being written");
        markers.forget_old(now + 2 * KEPT_FOR);
        markers.written(&markers.unwritten());
        markers.forget_old(now + KEPT_FOR / 2);
        assert_eq!((markers.get(&ann, &r), markers.is_unwritten(&ann)), (Some(mark(5)), false));
        markers.forget_old(now + KEPT_FOR);
        assert_eq!((markers.get(&ann, &r), markers.recent().count), (None, 0));
    }

    #[test]
    fn new_markers_take_the_place_of_the_oldest_written_ones_and_of_no_others() {
        let (_, ann, _, now) = markers();
        let (markers, _) = PendingMarkers::within(10);
        let room = |n: u64| RoomId::parse(&format!("r{n}")).unwrap();
        let raise = |n: u64| markers.raise(&ann, &room(n), mark(n + 1), MovedBy::Read, now + Duration::from_millis(n));
        (0..5).for_each(|n| assert_eq!(raise(n), Ok(true)));
        assert_eq!(raise(5), Err(MarkersFull), "too many are still to be written");
        markers.written(&markers.unwritten());
        (5..10).for_each(|n| assert_eq!(raise(n), Ok(true)));
        assert_eq!(raise(10), Err(MarkersFull));
        let six = vec![(ann.clone(), room(6), mark(7))];
        markers.written(&six);
        markers.written(&six);
        assert_eq!(raise(10), Ok(true));
        let known = |n: u64| markers.get(&ann, &room(n)).is_some();
        assert_eq!((0..11).filter(|n| known(*n)).collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(markers.recent().count, 8);
        for n in 11..1000 {
            markers.written(&markers.unwritten());
            assert_eq!(raise(n), Ok(true), "what was written refuses nobody");
        }
        assert!(markers.recent().count <= 10);
    }

    #[test]
    fn other_nodes_hear_of_what_was_read_and_not_of_own_messages() {
        let (markers, ann, r, now) = markers();
        let s = RoomId::parse("s").unwrap();
        markers.raise(&ann, &r, mark(4), MovedBy::OwnMessage, now).unwrap();
        markers.raise(&ann, &s, mark(3), MovedBy::Read, now).unwrap();
        assert_eq!(markers.moved_lately(&ann), [MarkerFrame { room: s, seq: 3, count: 3 }]);
        assert_eq!(markers.unwritten().len(), 2);
    }
}
