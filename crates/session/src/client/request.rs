//! What a client asks of a room: goes into the flow to the room's owner, and the answer straight back into the session's queue.

use std::sync::Arc;

use sendpi_model::{FrameId, Nonce, RoomId, Verb, flow};
use tokio::time::Instant;

use super::session::Session;
use crate::context::lock;
use crate::owners::answer;
use crate::owners::reply_to::{MarkerMove, ReplyTo};

/// A message needs a name, so that the owner can tell when it is sent again.
fn fresh_nonce() -> Option<Nonce> {
    Nonce::parse(&format!("{:032x}", rand::random::<u128>())).ok()
}

impl Session {
    pub(super) fn request(&self, id: Option<FrameId>, room: RoomId, verb: Verb) {
        match verb {
            Verb::Typing => self.typing(&room),
            Verb::Send { body, nonce, retry, mentions } => {
                let verb = Verb::Send { body, nonce: nonce.or_else(fresh_nonce), retry, mentions };
                let marks = MarkerMove { room: room.clone(), tell: None };
                self.send(id, &room, &verb, Some(marks));
            }
            Verb::Read { .. } => {
                let marks = MarkerMove { room: room.clone(), tell: Some(self.key) };
                self.send(id, &room, &verb, Some(marks));
            }
            verb => self.send(id, &room, &verb, None),
        }
    }

    fn send(&self, id: Option<FrameId>, room: &RoomId, verb: &Verb, marks: Option<MarkerMove>) {
        let Some(user) = self.begin(id.as_ref()) else { return };
        let tag = ReplyTo::Client { outbound: Arc::clone(&self.outbound), id, marks };
        // Encoded before the lock is taken: all sessions share it.
        let request = flow::encode_request(room, &user, verb);
        let pushed = self.node.flows.lock().push(self.node.partitions.of(room), request, tag, Instant::now());
        match pushed {
            Ok(()) => self.node.uplink.notify_one(),
            Err(tag) => {
                self.outbound.end_request();
                if let ReplyTo::Client { id, .. } = tag {
                    self.refuse(id, &answer::unavailable());
                }
            }
        }
    }

    /// Never answered; what is too much is not passed on.
    fn typing(&self, room: &RoomId) {
        let Some(user) = self.outbound.user() else { return };
        let now = Instant::now();
        if lock(&self.outbound.typing).get_or_insert_default().admit(room, now) {
            let request = flow::encode_request(room, user, &Verb::Typing);
            self.node.flows.lock().push_unanswered(self.node.partitions.of(room), request, now);
            self.node.uplink.notify_one();
        }
    }
}
