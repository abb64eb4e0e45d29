//! A session's outbound queue towards its client, with its socket. The gateway's task and the deliveries share it.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sendpi_model::server_frame::{OpFrame, with_id};
use sendpi_model::{CloseCode, FrameId, Refusal, UserId, limits};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::client::outbox::{Outbox, Pushed};
use crate::client::transport::{Flush, Transport};
use crate::client::typing_limit::TypingLimit;
use crate::client::ws_frame;

/// The most slices of one write.
const SLICES: usize = 64;
/// A replay waits until less than this is queued, so that a heartbeat behind it is answered in time. In bytes.
const REPLAY_BYTES: usize = 64 * 1024;

/// The outbound queue of one session.
#[derive(Debug)]
pub(crate) struct Outbound {
    queue: Mutex<Queue>,
    /// Notified when a flush by the gateway's task is due.
    wake: Notify,
    /// Notified when there is room for a replay.
    drained: Notify,
    /// Notified when a replay has ended.
    replayed: Notify,
    limit: usize,
    /// The number of unanswered requests.
    requests: AtomicU32,
    /// Whether a round of deliveries has this queue on its list.
    touched: AtomicBool,
    user: OnceLock<UserId>,
    opened: Instant,
    /// When the client was last heard, in milliseconds after `opened`.
    heard: AtomicU64,
    pub(crate) typing: Mutex<Option<Box<TypingLimit>>>,
}

#[derive(Debug)]
struct Queue {
    /// The socket. It is dropped when the session ends, so that the gateway can close it while answers are still
    /// under way.
    wire: Option<Arc<dyn Transport>>,
    outbox: Outbox,
    /// Whether the socket took nothing at the last try. If so, only the gateway's task, which waits for the socket,
    /// tries again.
    blocked: bool,
    failed: bool,
    pace: WritePace,
}

/// Whether frames were written at once. The client's own close frame confirms only what was.
#[derive(Debug)]
enum WritePace {
    /// Everything was written at once.
    Prompt,
    /// Something had to wait and is not written yet.
    Late,
    /// Something had to wait, and everything was written at that time.
    CaughtUp(Instant),
    /// Something was dropped, or the socket failed.
    Lost,
}

impl Queue {
    fn late(&mut self) {
        if !matches!(self.pace, WritePace::Lost) {
            self.pace = WritePace::Late;
        }
    }
}

impl Outbound {
    pub(crate) fn new(wire: Arc<dyn Transport>, limit: usize) -> Self {
        Self {
            queue: Mutex::new(Queue {
                wire: Some(wire),
                outbox: Outbox::default(),
                blocked: false,
                failed: false,
                pace: WritePace::Prompt,
            }),
            wake: Notify::new(),
            drained: Notify::new(),
            replayed: Notify::new(),
            limit,
            requests: AtomicU32::new(0),
            touched: AtomicBool::new(false),
            user: OnceLock::new(),
            opened: Instant::now(),
            heard: AtomicU64::new(0),
            typing: Mutex::new(None),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the user, once the session is signed in.
    pub(crate) fn user(&self) -> Option<&UserId> {
        self.user.get()
    }

    /// Sets the user as whom the session is signed in. Only the first call counts.
    pub(crate) fn set_user(&self, user: UserId) {
        // A session signs in only once: the state refuses a second sign-in.
        drop(self.user.set(user));
    }

    /// Notes that the client was heard.
    pub(crate) fn hear(&self, now: Instant) {
        self.heard.store((now - self.opened).as_millis() as u64, Ordering::Relaxed);
    }

    /// Returns when the client was last heard.
    pub(crate) fn last_heard(&self) -> Instant {
        self.opened + Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }

    /// Queues an encoded WebSocket frame. The caller flushes afterwards.
    pub(crate) fn push(&self, frame: Bytes, ephemeral: bool) {
        let mut queue = self.queue();
        if queue.outbox.push(frame, ephemeral, self.limit) == Pushed::TooSlow {
            queue.pace = WritePace::Lost;
            tracing::debug!(user = ?self.user(), "a session reads too slowly and is closed");
        }
    }

    /// Queues a JSON answer. Adds the id of the frame that it answers, if it has one.
    pub(crate) fn answer(&self, json: &[u8], id: Option<&FrameId>) {
        let frame = match id {
            Some(_) => ws_frame::text(&with_id(json, id)),
            None => ws_frame::text(json),
        };
        self.push(frame, false);
    }

    /// Queues a refusal.
    pub(crate) fn refuse(&self, refusal: &Refusal, id: Option<&FrameId>) {
        self.answer(&refusal.to_frame(), id);
    }

    /// Queues the close frame, which nothing follows.
    pub(crate) fn close(&self, code: CloseCode) {
        let mut queue = self.queue();
        queue.outbox.close(code);
        if code == CloseCode::TooSlow {
            queue.pace = WritePace::Lost;
        }
    }

    /// Notes that frames were queued late, because they were held back before.
    pub(crate) fn late(&self) {
        self.queue().late();
    }

    /// Returns whether everything that came for the session up to `age` ago was written by then.
    pub(crate) fn was_prompt(&self, age: Duration, now: Instant) -> bool {
        let queue = self.queue();
        let prompt = match queue.pace {
            WritePace::Prompt => true,
            WritePace::CaughtUp(at) => now - at >= age,
            WritePace::Late | WritePace::Lost => false,
        };
        prompt && queue.outbox.is_empty()
    }

    /// Ends the session if its socket has not taken everything up to the close frame yet.
    pub(crate) fn abandon(&self) {
        if !self.queue().outbox.is_empty() {
            self.end();
            self.wake.notify_one();
        }
    }

    /// Ends the session: drops what is queued, and the socket. Nothing is written any more.
    pub(crate) fn end(&self) {
        let mut queue = self.queue();
        queue.outbox.fail();
        queue.failed = true;
        queue.wire = None;
        drop(queue);
        self.drained.notify_waiters();
        self.replayed.notify_waiters();
    }

    /// Returns whether the session is ending.
    pub(crate) fn is_closing(&self) -> bool {
        self.queue().outbox.is_closing()
    }

    /// Counts a request that will be answered. Returns `false` if too many are unanswered.
    pub(crate) fn begin_request(&self) -> bool {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        if before as usize >= limits::SESSION_REQUESTS {
            self.requests.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Notes that a request was answered.
    pub(crate) fn end_request(&self) {
        let before = self.requests.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "more requests ended than began");
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

    fn write(&self, queue: &mut Queue) -> io::Result<Flush> {
        queue.blocked = false;
        let Some(wire) = queue.wire.clone() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        while !queue.outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = queue.outbox.slices(&mut slices);
            match wire.try_write_vectored(&slices[..filled]) {
                Ok(0) => return Err(self.fail(queue, io::ErrorKind::WriteZero.into())),
                Ok(written) => queue.outbox.advance(written),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    queue.blocked = true;
                    queue.late();
                    return Ok(Flush::Blocked);
                }
                Err(e) => return Err(self.fail(queue, e)),
            }
            if queue.outbox.bytes() < REPLAY_BYTES {
                self.drained.notify_waiters();
            }
        }
        if matches!(queue.pace, WritePace::Late) {
            queue.pace = WritePace::CaughtUp(Instant::now());
        }
        Ok(if queue.outbox.is_closing() { Flush::Ended } else { Flush::Idle })
    }

    fn fail(&self, queue: &mut Queue, error: io::Error) -> io::Error {
        queue.failed = true;
        queue.pace = WritePace::Lost;
        queue.outbox.fail();
        self.drained.notify_waiters();
        error
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
