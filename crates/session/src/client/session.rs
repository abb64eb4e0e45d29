//! One session, as the gateway holds it.

use std::io;
use std::sync::Arc;

use sendpi_model::server_frame::{OkAnswer, OpFrame, Pong};
use sendpi_model::{ClientFrame, ClientOp, CloseCode, Code, FrameId, Hello, Millis, Refusal, UserId};
use tokio::time::Instant;

use crate::catch_up::resume::task::replay;
use crate::client::outbound::Outbound;
use crate::client::transport::{Flush, Identity};
use crate::client::ws_frame;
use crate::context::NodeContext;
use crate::keys::SessionKey;
use crate::sign_in::room_list;
use crate::sign_in::sign_in;
use crate::state::session_state::Hold;

/// When a client with too many unanswered requests may come back, in milliseconds.
const RETRY_MS: u64 = 100;

fn too_many_requests() -> Refusal {
    Refusal { retry_in_ms: Some(RETRY_MS), ..Refusal::new(Code::RateLimited, "too many requests are unanswered") }
}

/// One session. Its end is reported when it is dropped, whichever way it came.
#[derive(Debug)]
pub struct Session {
    pub(super) node: Arc<NodeContext>,
    pub(super) key: SessionKey,
    pub(super) outbound: Arc<Outbound>,
}

impl Session {
    pub(crate) fn new(node: Arc<NodeContext>, key: SessionKey, outbound: Arc<Outbound>) -> Self {
        Self { node, key, outbound }
    }

    /// Signs in: queues the welcome, and begins the replay that `hello` asks for.
    ///
    /// # Errors
    /// The refusal for the client; the session is then to be closed.
    pub async fn hello(&self, id: Option<FrameId>, who: Identity, hello: Hello) -> Result<(), Refusal> {
        let session = (self.key, Arc::clone(&self.outbound));
        // Boxed, so that the many sessions that are signed in do not keep room for it.
        Box::pin(sign_in(&self.node, session, id, who, hello)).await
    }

    /// The user, once signed in.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        self.outbound.user().cloned()
    }

    /// Takes any frame of a signed-in client but `hello` and `token`.
    pub fn frame(&self, frame: ClientFrame) {
        let ClientFrame { id, op } = frame;
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

    /// The token was renewed: tells the client.
    pub fn renewed(&self, id: Option<FrameId>, expires_at: Millis) {
        self.node.with(|state, _| state.renewed(self.key, expires_at, Instant::now()));
        self.reply(&OkAnswer::renewed(expires_at), id.as_ref());
    }

    /// Refuses a frame.
    pub fn refuse(&self, id: Option<FrameId>, refusal: &Refusal) {
        self.outbound.refuse(refusal, id.as_ref());
        self.outbound.flush_now();
    }

    /// Queues a control frame, such as a pong.
    pub fn send_control(&self, opcode: u8, payload: &[u8]) {
        self.outbound.push(ws_frame::control(opcode, payload), false);
        self.outbound.flush_now();
    }

    /// Queues the close frame; nothing follows it.
    pub fn close(&self, code: CloseCode) {
        self.outbound.close(code);
        self.outbound.flush_now();
    }

    /// The client has sent its own close frame: it answers for what was written a while before.
    pub fn client_closed(&self) {
        self.node.with(|state, _| state.client_closed(self.key, Instant::now()));
    }

    /// Waits until [`Session::flush`] is due.
    pub async fn wake(&self) {
        self.outbound.wake().await;
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// What the socket says; the session is over then.
    pub fn flush(&self) -> io::Result<Flush> {
        self.outbound.flush()
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
        if !self.node.with(|state, _| state.hold(self.key, Hold::of(rooms.keys().cloned()))) {
            self.outbound.end_request();
            let refusal = Refusal::new(Code::Conflict, "another resume is under way");
            return self.refuse(id, &refusal);
        }
        let (node, session) = (Arc::clone(&self.node), (self.key, Arc::clone(&self.outbound)));
        let outbound = Arc::clone(&self.outbound);
        self.node.spawn(async move {
            replay(node, session, user, id, rooms).await;
            outbound.end_request();
        });
    }

    /// Counts a request; `None`, and a refusal to the client, where too many are unanswered.
    pub(super) fn begin(&self, id: Option<&FrameId>) -> Option<UserId> {
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
