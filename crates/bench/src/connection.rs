//! One connection of the client protocol, for what is not counted: signing in, making rooms.

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::BenchError;
use crate::frame::{SeenFrame, look};
use crate::websocket::{Decoder, WsFrame, WsFrameKind, encode};

/// How often something is asked that the server has no time for.
const TRIES: usize = 100;
/// How long to wait before, where the server does not say.
const PAUSE: Duration = Duration::from_millis(100);

/// Requests of one session that may be unanswered, with some distance to the server's limit.
const AT_ONCE: usize = 48;

/// A session that is up.
#[derive(Debug)]
pub(crate) struct SignedIn {
    pub(crate) connection: Connection,
    /// The user's rooms, with the seq of each.
    pub(crate) rooms: Vec<(String, u64)>,
    /// From hello to welcome.
    pub(crate) took: Duration,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Arc<TcpStream>,
    pub(crate) decoder: Decoder,
    /// Frames that came, and were not taken yet.
    pub(crate) waiting: VecDeque<Vec<u8>>,
    asked: u64,
}

/// Writes all of `bytes`.
pub(crate) async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Connection {
    /// Opens a WebSocket; `None` where the server takes none at this moment.
    async fn open(address: &str) -> Result<Option<Self>, BenchError> {
        let stream = Arc::new(TcpStream::connect(address).await?);
        stream.set_nodelay(true)?;
        let upgrade = format!(
            "GET /v1/ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2VuZHBpLWJlbmNoLWtleQ==\r\n\
             Sec-WebSocket-Protocol: sendpi.v1\r\n\r\n"
        );
        write_all(&stream, upgrade.as_bytes()).await?;
        let mut connection = Self { stream, decoder: Decoder::default(), waiting: VecDeque::new(), asked: 0 };
        let mut head = Vec::new();
        let end = loop {
            connection.read(&mut head).await?;
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let (head, rest) = head.split_at(end);
        let status = std::str::from_utf8(head).ok().and_then(|head| head.split(' ').nth(1)).unwrap_or_default();
        match status {
            "101" => {
                connection.take(rest)?;
                Ok(Some(connection))
            }
            "429" | "503" => Ok(None),
            _ => Err(BenchError::protocol(format!("the upgrade was answered with {status}"))),
        }
    }

    async fn read(&self, into: &mut Vec<u8>) -> Result<(), BenchError> {
        let mut piece = [0; 2048];
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut piece) {
                Ok(0) => return Err(BenchError::protocol("the connection ended")),
                Ok(read) => {
                    into.extend_from_slice(&piece[..read]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), BenchError> {
        let waiting = &mut self.waiting;
        self.decoder.feed(bytes, |WsFrame { kind, payload }| match kind {
            WsFrameKind::Text => {
                waiting.push_back(payload.to_vec());
                Ok(())
            }
            WsFrameKind::Close => Err(BenchError::protocol(format!("the session was closed: {}", close_text(payload)))),
            WsFrameKind::Ping | WsFrameKind::Other => Ok(()),
        })
    }

    async fn send(&self, text: &[u8]) -> Result<(), BenchError> {
        let mut frame = Vec::with_capacity(text.len() + 14);
        encode(&mut frame, WsFrameKind::Text, text);
        Ok(write_all(&self.stream, &frame).await?)
    }

    /// The next frame that is no heartbeat.
    async fn next(&mut self) -> Result<Vec<u8>, BenchError> {
        loop {
            let Some(frame) = self.waiting.pop_front() else {
                let mut bytes = Vec::new();
                self.read(&mut bytes).await?;
                self.take(&bytes)?;
                continue;
            };
            match look(&frame) {
                SeenFrame::Ping => self.send(br#"{"op":"pong"}"#).await?,
                _ => return Ok(frame),
            }
        }
    }

    /// Asks once; the answer may be an error.
    async fn ask_once(&mut self, frame: &Value) -> Result<Value, BenchError> {
        self.asked += 1;
        self.send_as(self.asked, frame).await?;
        loop {
            let answer = self.next().await?;
            let answer: Value = serde_json::from_slice(&answer).map_err(|e| BenchError::protocol(e.to_string()))?;
            if answer["id"] == self.asked {
                return Ok(answer);
            }
        }
    }

    /// Asks until it is done; what the server has no time for is asked again.
    pub(crate) async fn ask(&mut self, frame: Value) -> Result<Value, BenchError> {
        for _ in 0..TRIES {
            let answer = self.ask_once(&frame).await?;
            match again(&answer) {
                Some(pause) => tokio::time::sleep(pause).await,
                None if answer["op"] == "error" => return Err(refused(&frame, &answer)),
                None => return Ok(answer),
            }
        }
        Err(refused(&frame, &"it had no time, again and again".into()))
    }

    /// Asks all of `frames`, as many at once as a session may, until all are done.
    pub(crate) async fn ask_all(
        &mut self,
        frames: impl Iterator<Item = Value>,
        mut done: impl FnMut(usize),
    ) -> Result<(), BenchError> {
        let (mut frames, mut under_way, mut count) = (frames, HashMap::new(), 0);
        loop {
            while under_way.len() < AT_ONCE {
                let Some(frame) = frames.next() else { break };
                self.asked += 1;
                self.send_as(self.asked, &frame).await?;
                under_way.insert(self.asked, frame);
            }
            if under_way.is_empty() {
                return Ok(());
            }
            let answer: Value =
                serde_json::from_slice(&self.next().await?).map_err(|e| BenchError::protocol(e.to_string()))?;
            let Some((id, frame)) = answer["id"].as_u64().and_then(|id| under_way.remove_entry(&id)) else { continue };
            if let Some(pause) = again(&answer) {
                // Whoever asks too much waits with all.
                tokio::time::sleep(pause).await;
                self.send_as(id, &frame).await?;
                under_way.insert(id, frame);
            } else if answer["op"] == "error" {
                return Err(refused(&frame, &answer));
            } else {
                count += 1;
                done(count);
            }
        }
    }

    async fn send_as(&self, id: u64, frame: &Value) -> Result<(), BenchError> {
        let mut frame = frame.clone();
        frame["id"] = id.into();
        self.send(frame.to_string().as_bytes()).await
    }

    /// Connects and signs in; asks for a first page of as many rooms.
    pub(crate) async fn sign_in(address: &str, token: &str, page: usize) -> Result<SignedIn, BenchError> {
        let hello = json!({"op": "hello", "token": token, "device": "bench", "rooms": page});
        for _ in 0..TRIES {
            let Some(mut connection) = Self::open(address).await? else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let start = Instant::now();
            let answer = connection.ask_once(&hello).await?;
            match again(&answer) {
                Some(pause) => tokio::time::sleep(pause).await,
                None if answer["op"] == "welcome" => {
                    return Ok(SignedIn { connection, rooms: rooms(&answer), took: start.elapsed() });
                }
                None => return Err(refused(&hello, &answer)),
            }
        }
        Err(refused(&json!({"op": "hello"}), &"it had no time, again and again".into()))
    }

    /// Ends the session as a client does that leaves.
    pub(crate) async fn close(self) -> Result<(), BenchError> {
        let mut frame = Vec::new();
        encode(&mut frame, WsFrameKind::Close, &1000u16.to_be_bytes());
        Ok(write_all(&self.stream, &frame).await?)
    }
}

/// When to ask again, if that is worth it.
fn again(answer: &Value) -> Option<Duration> {
    let later = answer["op"] == "error" && matches!(answer["code"].as_str(), Some("rate_limited" | "unavailable"));
    later.then(|| answer["retry_in_ms"].as_u64().map_or(PAUSE, Duration::from_millis))
}

fn refused(frame: &Value, answer: &Value) -> BenchError {
    BenchError::Refused { op: frame["op"].as_str().unwrap_or_default().to_owned(), answer: answer.to_string() }
}

fn rooms(welcome: &Value) -> Vec<(String, u64)> {
    let rooms = welcome["rooms"].as_array().into_iter().flatten();
    rooms.filter_map(|room| Some((room["room"].as_str()?.to_owned(), room["seq"].as_u64()?))).collect()
}

/// What a close frame says.
pub(crate) fn close_text(payload: &[u8]) -> String {
    match payload.split_first_chunk() {
        Some((code, reason)) => format!("{} {}", u16::from_be_bytes(*code), String::from_utf8_lossy(reason)),
        None => "without a code".into(),
    }
}
