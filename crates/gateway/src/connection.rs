//! The reading half of a WebSocket. It also finishes the writes that blocked.

use std::io;
use std::sync::Arc;

use sendpi_model::{CloseCode, Code, FrameId, Rate, Refusal};
use sendpi_session::{Flush, Session};
use tokio::io::Interest;
use tungstenite::error::{Error, ProtocolError};
use tungstenite::{Message, Utf8Bytes};

use crate::rates::{FrameRate, FrameVerdict};
use crate::socket::{WsFrames, WsSocket, frames};

/// How many frames are read in a row before other tasks get their turn.
const TURN: u8 = 16;
/// How many unreadable frames since the last good one end the session.
const GARBAGE: u8 = 10;
/// So many turns in a row without a whole frame end the session: a frame in the smallest pieces takes fewer.
const FRUITLESS: u8 = 8;
/// The opcode of a pong.
const PONG: u8 = 0xA;

/// The reason why no more frames come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionEnd {
    /// The connection is gone.
    Gone,
    /// A close frame is queued but not written yet.
    Closing,
    /// The close frame is written.
    Closed,
}

/// The result of one read from the socket.
enum Input {
    Text(Utf8Bytes),
    /// A frame that needs nothing more from the caller.
    Done,
    /// The socket holds no whole frame at the moment.
    Nothing,
    End(ConnectionEnd),
}

/// One client's socket, and the decoder that reads frames from it.
#[derive(Debug)]
pub(crate) struct WsConnection {
    socket: Arc<WsSocket>,
    frames: WsFrames,
    /// Frames read since other tasks last had their turn.
    turn: u8,
    /// Unreadable frames since the last good one.
    garbage: u8,
    /// Whether further frames are left in the socket.
    paused: bool,
    /// How many frames the client may send. `None` if it may send any number.
    rate: Option<FrameRate>,
    /// How many turns in a row brought bytes and no whole frame.
    fruitless: u8,
}

impl WsConnection {
    /// Creates the connection. `rest` holds the bytes that arrived together with the handshake.
    pub(crate) fn new(socket: Arc<WsSocket>, rest: &[u8], rate: Option<Rate>) -> Self {
        let frames = frames(Arc::clone(&socket), rest);
        Self { socket, frames, turn: 0, garbage: 0, paused: false, rate: rate.map(FrameRate::new), fruitless: 0 }
    }

    /// Counts a frame. Refuses it if there are too many, and closes the session if the client goes on regardless.
    pub(crate) fn admits_frame(&self, session: &Session, id: Option<&FrameId>) -> bool {
        match self.rate.as_ref().map(FrameRate::count) {
            None | Some(FrameVerdict::Handle) => return true,
            Some(FrameVerdict::Refuse(refusal)) => session.refuse(id.cloned(), &refusal),
            Some(FrameVerdict::Close) => session.close(CloseCode::TooManyFrames),
        }
        false
    }

    /// Returns the next text frame. Each round writes before it reads, so that a client that sends without a break
    /// still gets its deliveries. Nothing is read while too much waits that the client asked for, nor from a session
    /// that is ending.
    ///
    /// No frame is lost if the future is dropped.
    pub(crate) async fn text(&mut self, session: &Session) -> Result<Utf8Bytes, ConnectionEnd> {
        loop {
            if self.turn == TURN {
                self.turn = 0;
                tokio::task::yield_now().await;
            }
            let blocked = match session.flush() {
                Ok(Flush::Idle) => false,
                Ok(Flush::Blocked) if session.is_closing() => return Err(ConnectionEnd::Closing),
                Ok(Flush::Blocked) => true,
                Ok(Flush::Ended) => return Err(ConnectionEnd::Closed),
                Err(_) => return Err(ConnectionEnd::Gone),
            };
            let reading = !self.paused && (!blocked || session.takes_frames());
            if reading {
                match self.read(session) {
                    Input::Text(text) => return Ok(text),
                    Input::Done => continue,
                    Input::Nothing => self.turn = 0,
                    Input::End(end) => return Err(end),
                }
            }
            self.wait(session, reading, blocked).await?;
        }
    }

    /// Writes everything that is still queued, up to the close frame.
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

    /// Leaves further frames in the socket if `paused` is true, and reads them again if it is false.
    pub(crate) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Notes a good frame, which ends a run of unreadable ones.
    pub(crate) fn good(&mut self) {
        self.garbage = 0;
    }

    /// Counts an unreadable frame, and closes the session after [`GARBAGE`] of them without a good one.
    pub(crate) fn garbage(&mut self, session: &Session) {
        self.garbage += 1;
        if self.garbage == GARBAGE {
            session.close(CloseCode::Unreadable);
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
        self.frames.get_mut().begin_turn();
        let message = self.frames.read();
        self.turn += 1;
        if message.is_ok() {
            self.fruitless = 0;
        }
        match message {
            Ok(Message::Text(text)) => return Input::Text(text),
            Ok(Message::Binary(_)) => {
                session.refuse(None, &Refusal::new(Code::Unsupported, "binary frames are not supported"));
                self.garbage(session);
            }
            Ok(Message::Ping(payload)) => {
                if self.admits_frame(session, None) {
                    session.send_control(PONG, &payload);
                }
            }
            Ok(Message::Pong(_) | Message::Frame(_)) => {
                self.admits_frame(session, None);
            }
            Ok(Message::Close(_)) => {
                session.client_closed();
                session.close(CloseCode::Normal);
            }
            Err(Error::Io(error)) => match error.kind() {
                io::ErrorKind::WouldBlock if self.frames.get_ref().is_turn_over() => {
                    // Nothing but pieces of a frame: others get their turn, and it must end some time.
                    self.turn = TURN;
                    self.fruitless += 1;
                    if self.fruitless == FRUITLESS {
                        session.close(CloseCode::TooManyFrames);
                    }
                }
                io::ErrorKind::WouldBlock => return Input::Nothing,
                io::ErrorKind::Interrupted => {}
                _ => return Input::End(ConnectionEnd::Gone),
            },
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => return Input::End(ConnectionEnd::Gone),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return Input::End(ConnectionEnd::Gone);
            }
            Err(Error::Capacity(_)) => session.close(CloseCode::TooBig),
            // Nothing more can be read from the stream: it is unknown where the next frame begins.
            Err(_) => session.close(CloseCode::Unreadable),
        }
        Input::Done
    }
}
