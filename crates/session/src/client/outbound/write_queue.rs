//! The frames of one session, the socket that takes them, and what the session knows of how they were written.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sendpi_model::CloseCode;
use tokio::time::Instant;

use crate::client::node_budget::{BudgetShare, NodeBudget};
use crate::client::outbox::{FrameKind, Outbox, Pushed};
use crate::client::transport::{Flush, Transport};

/// The most slices of one write.
const SLICES: usize = 64;

/// What waits to be written, and its socket.
#[derive(Debug)]
pub(super) struct WriteQueue {
    /// The socket. It is dropped when the session ends, so that the gateway can close it while answers are still
    /// under way.
    wire: Option<Arc<dyn Transport>>,
    pub(super) outbox: Outbox,
    /// Whether the socket took nothing at the last try. If so, only the gateway's task, which waits for the socket,
    /// tries again.
    pub(super) blocked: bool,
    pub(super) failed: bool,
    pace: WritePace,
    /// What waits because the socket is blocked.
    pub(super) share: BudgetShare,
    /// Since when the client is able to answer the last heartbeat: since that was written, and since frames are taken
    /// from the socket again.
    answerable_since: Option<Instant>,
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

impl WriteQueue {
    pub(super) fn new(wire: Arc<dyn Transport>, budget: Arc<NodeBudget>) -> Self {
        Self {
            wire: Some(wire),
            outbox: Outbox::default(),
            blocked: false,
            failed: false,
            pace: WritePace::Prompt,
            share: BudgetShare::new(budget),
            answerable_since: None,
        }
    }

    /// Counts what waits against the node's budget. What the socket has not been offered yet does not wait.
    fn count(&mut self) {
        self.share.set(if self.blocked { self.outbox.bytes() } else { 0 });
    }

    pub(super) fn push(&mut self, frame: Bytes, kind: FrameKind, limit: usize) -> Pushed {
        if kind == FrameKind::Ping {
            self.answerable_since = None;
        }
        let pushed = self.outbox.push(frame, kind, limit);
        if pushed == Pushed::TooSlow {
            self.pace = WritePace::Lost;
        }
        self.count();
        pushed
    }

    pub(super) fn close(&mut self, code: CloseCode) {
        self.outbox.close(code);
        if code == CloseCode::TooSlow {
            self.pace = WritePace::Lost;
        }
        self.count();
    }

    pub(super) fn give_up(&mut self) {
        self.outbox.give_up();
        self.pace = WritePace::Lost;
        self.count();
    }

    /// Drops the ephemeral events that wait for a blocked socket.
    pub(super) fn drop_ephemeral(&mut self) {
        if self.blocked {
            self.outbox.drop_ephemeral();
            self.count();
        }
    }

    pub(super) fn end(&mut self) {
        self.outbox.fail();
        self.failed = true;
        self.wire = None;
        self.count();
    }

    /// Notes that something waits that should have been written before.
    pub(super) fn late(&mut self) {
        if !matches!(self.pace, WritePace::Lost) {
            self.pace = WritePace::Late;
        }
    }

    pub(super) fn was_prompt(&self, age: Duration, now: Instant) -> bool {
        let prompt = match self.pace {
            WritePace::Prompt => true,
            WritePace::CaughtUp(at) => now - at >= age,
            WritePace::Late | WritePace::Lost => false,
        };
        prompt && self.outbox.is_empty()
    }

    /// Returns since when the client has been able to answer the last heartbeat. `None` if it is not able to now.
    pub(super) fn answerable_since(&self) -> Option<Instant> {
        self.answerable_since.filter(|_| !self.outbox.is_full())
    }

    pub(super) fn excuse_silence(&mut self, frozen: Duration) {
        self.answerable_since = self.answerable_since.map(|since| since + frozen);
    }

    /// Writes as much as the socket takes.
    pub(super) fn write(&mut self) -> io::Result<Flush> {
        let written = self.write_until_blocked();
        if written.is_err() {
            self.failed = true;
            self.pace = WritePace::Lost;
            self.outbox.fail();
        }
        self.count();
        written
    }

    fn write_until_blocked(&mut self) -> io::Result<Flush> {
        self.blocked = false;
        let Some(wire) = self.wire.clone() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        while !self.outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.outbox.slices(&mut slices);
            match wire.try_write_vectored(&slices[..filled]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    self.late();
                    return Ok(Flush::Blocked);
                }
                Err(e) => return Err(e),
            }
        }
        if matches!(self.pace, WritePace::Late) {
            self.pace = WritePace::CaughtUp(Instant::now());
        }
        Ok(if self.outbox.is_closing() { Flush::Ended } else { Flush::Idle })
    }

    fn advance(&mut self, written: usize) {
        let was_full = self.outbox.is_full();
        let pinged = self.outbox.advance(written);
        // The client may have answered while nothing was read from it.
        let read_again = was_full && !self.outbox.is_full() && self.answerable_since.is_some();
        if pinged || read_again {
            self.answerable_since = Some(Instant::now());
        }
    }
}
