//! The socket of one WebSocket after its handshake. The session, which writes, and the task, which reads, share it.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use sendpi_model::server_frame::{Bye, OpFrame};
use sendpi_model::{CloseCode, Refusal, limits};
use sendpi_session::Transport;
use tokio::net::TcpStream;
use tracing::debug;
use tungstenite::WebSocket;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

/// The size of a read buffer in bytes. It is small because an idle session keeps its buffer.
const READ_BUFFER: usize = 256;
/// How many bytes are read in one turn.
const TURN_BYTES: usize = 128 * 1024;

/// The upgraded stream.
#[derive(Debug)]
pub(crate) struct WsSocket(pub(crate) TcpStream);

impl Transport for WsSocket {
    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }
}

/// The stream that tungstenite reads from. It never blocks.
///
/// What tungstenite writes by itself (the answers to ping and close) is dropped. Everything that is sent goes through
/// the session's outbound, so that no frame lands in the middle of another one that is half written.
#[derive(Debug)]
pub(crate) struct Adaptor {
    socket: Arc<WsSocket>,
    /// The bytes that hyper read beyond the request.
    rest: Bytes,
    /// How many more bytes may be read in this turn.
    turn: usize,
}

impl Adaptor {
    /// Begins a turn, in which a limited number of bytes is read. Otherwise a client that sends nothing but pieces of a
    /// frame would never let go of its thread.
    pub(crate) fn begin_turn(&mut self) {
        self.turn = TURN_BYTES;
    }

    /// Returns whether a read failed only because the turn is over.
    pub(crate) fn is_turn_over(&self) -> bool {
        self.turn == 0
    }
}

impl Read for Adaptor {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = self.turn.min(buf.len());
        if most == 0 && !buf.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = if self.rest.is_empty() {
            self.socket.0.try_read(&mut buf[..most])?
        } else {
            let length = self.rest.len().min(most);
            self.rest.copy_to_slice(&mut buf[..length]);
            length
        };
        self.turn -= length;
        Ok(length)
    }
}

impl Write for Adaptor {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The decoder of the client's frames.
pub(crate) type WsFrames = WebSocket<Adaptor>;

/// Returns a decoder for `socket`. `rest` holds the bytes that arrived together with the handshake.
pub(crate) fn frames(socket: Arc<WsSocket>, rest: &[u8]) -> WsFrames {
    // `rest` is nearly always empty. It is copied so that hyper's own buffer of 8 KiB does not live as long as the
    // session.
    let rest = Bytes::copy_from_slice(rest);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(limits::FRAME_BYTES))
        .max_frame_size(Some(limits::FRAME_BYTES));
    WebSocket::from_raw_socket(Adaptor { socket, rest, turn: TURN_BYTES }, Role::Server, Some(config))
}

impl WsSocket {
    /// Tells a client that there is no session for it now. If the socket does not accept this at once, the client sees
    /// only the end of the connection.
    pub(crate) fn turn_away(&self, refusal: &Refusal) {
        let wait = refusal.retry_in_ms.unwrap_or(1_000);
        let bye = Bye::drain(wait).to_frame();
        let close = CloseFrame { code: CloseCode::Drain.code().into(), reason: CloseCode::Drain.reason().into() };
        let mut bytes = Vec::with_capacity(128);
        let text = Frame::message(bye, OpCode::Data(Data::Text), true);
        let encoded = text.format(&mut bytes).and_then(|()| Frame::close(Some(close)).format(&mut bytes));
        if let Err(error) = encoded.map_err(io::Error::other).and_then(|()| self.0.try_write(&bytes)) {
            debug!(%error, "cannot tell a client to come back later");
        }
    }
}
