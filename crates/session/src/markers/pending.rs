//! The read markers that are not in the store yet, the highest one of each user and room. Also the queue of notices
//! that are not published yet.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use sendpi_model::{Mark, RoomId, UserId};
use tokio::sync::mpsc;

use crate::markers::notice::Notice;

/// The most markers that wait to be written. Further ones are dropped; the next marker of the same room makes up
/// for them.
const WAITING: usize = 200_000;
/// The most notices that wait to be published. Further ones are lost.
const NOTICES: usize = 1024;

/// The read markers that are not in the store yet.
#[derive(Debug)]
pub(crate) struct PendingMarkers {
    dirty: Mutex<HashMap<(UserId, RoomId), Mark>>,
    notices: mpsc::Sender<(UserId, Bytes)>,
}

/// The queue of notices that are not published yet.
pub(crate) type Notices = mpsc::Receiver<(UserId, Bytes)>;

impl PendingMarkers {
    pub(crate) fn new() -> (Self, Notices) {
        let (notices, waiting) = mpsc::channel(NOTICES);
        (Self { dirty: Mutex::default(), notices }, waiting)
    }

    /// Notes that the user has read up to `mark`.
    pub(crate) fn set(&self, user: &UserId, room: &RoomId, mark: Mark) {
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (user.clone(), room.clone());
        if let Some(present) = dirty.get_mut(&key) {
            *present = mark.max(*present);
        } else if dirty.len() < WAITING {
            dirty.insert(key, mark);
        }
    }

    /// Returns the user's marker in a room if it is not in the store yet.
    pub(crate) fn get(&self, user: &UserId, room: &RoomId) -> Option<Mark> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner).get(&(user.clone(), room.clone())).copied()
    }

    /// Queues a notice to the nodes of a user. The notice is lost if the queue is full.
    pub(crate) fn publish_notice(&self, user: &UserId, notice: &Notice) {
        if let Err(error) = self.notices.try_send((user.clone(), notice.encode())) {
            tracing::debug!(%error, "could not queue a notice; it is lost");
        }
    }

    /// Drains all pending markers.
    pub(crate) fn drain(&self) -> Vec<((UserId, RoomId), Mark)> {
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *dirty).into_iter().collect()
    }
}
