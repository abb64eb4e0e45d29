//! A session's outbound queue towards its client, with its socket. The gateway's task and the deliveries share it.

mod write_queue;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sendpi_model::flow::Requester;
use sendpi_model::server_frame::{OpFrame, with_id};
use sendpi_model::{CloseCode, FrameId, Refusal, UserId, limits};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::write_queue::WriteQueue;
use crate::client::node_budget::NodeBudget;
use crate::client::outbox::{FrameKind, Pushed};
use crate::client::transport::{Flush, Identity, Transport};
use crate::client::typing_limit::TypingLimit;
use crate::client::ws_frame;

/// A replay waits until less than this is queued, so that a heartbeat behind it is answered in time. In bytes.
const REPLAY_BYTES: usize = 64 * 1024;

/// As whom a session is signed in.
#[derive(Debug)]
struct SignedInAs {
    user: UserId,
    is_service: bool,
    /// How many requests of all sessions of the user here are unanswered.
    unanswered: Arc<AtomicU32>,
}

/// The outbound queue of one session.
#[derive(Debug)]
pub(crate) struct Outbound {
    queue: Mutex<WriteQueue>,
    /// Notified when a flush by the gateway's task is due.
    wake: Notify,
    /// Notified when there is room for a replay.
    drained: Notify,
    /// Notified when a replay has ended.
    replayed: Notify,
    /// The number of unanswered requests.
    requests: AtomicU32,
    /// Whether a round of deliveries has this queue on its list.
    touched: AtomicBool,
    user: OnceLock<SignedInAs>,
    opened: Instant,
    /// When the client was last heard, in milliseconds after `opened`.
    heard: AtomicU64,
    pub(crate) typing: Mutex<Option<Box<TypingLimit>>>,
}

impl Outbound {
    /// Creates the queue of a session that no others share a budget with.
    #[cfg(test)]
    pub(crate) fn new(wire: Arc<dyn Transport>, limit: usize) -> Self {
        Self::within(wire, Arc::new(NodeBudget::of_session(limit)))
    }

    /// Creates the queue of a session that shares `budget` with the others of the node.
    pub(crate) fn within(wire: Arc<dyn Transport>, budget: Arc<NodeBudget>) -> Self {
        Self {
            queue: Mutex::new(WriteQueue::new(wire, budget)),
            wake: Notify::new(),
            drained: Notify::new(),
            replayed: Notify::new(),
            requests: AtomicU32::new(0),
            touched: AtomicBool::new(false),
            user: OnceLock::new(),
            opened: Instant::now(),
            heard: AtomicU64::new(0),
            typing: Mutex::new(None),
        }
    }

    fn queue(&self) -> MutexGuard<'_, WriteQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the user, once the session is signed in.
    pub(crate) fn user(&self) -> Option<&UserId> {
        self.user.get().map(|signed_in| &signed_in.user)
    }

    /// Returns on whose behalf the session sends requests, once it is signed in.
    pub(crate) fn requester(&self) -> Option<Requester<'_>> {
        let SignedInAs { user, is_service, .. } = self.user.get()?;
        Some(if *is_service { Requester::Service(user) } else { Requester::User(user) })
    }

    /// Sets as whom the session is signed in. Only the first call counts.
    pub(crate) fn set_user(&self, who: &Identity, unanswered: Arc<AtomicU32>) {
        // A session signs in only once: the state refuses a second sign-in.
        drop(self.user.set(SignedInAs { user: who.user.clone(), is_service: who.service, unanswered }));
    }

    /// Notes that the client was heard.
    pub(crate) fn hear(&self, now: Instant) {
        self.heard.store((now - self.opened).as_millis() as u64, Ordering::Relaxed);
    }

    /// Returns when the client was last heard.
    pub(crate) fn last_heard(&self) -> Instant {
        self.opened + Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }

    /// Queues an event, encoded as a WebSocket frame. The caller flushes afterwards.
    pub(crate) fn push(&self, frame: Bytes, ephemeral: bool) {
        self.push_as(if ephemeral { FrameKind::Ephemeral } else { FrameKind::Event }, frame);
    }

    /// Queues what the client asked for, encoded as a WebSocket frame. The caller flushes afterwards.
    pub(crate) fn push_answer(&self, frame: Bytes) {
        self.push_as(FrameKind::Answer, frame);
    }

    /// Queues a heartbeat. The caller flushes afterwards.
    pub(crate) fn push_ping(&self, frame: Bytes) {
        self.push_as(FrameKind::Ping, frame);
    }

    fn push_as(&self, kind: FrameKind, frame: Bytes) {
        let mut queue = self.queue();
        let budget = queue.share.budget();
        if kind == FrameKind::Ephemeral && budget.is_over() {
            return;
        }
        let limit = budget.session();
        if queue.push(frame, kind, limit) == Pushed::TooSlow {
            self.wake.notify_one();
            tracing::debug!(user = ?self.user(), "a session reads too slowly and is closed");
        }
    }

    /// Queues a JSON answer. Adds the id of the frame that it answers, if it has one.
    pub(crate) fn answer(&self, json: &[u8], id: Option<&FrameId>) {
        let frame = match id {
            Some(_) => ws_frame::text(&with_id(json, id)),
            None => ws_frame::text(json),
        };
        self.push_answer(frame);
    }

    /// Queues a refusal.
    pub(crate) fn refuse(&self, refusal: &Refusal, id: Option<&FrameId>) {
        self.answer(&refusal.to_frame(), id);
    }

    /// Queues the close frame, which nothing follows. The gateway's task ends the session, even if the socket does not
    /// take the frame.
    pub(crate) fn close(&self, code: CloseCode) {
        self.queue().close(code);
        self.wake.notify_one();
    }

    /// Drops what waits, and closes the session as too slow.
    pub(crate) fn give_up(&self) {
        self.queue().give_up();
        self.wake.notify_one();
    }

    /// Ends the session, and returns what its client needs to learn why, up to the length of a client's frame.
    pub(crate) fn take_last_words(&self) -> Vec<u8> {
        let words = self.queue().outbox.take_last_words(limits::FRAME_BYTES);
        self.end();
        words
    }

    /// Drops the ephemeral events that wait.
    pub(crate) fn drop_ephemeral(&self) {
        self.queue().drop_ephemeral();
    }

    /// Returns the number of bytes that wait because the socket takes nothing.
    pub(crate) fn waiting(&self) -> usize {
        self.queue().share.bytes()
    }

    /// Returns the budget that the node's sessions share.
    pub(crate) fn budget(&self) -> Arc<NodeBudget> {
        Arc::clone(self.queue().share.budget())
    }

    /// Returns since when the client has been able to answer the last heartbeat. `None` if the heartbeat is not written
    /// yet, or if no frames are taken from the client at the moment.
    pub(crate) fn answerable_since(&self) -> Option<Instant> {
        self.queue().answerable_since()
    }

    /// Gives the client this much more time to answer the last heartbeat.
    pub(crate) fn excuse_silence(&self, frozen: Duration) {
        self.queue().excuse_silence(frozen);
    }

    /// Returns whether frames are taken from the client. They are not while too much waits that it asked for.
    pub(crate) fn takes_frames(&self) -> bool {
        !self.queue().outbox.is_full()
    }

    /// Notes that frames were queued late, because they were held back before.
    pub(crate) fn late(&self) {
        self.queue().late();
    }

    /// Returns whether everything that came for the session up to `age` ago was written by then.
    pub(crate) fn was_prompt(&self, age: Duration, now: Instant) -> bool {
        self.queue().was_prompt(age, now)
    }

    /// Ends the session: drops what is queued, and the socket. Nothing is written any more.
    pub(crate) fn end(&self) {
        self.queue().end();
        self.drained.notify_waiters();
        self.replayed.notify_waiters();
    }

    /// Returns whether the session is ending.
    pub(crate) fn is_closing(&self) -> bool {
        self.queue().outbox.is_closing()
    }

    /// Counts a request that will be answered. Returns `false` if too many are unanswered.
    pub(crate) fn begin_request(&self) -> bool {
        let Some(SignedInAs { unanswered, .. }) = self.user.get() else { return false };
        let of_session = self.requests.fetch_add(1, Ordering::Relaxed);
        let of_user = unanswered.fetch_add(1, Ordering::Relaxed);
        let fits = (of_session as usize) < limits::SESSION_REQUESTS && (of_user as usize) < limits::USER_REQUESTS;
        if !fits {
            self.end_request();
        }
        fits
    }

    /// Notes that a request was answered.
    pub(crate) fn end_request(&self) {
        let before = self.requests.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "more requests ended than began");
        if let Some(SignedInAs { unanswered, .. }) = self.user.get() {
            unanswered.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Marks the queue as being on a round's list. Returns `false` if it is on one already.
    pub(crate) fn touch(&self) -> bool {
        !self.touched.swap(true, Ordering::AcqRel)
    }

    /// Writes what is queued, on behalf of whoever queued it. Leaves the rest to the gateway's task if the socket
    /// blocks.
    pub(crate) fn flush_now(&self) {
        self.touched.store(false, Ordering::Release);
        let mut queue = self.queue();
        if queue.blocked || queue.failed {
            return;
        }
        let idle = matches!(self.write(&mut queue), Ok(Flush::Idle));
        drop(queue);
        if !idle {
            self.wake.notify_one();
        }
    }

    /// Writes what is queued, on behalf of the gateway's task.
    ///
    /// # Errors
    /// Returns the socket's error, or `BrokenPipe` if the session has ended.
    pub(crate) fn flush(&self) -> io::Result<Flush> {
        let mut queue = self.queue();
        if queue.failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.write(&mut queue)
    }

    fn write(&self, queue: &mut WriteQueue) -> io::Result<Flush> {
        let something = !queue.outbox.is_empty();
        let written = queue.write();
        if something && queue.outbox.bytes() < REPLAY_BYTES {
            self.drained.notify_waiters();
        }
        written
    }

    /// Waits until a flush by the gateway's task is due.
    pub(crate) async fn wake(&self) {
        self.wake.notified().await;
    }

    /// Notes that the session's replay has ended, so that the next one may begin.
    pub(crate) fn end_replay(&self) {
        self.replayed.notify_waiters();
    }

    /// Waits until it is the turn of a replay. Returns `false` if the session is ending.
    pub(crate) async fn begin_replay(&self, is_turn: impl Fn() -> bool) -> bool {
        loop {
            let replayed = self.replayed.notified();
            tokio::pin!(replayed);
            replayed.as_mut().enable();
            if self.is_closing() {
                return false;
            }
            if is_turn() {
                return true;
            }
            replayed.await;
        }
    }

    /// Waits until less than `REPLAY_BYTES` is queued. Returns `false` if the session is ending.
    pub(crate) async fn has_room(&self) -> bool {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            {
                let queue = self.queue();
                if queue.outbox.is_closing() {
                    return false;
                }
                if queue.outbox.bytes() < REPLAY_BYTES {
                    return true;
                }
            }
            drained.await;
        }
    }
}

#[cfg(test)]
mod tests;
