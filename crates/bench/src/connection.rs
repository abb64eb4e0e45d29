//! One connection of the client protocol, for requests that are not measured under load: signing in and creating rooms.

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

/// How often a request is tried if the server has no time for it.
const TRIES: usize = 100;
/// The pause before the next try, if the server does not say how long to wait.
const PAUSE: Duration = Duration::from_millis(100);

/// How many requests of one session may be unanswered. This stays well below the server's limit.
const AT_ONCE: usize = 48;

/// A session that is signed in.
#[derive(Debug)]
pub(crate) struct SignedIn {
    pub(crate) connection: Connection,
    /// The rooms on the first page, with the seq of each.
    pub(crate) rooms: Vec<(String, u64)>,
    /// The time from `hello` to `welcome`.
    pub(crate) took: Duration,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Arc<TcpStream>,
    pub(crate) decoder: Decoder,
    /// Frames that were received but not handled yet.
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
    /// Opens a WebSocket. Returns `None` if the server answers the upgrade with 429 or 503.
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

    /// Returns the next frame that is not a heartbeat, and answers heartbeats.
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

    /// Sends a request once and returns its answer, which may be an error.
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

    /// Sends a request and returns its answer. Tries again as long as the server has no time for it.
    pub(crate) async fn ask(&mut self, frame: Value) -> Result<Value, BenchError> {
        for _ in 0..TRIES {
            let answer = self.ask_once(&frame).await?;
            match again(&answer) {
                Some(pause) => tokio::time::sleep(pause).await,
                None if answer["op"] == "error" => return Err(refused(&frame, &answer)),
                None => return Ok(answer),
            }
        }
        Err(refused(&frame, &"the server had no time for it at any try".into()))
    }

    /// Sends all of `frames`, up to [`AT_ONCE`] at a time, until all have succeeded. After each success, calls `done`
    /// with their number so far.
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
                // A session that sends too many requests waits with all of them.
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

    /// Connects and signs in. Asks for a first page of `page` rooms.
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
        Err(refused(&json!({"op": "hello"}), &"the server had no time for it at any try".into()))
    }

    /// Ends the session with a close frame, as a client does when it leaves.
    pub(crate) async fn close(self) -> Result<(), BenchError> {
        let mut frame = Vec::new();
        encode(&mut frame, WsFrameKind::Close, &1000u16.to_be_bytes());
        Ok(write_all(&self.stream, &frame).await?)
    }
}

/// Returns the pause before the next try, or `None` if `answer` is final.
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

/// Returns the content of a close frame as text.
pub(crate) fn close_text(payload: &[u8]) -> String {
    match payload.split_first_chunk() {
        Some((code, reason)) => format!("{} {}", u16::from_be_bytes(*code), String::from_utf8_lossy(reason)),
        None => "without a code".into(),
    }
}
