//! A session's line to its client: the queue, the socket, and what both the gateway's task and the deliveries need to share.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
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

/// Slices of one write.
const SLICES: usize = 64;
/// A replay waits until less than this is queued, so that a heartbeat behind it is answered in time.
const REPLAY_BYTES: usize = 64 * 1024;

/// The line of one session.
#[derive(Debug)]
pub(crate) struct Outbound {
    queue: Mutex<Queue>,
    /// Tells the gateway's task that a flush is due.
    wake: Notify,
    /// Tells a replay that there is room.
    drained: Notify,
    limit: usize,
    /// Unanswered requests.
    requests: AtomicU32,
    /// Whether a round of deliveries has this line on its list.
    touched: AtomicBool,
    user: OnceLock<UserId>,
    pub(crate) typing: Mutex<Option<Box<TypingLimit>>>,
}

#[derive(Debug)]
struct Queue {
    /// Given back when the session ends, so that the gateway can close the socket while answers are still under way.
    wire: Option<Arc<dyn Transport>>,
    outbox: Outbox,
    /// The socket took nothing at the last try: only the gateway's task, which waits for the socket, tries again.
    blocked: bool,
    failed: bool,
    pace: WritePace,
}

/// Whether what came for the session was written at once; the client's own close frame answers only for what was.
#[derive(Debug)]
enum WritePace {
    Prompt,
    /// Something waited, and is not written yet.
    Late,
    /// Something waited, and all was written at that time.
    CaughtUp(Instant),
    /// Something was dropped.
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
            limit,
            requests: AtomicU32::new(0),
            touched: AtomicBool::new(false),
            user: OnceLock::new(),
            typing: Mutex::new(None),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The user, once signed in.
    pub(crate) fn user(&self) -> Option<&UserId> {
        self.user.get()
    }

    /// The session is signed in as `user`; the first call counts.
    pub(crate) fn set_user(&self, user: UserId) {
        // A session signs in once; the state refuses a second time.
        drop(self.user.set(user));
    }

    /// Queues an encoded WebSocket frame; a flush is to follow.
    pub(crate) fn push(&self, frame: Bytes, ephemeral: bool) {
        let mut queue = self.queue();
        if queue.outbox.push(frame, ephemeral, self.limit) == Pushed::TooSlow {
            queue.pace = WritePace::Lost;
            tracing::debug!(user = ?self.user(), "a session reads too slowly and is closed");
        }
    }

    /// Queues an encoded answer with the id of its frame.
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

    /// Queues the close frame; nothing follows it.
    pub(crate) fn close(&self, code: CloseCode) {
        let mut queue = self.queue();
        queue.outbox.close(code);
        if code == CloseCode::TooSlow {
            queue.pace = WritePace::Lost;
        }
    }

    /// What is queued now was held back before.
    pub(crate) fn late(&self) {
        self.queue().late();
    }

    /// Whether all that came for the session up to `age` ago was written by then.
    pub(crate) fn was_prompt(&self, age: Duration, now: Instant) -> bool {
        let queue = self.queue();
        let prompt = match queue.pace {
            WritePace::Prompt => true,
            WritePace::CaughtUp(at) => now - at >= age,
            WritePace::Late | WritePace::Lost => false,
        };
        prompt && queue.outbox.is_empty()
    }

    /// Gives up on a socket that does not take its close frame.
    pub(crate) fn abandon(&self) {
        if !self.queue().outbox.is_empty() {
            self.end();
            self.wake.notify_one();
        }
    }

    /// The session has ended: nothing is written any more.
    pub(crate) fn end(&self) {
        let mut queue = self.queue();
        queue.outbox.fail();
        queue.failed = true;
        queue.wire = None;
        drop(queue);
        self.drained.notify_waiters();
    }

    /// Whether the session is ending.
    pub(crate) fn is_closing(&self) -> bool {
        self.queue().outbox.is_closing()
    }

    /// Counts a request that will be answered; false where too many are unanswered.
    pub(crate) fn begin_request(&self) -> bool {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        if before as usize >= limits::SESSION_REQUESTS {
            self.requests.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// A request was answered.
    pub(crate) fn end_request(&self) {
        let before = self.requests.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "more requests ended than began");
    }

    /// Puts the line on a round's list; false where it is on one already.
    pub(crate) fn touch(&self) -> bool {
        !self.touched.swap(true, Ordering::AcqRel)
    }

    /// Writes what waits, as the one who queued it; what blocks is left to the gateway's task.
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

    /// Writes what waits, as the gateway's task.
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

    /// Waits until little is queued; false where the session is ending.
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
