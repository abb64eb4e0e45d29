//! Makes the attaches of the queue, each until its owner answers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sendpi_model::RoomId;
use sendpi_model::server_frame::MarkerFrame;
use tokio::time::sleep;

use crate::catch_up::attach_queue::DueAttach;
use crate::context::{NodeContext, lock};
use crate::keys::UserKey;
use crate::sign_in::attach::attach_one;
use crate::sign_in::room_list::markers_of;
use crate::state::{AttachTelling, OnlineUser};

/// The pause before an attach that failed is tried again.
const PAUSE: Duration = Duration::from_millis(500);

impl NodeContext {
    /// Attaches a user to rooms in the background. Each room comes with what the user's sessions are told then.
    pub(crate) fn attach_later(&self, user: UserKey, rooms: impl IntoIterator<Item = (RoomId, AttachTelling)>) {
        let mut queue = lock(&self.attaches);
        for (room, telling) in rooms {
            queue.add(self.partitions.of(&room), (user, room), telling);
        }
        drop(queue);
        self.attach_due.notify_one();
    }
}

/// Makes attaches until the node's shutdown.
pub(crate) async fn run(node: Arc<NodeContext>) {
    let mut under_way = FuturesUnordered::new();
    loop {
        while let Some(due) = next(&node) {
            under_way.push(make(&node, due));
        }
        tokio::select! {
            () = node.shutdown.cancelled() => return,
            () = node.attach_due.notified() => {}
            Some((due, answered)) = under_way.next() => lock(&node.attaches).ended(due, answered),
        }
    }
}

fn next(node: &NodeContext) -> Option<DueAttach> {
    lock(&node.attaches).next()
}

/// Makes one attach. Returns whether it is over, which it is as well if the user has left.
async fn make(node: &Arc<NodeContext>, due: DueAttach) -> (DueAttach, bool) {
    let present = node.state.lock().online_user(due.place.0);
    let Some(user) = present else { return (due, true) };
    match attach_one(node, &user, &due.place.1, due.telling).await {
        Ok(Some(_)) if due.telling == AttachTelling::IfMember => tell_marker(node, &user, &due.place.1).await,
        Ok(_) => {}
        Err(refusal) if node.state.lock().is_signed_in(&user) => {
            tracing::debug!(%refusal, user = %user.id, room = %due.place.1, "could not attach a user; retrying later");
            sleep(PAUSE).await;
            return (due, false);
        }
        // The sign-in that came after attaches by itself.
        Err(_) => {}
    }
    (due, true)
}

/// Tells the marker of a room that the sessions have just heard of: `room_added` has only what its owner knows.
async fn tell_marker(node: &Arc<NodeContext>, user: &OnlineUser, room: &RoomId) {
    match markers_of(node, &user.id, std::slice::from_ref(room)).await {
        Ok(marks) => {
            for mark in marks.into_iter().flatten() {
                let marker = MarkerFrame { room: room.clone(), seq: mark.seq, count: mark.count };
                node.with(|state, effects| state.send_marker(&user.id, &marker, None, effects));
            }
        }
        Err(refusal) => tracing::debug!(%refusal, user = %user.id, %room, "a new room is told without its marker"),
    }
}
