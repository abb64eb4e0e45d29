//! Read markers on their way to the store: the last one of each user and room wins, and all are written together.

pub(crate) mod notice;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sendpi_bus::subject;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::server_frame::{MarkerFrame, OkAnswer};
use sendpi_model::{Mark, Millis, RoomId, UserId};
use sendpi_store::{MarkerRow, Row, WriteError};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::client::outbound::Outbound;
use crate::context::{NodeContext, lock};
use crate::markers::notice::{Notice, VERSION, session_id};
use crate::owners::answer;
use crate::owners::reply_to::MarkerMove;

/// Markers that wait at one time; what comes beyond is dropped: the next one of its room says more.
const WAITING: usize = 200_000;
/// Notices that wait at one time; they may be lost.
const NOTICES: usize = 1024;

/// Read markers that are not in the store yet.
#[derive(Debug)]
pub(crate) struct Markers {
    dirty: Mutex<HashMap<(UserId, RoomId), Mark>>,
    notices: mpsc::Sender<(UserId, Bytes)>,
}

/// Notices on their way to other nodes.
pub(crate) type Notices = mpsc::Receiver<(UserId, Bytes)>;

impl Markers {
    pub(crate) fn new() -> (Self, Notices) {
        let (notices, waiting) = mpsc::channel(NOTICES);
        (Self { dirty: Mutex::default(), notices }, waiting)
    }

    /// The user has read up to `mark`.
    pub(crate) fn set(&self, user: &UserId, room: &RoomId, mark: Mark) {
        let mut dirty = lock(&self.dirty);
        let key = (user.clone(), room.clone());
        if let Some(present) = dirty.get_mut(&key) {
            *present = mark.max(*present);
        } else if dirty.len() < WAITING {
            dirty.insert(key, mark);
        }
    }

    /// The user's marker in a room, where it is not in the store yet.
    pub(crate) fn get(&self, user: &UserId, room: &RoomId) -> Option<Mark> {
        lock(&self.dirty).get(&(user.clone(), room.clone())).copied()
    }

    /// Tells the nodes of a user something, if there is room for it now.
    pub(crate) fn publish_notice(&self, user: &UserId, notice: &Notice) {
        if let Err(error) = self.notices.try_send((user.clone(), notice.encode())) {
            tracing::debug!(%error, "a notice is lost");
        }
    }

    fn drain(&self) -> Vec<((UserId, RoomId), Mark)> {
        let mut dirty = lock(&self.dirty);
        std::mem::take(&mut *dirty).into_iter().collect()
    }
}

impl NodeContext {
    /// An answer moves the user's marker.
    pub(crate) fn move_marker(&self, outbound: &Outbound, marks: &MarkerMove, frame: &[u8]) {
        if mutant(Mutant::MarkersOff) {
            return;
        }
        // A refusal moves nothing.
        let Ok(answer) = answer::read::<OkAnswer>(frame) else { return };
        let (Some(mark), Some(user)) = (answer.mark(), outbound.user()) else { return };
        self.markers.set(user, &marks.room, mark);
        if let Some(key) = marks.tell {
            let marker = MarkerFrame { room: marks.room.clone(), seq: mark.seq, count: mark.count };
            let session = session_id(self.bus.node(), key);
            let notice = Notice { v: VERSION, session, marker: Some(marker), replaced: None, at: Millis::now() };
            self.markers.publish_notice(user, &notice);
        }
    }

    /// Writes the markers that wait.
    pub(crate) async fn write_markers(&self) {
        let markers = self.markers.drain();
        if markers.is_empty() {
            return;
        }
        let row = |((user, room), mark): &((UserId, RoomId), Mark)| {
            Row::Marker(MarkerRow { user: user.clone(), room: room.clone(), mark: *mark })
        };
        match self.store.write(markers.iter().map(row).collect()).await {
            Ok(()) => {}
            Err(error @ (WriteError::Failed(_) | WriteError::Unknown(_))) => {
                tracing::warn!(%error, markers = markers.len(), "read markers are written again");
                markers.iter().for_each(|((user, room), mark)| self.markers.set(user, room, *mark));
            }
        }
    }
}

/// Writes markers until the node's shutdown, and then once more.
pub(crate) async fn run(node: Arc<NodeContext>) {
    let mut ticks = interval(node.config.markers_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while node.shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        node.write_markers().await;
    }
    node.write_markers().await;
}

/// Publishes notices until the node's shutdown.
pub(crate) async fn run_notices(node: Arc<NodeContext>, mut notices: Notices) {
    while let Some(Some((user, notice))) = node.shutdown.run_until_cancelled(notices.recv()).await {
        if let Err(error) = node.bus.publish(subject::user(&user), notice).await {
            tracing::debug!(%error, "a notice is lost");
        }
    }
}
