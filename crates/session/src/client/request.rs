//! A client's requests to rooms. Each goes into the flow to the room's owner, and its answer goes straight into the
//! session's outbound queue.

use std::sync::Arc;

use sendpi_model::{FrameId, Nonce, RoomId, Verb, flow};
use tokio::time::Instant;

use super::session::Session;
use crate::context::lock;
use crate::owners::answer;
use crate::owners::reply_to::{MarkerMove, ReplyTo};

/// Returns a nonce for a message that came without one. The owner recognizes a resent message by its nonce.
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
        // The request is encoded before the lock is acquired, because all sessions share the lock.
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

    /// Passes a typing notice on. It is never answered, and dropped if the session sends too many.
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
