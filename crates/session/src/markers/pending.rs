//! Read markers that are not in the store yet: the last one of each user and room wins. And notices on their way to other nodes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use sendpi_model::{Mark, RoomId, UserId};
use tokio::sync::mpsc;

use crate::markers::notice::Notice;

/// PendingMarkers that wait at one time; what comes beyond is dropped: the next one of its room says more.
const WAITING: usize = 200_000;
/// Notices that wait at one time; they may be lost.
const NOTICES: usize = 1024;

/// Read markers that are not in the store yet.
#[derive(Debug)]
pub(crate) struct PendingMarkers {
    dirty: Mutex<HashMap<(UserId, RoomId), Mark>>,
    notices: mpsc::Sender<(UserId, Bytes)>,
}

/// Notices on their way to other nodes.
pub(crate) type Notices = mpsc::Receiver<(UserId, Bytes)>;

impl PendingMarkers {
    pub(crate) fn new() -> (Self, Notices) {
        let (notices, waiting) = mpsc::channel(NOTICES);
        (Self { dirty: Mutex::default(), notices }, waiting)
    }

    /// The user has read up to `mark`.
    pub(crate) fn set(&self, user: &UserId, room: &RoomId, mark: Mark) {
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (user.clone(), room.clone());
        if let Some(present) = dirty.get_mut(&key) {
            *present = mark.max(*present);
        } else if dirty.len() < WAITING {
            dirty.insert(key, mark);
        }
    }

    /// The user's marker in a room, where it is not in the store yet.
    pub(crate) fn get(&self, user: &UserId, room: &RoomId) -> Option<Mark> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner).get(&(user.clone(), room.clone())).copied()
    }

    /// Tells the nodes of a user something, if there is room for it now.
    pub(crate) fn publish_notice(&self, user: &UserId, notice: &Notice) {
        if let Err(error) = self.notices.try_send((user.clone(), notice.encode())) {
            tracing::debug!(%error, "a notice is lost");
        }
    }

    /// Takes out everything that waits.
    pub(crate) fn drain(&self) -> Vec<((UserId, RoomId), Mark)> {
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *dirty).into_iter().collect()
    }
}
