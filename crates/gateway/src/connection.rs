//! The reading half of a WebSocket, and the writes that blocked.

use std::io;
use std::sync::Arc;

use sendpi_model::{CloseCode, Code, Refusal};
use sendpi_session::{Flush, Session};
use tokio::io::Interest;
use tungstenite::error::{Error, ProtocolError};
use tungstenite::{Message, Utf8Bytes};

use crate::socket::{WsFrames, WsSocket, frames};

/// WsFrames taken in a row before other tasks get their turn.
const TURN: u8 = 16;
/// WsFrames in a row that cannot be read before the session ends.
const GARBAGE: u8 = 10;
/// The opcode of a pong.
const PONG: u8 = 0xA;

/// Why no more frames come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionEnd {
    /// The connection is gone.
    Gone,
    /// A close frame is queued, and has to be written yet.
    Closing,
    /// The close frame is written.
    Closed,
}

/// What one look at the socket gave.
enum Input {
    Text(Utf8Bytes),
    /// A frame that is dealt with.
    Done,
    /// Nothing now.
    Nothing,
    End(ConnectionEnd),
}

/// One client's socket with its frames.
#[derive(Debug)]
pub(crate) struct WsConnection {
    socket: Arc<WsSocket>,
    frames: WsFrames,
    /// WsFrames since the last pause.
    turn: u8,
    /// Unreadable frames since the last good one.
    garbage: u8,
    /// Whether frames stay in the socket for now.
    paused: bool,
    /// A close frame of ours is queued.
    closing: bool,
}

impl WsConnection {
    /// Begins to read; `rest` is what came with the handshake already.
    pub(crate) fn new(socket: Arc<WsSocket>, rest: &[u8]) -> Self {
        let frames = frames(Arc::clone(&socket), rest);
        Self { socket, frames, turn: 0, garbage: 0, paused: false, closing: false }
    }

    /// The next text frame. Writes come first each time, so that a client that talks without a break still gets its deliveries.
    ///
    /// Nothing is lost where this is cancelled.
    pub(crate) async fn text(&mut self, session: &Session) -> Result<Utf8Bytes, ConnectionEnd> {
        loop {
            if self.turn == TURN {
                self.turn = 0;
                tokio::task::yield_now().await;
            }
            let blocked = match session.flush() {
                Ok(Flush::Idle) => false,
                Ok(Flush::Blocked) => true,
                Ok(Flush::Ended) => return Err(ConnectionEnd::Closed),
                Err(_) => return Err(ConnectionEnd::Gone),
            };
            if self.closing {
                return Err(ConnectionEnd::Closing);
            }
            if !self.paused {
                match self.read(session) {
                    Input::Text(text) => return Ok(text),
                    Input::Done => continue,
                    Input::Nothing => self.turn = 0,
                    Input::End(end) => return Err(end),
                }
            }
            self.wait(session, !self.paused, blocked).await?;
        }
    }

    /// Writes what is still queued, up to the close frame.
    pub(crate) async fn finish(&mut self, session: &Session) {
        loop {
            let blocked = match session.flush() {
                Ok(Flush::Idle) => false,
                Ok(Flush::Blocked) => true,
                Ok(Flush::Ended) | Err(_) => return,
            };
            if self.wait(session, false, blocked).await.is_err() {
                return;
            }
        }
    }

    /// Leaves further frames in the socket, or takes them again.
    pub(crate) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Queues a close frame; what the client still sends is not read.
    pub(crate) fn close(&mut self, session: &Session, code: CloseCode) {
        session.close(code);
        self.closing = true;
    }

    /// A frame that could be read.
    pub(crate) fn good(&mut self) {
        self.garbage = 0;
    }

    /// A frame that could not be read; the session ends if there were only such ones lately.
    pub(crate) fn garbage(&mut self, session: &Session) {
        self.garbage += 1;
        if self.garbage == GARBAGE {
            self.close(session, CloseCode::Unreadable);
        }
    }

    async fn wait(&self, session: &Session, reading: bool, blocked: bool) -> Result<(), ConnectionEnd> {
        let interest = match (reading, blocked) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        };
        tokio::select! {
            () = session.wake() => Ok(()),
            ready = self.socket.0.ready(interest.unwrap_or(Interest::READABLE)), if interest.is_some() => {
                ready.map(|_| ()).map_err(|_| ConnectionEnd::Gone)
            }
        }
    }

    fn read(&mut self, session: &Session) -> Input {
        let message = self.frames.read();
        self.turn += 1;
        match message {
            Ok(Message::Text(text)) => return Input::Text(text),
            Ok(Message::Binary(_)) => {
                session.refuse(None, &Refusal::new(Code::Unsupported, "binary frames are not supported"));
                self.garbage(session);
            }
            Ok(Message::Ping(payload)) => session.send_control(PONG, &payload),
            Ok(Message::Pong(_) | Message::Frame(_)) => {}
            Ok(Message::Close(_)) => {
                session.client_closed();
                self.close(session, CloseCode::Normal);
            }
            Err(Error::Io(error)) => match error.kind() {
                io::ErrorKind::WouldBlock => return Input::Nothing,
                io::ErrorKind::Interrupted => {}
                _ => return Input::End(ConnectionEnd::Gone),
            },
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => return Input::End(ConnectionEnd::Gone),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return Input::End(ConnectionEnd::Gone);
            }
            Err(Error::Capacity(_)) => self.close(session, CloseCode::TooBig),
            // The stream cannot be read from here on: there is no telling where the next frame begins.
            Err(_) => self.close(session, CloseCode::Unreadable),
        }
        Input::Done
    }
}
