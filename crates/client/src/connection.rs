//! The task that owns the socket.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::Closed;
use crate::answers::Answers;

/// A command of the [`Client`](crate::Client) to its connection.
#[derive(Debug)]
pub(crate) enum ConnectionCommand {
    Send(Message),
    Read(bool),
    Close,
    Cut,
}

/// What the connection's task handles next.
enum Step {
    ConnectionCommand(Option<ConnectionCommand>),
    /// The queue of frames has a place for the held frame, or its receiver is gone.
    Place,
    Message(Option<Result<Message, Error>>),
}

/// The socket, and the places to which its frames go.
#[derive(Debug)]
pub(crate) struct ClientConnection {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    commands: mpsc::Receiver<ConnectionCommand>,
    frames: mpsc::Sender<Utf8Bytes>,
    answers: Arc<Answers>,
    pong: bool,
    reading: bool,
    /// A frame for which the queue has no place yet. Nothing more is read until it has one.
    held: Option<Utf8Bytes>,
    /// The content of the server's close frame.
    closed: Option<Closed>,
}

/// The fields of a frame that decide where it goes.
#[derive(Deserialize)]
struct FrameHead<'a> {
    op: &'a str,
    /// The client's ids are integers from 1 up, so 0 means that the frame answers none of them.
    #[serde(default)]
    id: u64,
}

impl ClientConnection {
    pub(crate) fn new(
        stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
        commands: mpsc::Receiver<ConnectionCommand>,
        frames: mpsc::Sender<Utf8Bytes>,
        answers: Arc<Answers>,
        pong: bool,
    ) -> Self {
        Self { stream, commands, frames, answers, pong, reading: true, held: None, closed: None }
    }

    /// Runs until the connection ends, and returns how it ended.
    pub(crate) async fn run(mut self) -> (Closed, Arc<Answers>) {
        let broken = loop {
            let step = tokio::select! {
                command = self.commands.recv() => Step::ConnectionCommand(command),
                place = self.frames.reserve(), if self.held.is_some() => {
                    drop(place);
                    Step::Place
                }
                message = self.stream.next(), if self.reading && self.held.is_none() => Step::Message(message),
            };
            let done = match step {
                Step::ConnectionCommand(Some(ConnectionCommand::Cut) | None) => {
                    break "dropped by this client".to_owned();
                }
                Step::ConnectionCommand(Some(command)) => self.obey(command).await,
                Step::Place => {
                    // If the caller has dropped `Frames`, nobody wants the frame.
                    let _ = self.held.take().map(|text| self.frames.try_send(text));
                    Ok(())
                }
                Step::Message(Some(Ok(message))) => self.take(message).await,
                Step::Message(Some(Err(error))) => Err(error),
                Step::Message(None) => break "the stream ended".to_owned(),
            };
            if let Err(error) = done {
                break error.to_string();
            }
        };
        (self.closed.unwrap_or(Closed { code: None, reason: broken }), self.answers)
    }

    /// Executes `first` and all commands queued behind it, with one flush.
    async fn obey(&mut self, first: ConnectionCommand) -> Result<(), Error> {
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                ConnectionCommand::Send(message) => self.stream.feed(message).await?,
                ConnectionCommand::Read(reading) => self.reading = reading,
                ConnectionCommand::Close => self.stream.feed(Message::Close(None)).await?,
                ConnectionCommand::Cut => return Err(Error::ConnectionClosed),
            }
            next = self.commands.try_recv().ok();
        }
        self.stream.flush().await
    }

    async fn take(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Text(text) => self.take_text(text).await,
            Message::Close(frame) => {
                let (code, reason) = frame.map(|f| (u16::from(f.code), f.reason.to_string())).unwrap_or_default();
                self.closed = Some(Closed { code: (code != 0).then_some(code), reason });
                self.stream.flush().await
            }
            _ => Ok(()),
        }
    }

    async fn take_text(&mut self, text: Utf8Bytes) -> Result<(), Error> {
        let (is_ping, id) =
            serde_json::from_str(&text).map_or((false, 0), |head: FrameHead<'_>| (head.op == "ping", head.id));
        if is_ping {
            return if self.pong { self.stream.send(Message::text(r#"{"op":"pong"}"#)).await } else { Ok(()) };
        }
        let waited_for = id > 0 && self.answers.deliver(id, &text);
        if !waited_for {
            self.held = Some(text);
        }
        Ok(())
    }
}
