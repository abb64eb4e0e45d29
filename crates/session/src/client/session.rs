//! A session as the gateway holds it.

use std::io;
use std::sync::Arc;

use sendpi_model::flow::{self, Requester};
use sendpi_model::server_frame::{OkAnswer, OpFrame, Pong};
use sendpi_model::{ClientFrame, ClientOp, CloseCode, Code, FrameId, Hello, Refusal, RoomId, UserId, Verb};
use tokio::time::Instant;

use crate::catch_up::resume::task::replay;
use crate::client::outbound::Outbound;
use crate::client::transport::{Flush, Identity};
use crate::client::ws_frame;
use crate::context::{NodeContext, lock};
use crate::keys::SessionKey;
use crate::owners::answer;
use crate::owners::reply_to::{MarkerMove, ReplyTo};
use crate::requests::fresh_nonce;
use crate::sign_in::room_list;
use crate::sign_in::sign_in;
use crate::sign_out;

/// The time after which a client with too many unanswered requests may retry, in milliseconds.
const RETRY_MS: u64 = 100;

/// Returns the refusal of a request of somebody of whom too many are unanswered.
pub(crate) fn too_many_requests() -> Refusal {
    Refusal { retry_in_ms: Some(RETRY_MS), ..Refusal::new(Code::RateLimited, "too many requests are unanswered") }
}

/// A session of one client. Dropping it ends the session.
#[derive(Debug)]
pub struct Session {
    node: Arc<NodeContext>,
    key: SessionKey,
    outbound: Arc<Outbound>,
}

impl Session {
    pub(crate) fn new(node: Arc<NodeContext>, key: SessionKey, outbound: Arc<Outbound>) -> Self {
        Self { node, key, outbound }
    }

    /// Signs the session in: queues the welcome, and begins the replay that `hello` asks for.
    ///
    /// # Errors
    /// Returns the refusal for the client. The caller then closes the session.
    pub async fn hello(&self, id: Option<FrameId>, who: Identity, hello: Hello) -> Result<(), Refusal> {
        let session = (self.key, Arc::clone(&self.outbound));
        // Boxed, so that the tasks of the many sessions that are signed in do not reserve space for the sign-in.
        Box::pin(sign_in(&self.node, session, id, who, hello)).await
    }

    /// Returns the user, once the session is signed in.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        self.outbound.user().cloned()
    }

    /// Handles a frame of a signed-in client, unless the session is ending. Refuses `hello` and `token`, which the
    /// gateway handles itself.
    pub fn frame(&self, frame: ClientFrame) {
        let ClientFrame { id, op } = frame;
        if self.outbound.is_closing() {
            return;
        }
        self.outbound.hear(Instant::now());
        match op {
            ClientOp::Pong => self.node.with(|state, _| state.pong(self.key)),
            ClientOp::Ping => self.reply(&Pong {}, id.as_ref()),
            ClientOp::Room(room, verb) => self.request(id, room, verb),
            ClientOp::Rooms { cursor, limit } => self.list(id, cursor, limit),
            ClientOp::Resume(rooms) => self.resume(id, rooms),
            ClientOp::Hello(_) => self.refuse(id, &Refusal::new(Code::Conflict, "this session is signed in already")),
            ClientOp::Token(_) => self.refuse(id, &Refusal::new(Code::Internal, "a token is for the gateway")),
        }
    }

    /// Renews the token, unless the new one is revoked, and answers the client.
    pub fn renew(&self, id: Option<FrameId>, who: Identity) {
        if self.begin(id.as_ref()).is_none() {
            return;
        }
        let (node, outbound, key) = (Arc::clone(&self.node), Arc::clone(&self.outbound), self.key);
        self.node.spawn(async move {
            let checked = sign_out::check_token(&node, &who).await;
            outbound.end_request();
            match checked {
                Ok(()) => {
                    node.with(|state, _| state.renewed(key, &who, Instant::now()));
                    outbound.answer(&OkAnswer::renewed(who.expires_at).to_frame(), id.as_ref());
                }
                Err(refusal) => outbound.refuse(&refusal, id.as_ref()),
            }
            outbound.flush_now();
        });
    }

    /// Sends the refusal of a frame.
    pub fn refuse(&self, id: Option<FrameId>, refusal: &Refusal) {
        self.outbound.refuse(refusal, id.as_ref());
        self.outbound.flush_now();
    }

    /// Sends a control frame, such as a pong.
    pub fn send_control(&self, opcode: u8, payload: &[u8]) {
        self.outbound.push_answer(ws_frame::control(opcode, payload));
        self.outbound.flush_now();
    }

    /// Returns whether the session is ending: its close frame is queued or written, or its socket is gone. The caller
    /// drops the session then, also if the socket does not take the close frame in time.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.outbound.is_closing()
    }

    /// Returns what the client still has to read to learn why it was closed. The session writes nothing any more, and
    /// the caller drops it and may go on with the socket alone. Returns nothing if that would be long.
    #[must_use]
    pub fn take_last_words(&self) -> Vec<u8> {
        self.outbound.take_last_words()
    }

    /// Returns whether the client's next frame may be read. It is left in the socket while too much waits that the
    /// client asked for. [`Session::flush`] changes that.
    #[must_use]
    pub fn takes_frames(&self) -> bool {
        self.outbound.takes_frames()
    }

    /// Sends the close frame, which nothing follows.
    pub fn close(&self, code: CloseCode) {
        self.outbound.close(code);
        self.outbound.flush_now();
    }

    /// Handles the client's own close frame, which confirms what was written a while before.
    pub fn client_closed(&self) {
        self.node.with(|state, _| state.client_closed(self.key, Instant::now()));
    }

    /// Waits until [`Session::flush`] is due.
    pub async fn wake(&self) {
        self.outbound.wake().await;
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// Returns the socket's error, after which the session is over.
    pub fn flush(&self) -> io::Result<Flush> {
        self.outbound.flush()
    }

    fn request(&self, id: Option<FrameId>, room: RoomId, mut verb: Verb) {
        verb.set_nonce(fresh_nonce);
        match verb {
            Verb::Typing => self.typing(&room),
            // A service that acts as itself has no read markers.
            Verb::Send { .. } if !matches!(self.outbound.requester(), Some(Requester::Service(_))) => {
                let marks = MarkerMove { room: room.clone(), read_in: None };
                self.send(id, &room, &verb, Some(marks));
            }
            Verb::Read { .. } => {
                let marks = MarkerMove { room: room.clone(), read_in: Some(self.key) };
                self.send(id, &room, &verb, Some(marks));
            }
            verb => self.send(id, &room, &verb, None),
        }
    }

    fn send(&self, id: Option<FrameId>, room: &RoomId, verb: &Verb, marks: Option<MarkerMove>) {
        if self.begin(id.as_ref()).is_none() {
            return;
        }
        let Some(requester) = self.outbound.requester() else { return };
        let tag = ReplyTo::Client { outbound: Arc::clone(&self.outbound), id, marks };
        // The request is encoded before the lock is acquired, because all sessions share the lock.
        let request = flow::encode_request(room, requester, verb);
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
        let Some(requester) = self.outbound.requester() else { return };
        let now = Instant::now();
        if lock(&self.outbound.typing).get_or_insert_default().admit(room, now) {
            let request = flow::encode_request(room, requester, &Verb::Typing);
            self.node.flows.lock().push_unanswered(self.node.partitions.of(room), request, now);
            self.node.uplink.notify_one();
        }
    }

    fn reply(&self, answer: &impl OpFrame, id: Option<&FrameId>) {
        self.outbound.answer(&answer.to_frame(), id);
        self.outbound.flush_now();
    }

    fn list(&self, id: Option<FrameId>, cursor: Option<String>, limit: usize) {
        let Some(user) = self.begin(id.as_ref()) else { return };
        let (node, outbound) = (Arc::clone(&self.node), Arc::clone(&self.outbound));
        self.node.spawn(async move {
            let answer = room_list::answer(&node, &user, cursor.as_deref(), limit).await;
            outbound.end_request();
            match answer {
                Ok(answer) => outbound.answer(&answer, id.as_ref()),
                Err(refusal) => outbound.refuse(&refusal, id.as_ref()),
            }
            outbound.flush_now();
        });
    }

    fn resume(&self, id: Option<FrameId>, rooms: std::collections::BTreeMap<sendpi_model::RoomId, u64>) {
        let Some(user) = self.begin(id.as_ref()) else { return };
        let asked = rooms.keys().cloned().collect();
        let (number, began) =
            self.node.with(|state, _| (state.add_replay(self.key, asked), state.lateness.begin_wait()));
        let (node, session) = (Arc::clone(&self.node), (self.key, Arc::clone(&self.outbound)));
        let outbound = Arc::clone(&self.outbound);
        self.node.spawn(async move {
            let key = session.0;
            let is_turn = || number.is_some_and(|number| node.state.lock().is_turn_of(key, number));
            if outbound.begin_replay(is_turn).await {
                replay(Arc::clone(&node), session, user, id, rooms, began).await;
            }
            outbound.end_request();
        });
    }

    /// Counts a request and returns the user. Refuses it and returns `None` if too many requests are unanswered, or
    /// if the session is not signed in.
    fn begin(&self, id: Option<&FrameId>) -> Option<UserId> {
        let refusal = match self.outbound.user() {
            Some(user) if self.outbound.begin_request() => return Some(user.clone()),
            Some(_) => too_many_requests(),
            None => Refusal::new(Code::Unauthorized, "the first frame must be hello"),
        };
        self.outbound.refuse(&refusal, id);
        self.outbound.flush_now();
        None
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.node.with(|state, effects| state.leave(self.key, effects));
    }
}
