//! One member's connection under load. It counts what comes, and in a closed loop it sends the next message.

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
        let receiver = Self { stream, decoder, load, member, closed_loop };
        // Frames that came right after the welcome.
        let mut effects = ReceiverEffects::default();
        let load = receiver.load.clone();
        for payload in waiting {
            receiver.take(
                WsFrame { kind: WsFrameKind::Text, payload: &payload },
                0,
                Phase::Warm,
                &mut load.tally(),
                &mut effects,
            );
        }
        receiver
    }

    /// Runs until the connection ends.
    pub(crate) async fn run(mut self) {
        loop {
            if let Err(error) = self.stream.readable().await {
                return self.load.trouble(error.to_string());
            }
            let mut effects = self.read();
            if let Some(trouble) = effects.trouble {
                return self.load.trouble(trouble);
            }
            for pause in effects.later {
                tokio::spawn(send_later(self.stream.clone(), self.load.clone(), self.member, pause));
            }
            if effects.sends > 0
                && let Some(name) = self.room_name()
            {
                (0..effects.sends).for_each(|_| put_send(&mut effects.out, &name, &self.load));
            }
            if let Err(error) = write_all(&self.stream, &effects.out).await {
                return self.load.trouble(error.to_string());
            }
        }
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
        let more = self.closed_loop && phase != Phase::Over;
        match (look(frame.payload), self.member) {
            (SeenFrame::Event { seq, sent }, Some((_, member))) => {
                tally.event(member, seq);
                if counted && let Some(sent) = sent {
                    tally.deliveries += 1;
                    tally.latency.record(now.saturating_sub(sent));
                }
            }
            (SeenFrame::Done { id, seq }, Some((room, _))) => {
                let done = &mut tally.rooms[room].done;
                *done = seq.max(*done);
                if counted {
                    tally.answered += 1;
                    tally.answers.record(now.saturating_sub(id));
                }
                effects.sends += usize::from(more);
            }
            (SeenFrame::Refused { retry_in_ms, .. }, _) => {
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
