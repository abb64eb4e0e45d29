//! One member's connection under load. It counts what comes, and in a closed loop it sends the next message.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::connection::{Connection, close_text, write_all};
use crate::frame::{SeenFrame, look, write_send};
use crate::load::{Load, Phase, Tally};
use crate::websocket::{Decoder, WsFrame, WsFrameKind, encode};

/// Appends one message to `out`, as a whole frame.
pub(crate) fn put_send(out: &mut Vec<u8>, room: &str, load: &Load) {
    let mut text = Vec::with_capacity(256);
    write_send(&mut text, room, load.now(), load.nonce());
    encode(out, WsFrameKind::Text, &text);
}

/// Receives all frames of one member.
#[derive(Debug)]
pub(crate) struct Receiver {
    stream: Arc<TcpStream>,
    decoder: Decoder,
    /// The frames that came right after the welcome.
    waiting: VecDeque<Vec<u8>>,
    load: Arc<Load>,
    /// The room and the member's number. `None` for a user who is only signed in.
    member: Option<(usize, usize)>,
    /// Whether the member sends its next message after each answer.
    closed_loop: bool,
}

/// What has to be done after a round of reading.
#[derive(Debug, Default)]
struct ReceiverEffects {
    /// The bytes to write.
    out: Vec<u8>,
    /// How many messages to send at once.
    sends: usize,
    /// The pauses after each of which a message is to be sent.
    later: Vec<Duration>,
    /// The reason why the connection has ended.
    trouble: Option<String>,
}

impl Receiver {
    pub(crate) fn new(
        connection: Connection,
        load: Arc<Load>,
        member: Option<(usize, usize)>,
        closed_loop: bool,
    ) -> Self {
        let Connection { stream, decoder, waiting, .. } = connection;
        Self { stream, decoder, waiting, load, member, closed_loop }
    }

    /// Runs until the connection ends.
    pub(crate) async fn run(mut self) {
        let first = self.take_waiting();
        let mut ended = self.carry_out(first).await;
        while ended.is_ok() {
            ended = match self.stream.readable().await {
                Ok(()) => {
                    let effects = self.read();
                    self.carry_out(effects).await
                }
                Err(error) => Err(error.to_string()),
            };
        }
        if let Err(trouble) = ended {
            self.load.trouble(trouble);
        }
    }

    /// Does what a round of reading asked for. Returns the reason why the connection has ended, if it has.
    async fn carry_out(&self, mut effects: ReceiverEffects) -> Result<(), String> {
        if let Some(trouble) = effects.trouble {
            return Err(trouble);
        }
        for pause in effects.later {
            tokio::spawn(send_later(self.stream.clone(), self.load.clone(), self.member, pause));
        }
        if effects.sends > 0
            && let Some(name) = self.room_name()
        {
            (0..effects.sends).for_each(|_| put_send(&mut effects.out, &name, &self.load));
        }
        write_all(&self.stream, &effects.out).await.map_err(|error| error.to_string())
    }

    /// Receives the frames that came right after the welcome.
    fn take_waiting(&mut self) -> ReceiverEffects {
        let (load, mut effects) = (self.load.clone(), ReceiverEffects::default());
        let (now, phase) = (load.now(), load.phase());
        for payload in std::mem::take(&mut self.waiting) {
            let frame = WsFrame { kind: WsFrameKind::Text, payload: &payload };
            self.take(frame, now, phase, &mut load.tally(), &mut effects);
        }
        effects
    }

    fn room_name(&self) -> Option<String> {
        let (room, _) = self.member?;
        Some(self.load.tally().rooms.get(room)?.name.clone())
    }

    /// Reads once, and receives all frames that came.
    fn read(&mut self) -> ReceiverEffects {
        let (load, mut effects) = (self.load.clone(), ReceiverEffects::default());
        let mut tally = load.tally();
        let mut scratch = std::mem::take(&mut tally.scratch);
        match self.stream.try_read(&mut scratch) {
            Ok(0) => effects.trouble = Some("a connection ended".into()),
            Ok(read) => {
                let (now, phase) = (load.now(), load.phase());
                let mut decoder = std::mem::take(&mut self.decoder);
                // Receiving a frame cannot fail, because errors are among the effects.
                let _ = decoder.feed(&scratch[..read], |frame| {
                    self.take(frame, now, phase, &mut tally, &mut effects);
                    Ok::<_, ()>(())
                });
                self.decoder = decoder;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => effects.trouble = Some(error.to_string()),
        }
        tally.scratch = scratch;
        effects
    }

    fn take(&self, frame: WsFrame<'_>, now: u64, phase: Phase, tally: &mut Tally, effects: &mut ReceiverEffects) {
        match frame.kind {
            WsFrameKind::Text => {}
            WsFrameKind::Ping => return encode(&mut effects.out, WsFrameKind::Other, frame.payload),
            WsFrameKind::Close => {
                effects.trouble = Some(format!("a session was closed: {}", close_text(frame.payload)));
                return;
            }
            WsFrameKind::Other => return,
        }
        let counted = phase == Phase::Counted;
        // What is under way when the load is over may be what took longest.
        let timed = phase != Phase::Warm;
        let more = self.closed_loop && phase != Phase::Over;
        match (look(frame.payload), self.member) {
            (SeenFrame::Event { seq, sent }, Some((_, member))) => {
                tally.event(member, seq);
                if let Some(sent) = sent {
                    tally.deliveries += u64::from(counted);
                    if timed {
                        tally.latency.record(now.saturating_sub(sent));
                    }
                }
            }
            (SeenFrame::Done { id, seq }, member) => {
                tally.ended += 1;
                let Some((room, _)) = member else { return };
                let done = &mut tally.rooms[room].done;
                *done = seq.max(*done);
                tally.answered += u64::from(counted);
                if timed {
                    tally.answers.record(now.saturating_sub(id));
                }
                effects.sends += usize::from(more);
            }
            (SeenFrame::Refused { retry_in_ms, .. }, _) => {
                tally.ended += 1;
                tally.refused += 1;
                if more {
                    effects.later.push(Duration::from_millis(retry_in_ms.unwrap_or(100)));
                }
            }
            (SeenFrame::Ping, _) => encode(&mut effects.out, WsFrameKind::Text, br#"{"op":"pong"}"#),
            (SeenFrame::Trouble, _) => {
                let text = String::from_utf8_lossy(frame.payload);
                tally.trouble.get_or_insert(format!("the server said {text}"));
            }
            _ => {}
        }
    }
}

/// Sends another message after a refusal and a pause.
async fn send_later(stream: Arc<TcpStream>, load: Arc<Load>, member: Option<(usize, usize)>, pause: Duration) {
    tokio::time::sleep(pause).await;
    let Some((room, _)) = member else { return };
    if load.phase() == Phase::Over {
        return;
    }
    let name = load.tally().rooms[room].name.clone();
    let mut out = Vec::new();
    put_send(&mut out, &name, &load);
    if let Err(error) = write_all(&stream, &out).await {
        load.trouble(error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Appends a text frame as a server sends it, without a mask.
    fn put_text(out: &mut Vec<u8>, text: &str) {
        out.extend([0x81, text.len() as u8]);
        out.extend_from_slice(text.as_bytes());
    }

    #[tokio::test]
    async fn what_comes_right_after_the_welcome_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut piece = [0; 1024];
            assert!(socket.read(&mut piece).await.unwrap() > 0, "the upgrade");
            socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.unwrap();
            assert!(socket.read(&mut piece).await.unwrap() > 0, "the hello");
            let mut out = Vec::new();
            put_text(&mut out, r#"{"id":1,"op":"welcome","rooms":[]}"#);
            put_text(&mut out, r#"{"op":"ping"}"#);
            socket.write_all(&out).await.unwrap();
            let read = socket.read(&mut piece).await.unwrap();
            String::from_utf8_lossy(&piece[..read]).into_owned()
        });
        let connection = Connection::sign_in(&address, "token", 0).await.unwrap().connection;
        let receiver = Receiver::new(connection, Arc::new(Load::new(Vec::new())), None, false);
        let running = tokio::spawn(receiver.run());
        let answer = tokio::time::timeout(Duration::from_secs(10), server).await.expect("an answer").unwrap();
        assert!(answer.contains(r#"{"op":"pong"}"#), "{answer:?}");
        running.abort();
    }
}
