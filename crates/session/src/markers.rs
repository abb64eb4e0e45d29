//! Read markers on their way to the store, and notices to the nodes of a user. The highest marker of each user and
//! room wins, and all markers are written together.

pub(crate) mod notice;
pub(crate) mod notice_receiver;
pub(crate) mod pending;

use std::sync::Arc;

use sendpi_bus::subject;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::server_frame::{MarkerFrame, OkAnswer, read_answer};
use sendpi_model::{Mark, Millis, RoomId, UserId};
use sendpi_store::{MarkerRow, Row, WriteError};
use tokio::time::{MissedTickBehavior, interval};

use crate::client::outbound::Outbound;
use crate::context::NodeContext;
use crate::markers::notice::{Notice, VERSION, session_id};
use crate::owners::reply_to::MarkerMove;

impl NodeContext {
    /// Moves the user's read marker to the place that an answer names. Tells the user's other devices if `marks`
    /// says so.
    pub(crate) fn move_marker(&self, outbound: &Outbound, marks: &MarkerMove, frame: &[u8]) {
        if mutant(Mutant::MarkersOff) {
            return;
        }
        // A refusal moves nothing.
        let Ok(answer) = read_answer::<OkAnswer>(frame) else { return };
        let (Some(mark), Some(user)) = (answer.mark(), outbound.user()) else { return };
        self.markers.set(user, &marks.room, mark);
        if let Some(key) = marks.tell {
            let marker = MarkerFrame { room: marks.room.clone(), seq: mark.seq, count: mark.count };
            let session = session_id(self.bus.node(), key);
            let notice = Notice { v: VERSION, session, marker: Some(marker), replaced: None, at: Millis::now() };
            self.markers.publish_notice(user, &notice);
        }
    }

    /// Writes all pending markers. Markers that could not be written, or may not have been, become pending again.
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
                tracing::warn!(%error, markers = markers.len(), "could not write read markers; retrying later");
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
pub(crate) async fn run_notices(node: Arc<NodeContext>, mut notices: pending::Notices) {
    while let Some(Some((user, notice))) = node.shutdown.run_until_cancelled(notices.recv()).await {
        if let Err(error) = node.bus.publish(subject::user(&user), notice).await {
            tracing::debug!(%error, "could not publish a notice; it is lost");
        }
    }
}
