//! Read markers: moving them, writing them to the store, and telling the nodes of a user. The highest marker of each
//! user and room wins, and all markers are written together.

pub(crate) mod notice;
pub(crate) mod notice_receiver;
pub(crate) mod pending;

use std::sync::Arc;

use sendpi_bus::subject;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::server_frame::{MarkerFrame, OkAnswer, OpFrame, read_answer};
use sendpi_model::{FrameId, Mark, Millis, Refusal, RoomId, UserId};
use sendpi_store::{MarkerRow, Row, WriteError};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::client::outbound::Outbound;
use crate::context::NodeContext;
use crate::keys::SessionKey;
use crate::markers::notice::{Notice, VERSION, session_id};
use crate::markers::pending::{MovedBy, UserMark};
use crate::owners::answer;
use crate::sign_in::room_list::markers_of;

impl NodeContext {
    /// Moves the marker of a user to the message that the answer to its `send` names.
    pub(crate) fn move_to_own_message(&self, user: &UserId, room: &RoomId, frame: &[u8]) {
        if mutant(Mutant::MarkersOff) {
            return;
        }
        // A refusal moves nothing.
        let Some(mark) = read_answer::<OkAnswer>(frame).ok().and_then(|answer| answer.mark()) else { return };
        if self.markers.raise(user, room, mark, MovedBy::OwnMessage, Instant::now()).is_err() {
            tracing::debug!(%user, "too many markers are kept; a message of one's own moves none");
        }
    }

    /// Notes markers that moved on another node, and tells the user's sessions here of those that are news.
    pub(crate) fn hear_markers(self: &Arc<Self>, user: &UserId, markers: &[MarkerFrame]) {
        let now = Instant::now();
        self.with(|state, effects| {
            for marker in markers {
                let mark = Mark { seq: marker.seq, count: marker.count };
                // What cannot be kept is told all the same. A client ignores a marker that is not higher.
                if self.markers.raise(user, &marker.room, mark, MovedBy::OtherNode, now).unwrap_or(true) {
                    state.send_marker(user, marker, None, effects);
                }
            }
        });
    }

    /// Writes the markers that are not in the store yet. Those that could not be written, or may not have been, are
    /// written the next time. Tells the nodes of users who have left this one: a session that signed in elsewhere may
    /// have listed its rooms before the write.
    pub(crate) async fn write_markers(&self) {
        self.markers.forget_old(Instant::now());
        let mut markers = self.markers.unwritten();
        if markers.is_empty() {
            return;
        }
        let row = |(user, room, mark): &UserMark| {
            Row::Marker(MarkerRow { user: user.clone(), room: room.clone(), mark: *mark })
        };
        match self.store.write(markers.iter().map(row).collect()).await {
            Ok(()) => self.markers.written(&markers),
            Err(error @ (WriteError::Failed(_) | WriteError::Unknown(_))) => {
                tracing::warn!(%error, markers = markers.len(), "could not write read markers; retrying later");
                return;
            }
        }
        {
            let state = self.state.lock();
            markers.retain(|(user, ..)| !state.has_sessions(user));
        }
        for (user, room, mark) in markers {
            let notice = self.marker_notice(MarkerFrame { room, seq: mark.seq, count: mark.count }, None);
            if let Err(error) = self.bus.publish(subject::user(&user), notice.encode()).await {
                tracing::debug!(%error, "could not publish a notice; it is lost");
            }
        }
    }

    fn marker_notice(&self, marker: MarkerFrame, session: Option<SessionKey>) -> Notice {
        let session = session_id(self.bus.node(), session.unwrap_or_default());
        Notice { v: VERSION, session, marker: Some(marker), at: Millis::now() }
    }

    /// Moves the user's marker to the place that the owner's answer to a `read` names, and tells the other devices if
    /// it rose. Returns the marker as it is now.
    pub(crate) async fn read_up_to(
        self: &Arc<Self>,
        user: &UserId,
        room: &RoomId,
        session: SessionKey,
        frame: &[u8],
    ) -> Result<Mark, Refusal> {
        let asked = answer::read::<OkAnswer>(frame)?.mark().ok_or_else(answer::unavailable)?;
        let known = match self.markers.get(user, room) {
            Some(known) => Some(known),
            None => markers_of(self, user, std::slice::from_ref(room)).await?.pop().flatten(),
        };
        if mutant(Mutant::MarkersOff) {
            return Ok(asked);
        }
        if known.is_some_and(|known| known >= asked) {
            return Ok(known.unwrap_or(asked));
        }
        let marker = MarkerFrame { room: room.clone(), seq: asked.seq, count: asked.count };
        // Under the lock of the state, so that the devices of this node are told in the order in which it rose.
        let rose = self.with(|state, effects| {
            let rose = self.markers.raise(user, room, asked, MovedBy::Read, Instant::now());
            if rose == Ok(true) {
                state.send_marker(user, &marker, Some(session), effects);
            }
            rose
        });
        match rose {
            Ok(true) => self.markers.publish_notice(user, &self.marker_notice(marker, Some(session))),
            Ok(false) => {}
            Err(_) => return Err(Refusal::unavailable("too many markers are to be written", 1_000)),
        }
        Ok(self.markers.get(user, room).map_or(asked, |known| known.max(asked)))
    }
}

/// Answers a client's `read`, whose owner has answered with `frame`.
pub(crate) async fn answer_read(
    node: Arc<NodeContext>,
    (outbound, id): (Arc<Outbound>, Option<FrameId>),
    (session, room): (SessionKey, RoomId),
    frame: bytes::Bytes,
) {
    let answer = match outbound.user() {
        Some(user) => node.read_up_to(user, &room, session, &frame).await,
        None => Err(answer::unavailable()),
    };
    outbound.end_request();
    match answer {
        Ok(mark) => outbound.answer(&OkAnswer::marker(mark).to_frame(), id.as_ref()),
        Err(refusal) => outbound.refuse(&refusal, id.as_ref()),
    }
    outbound.flush_now();
}

/// Writes markers until the node's shutdown, and then once more. Those of a user who leaves are written at once.
pub(crate) async fn run(node: Arc<NodeContext>) {
    let mut ticks = interval(node.config.markers_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = node.shutdown.cancelled() => break,
            _ = ticks.tick() => {}
            () = node.markers_due.notified() => {}
        }
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
