//! The two halves of a connection: the one that asks, and the one that listens.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sendpi_model::Refusal;
use sendpi_model::server_frame::ServerFrame;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::answers::{Answers, ForgetOnDrop};
use crate::connection::{ClientConnection, ConnectionCommand};
use crate::{ClientError, Closed, Options};

/// Commands that may wait for the connection.
const COMMANDS: usize = 256;

/// Asks the server, and gets its answers. Clones share the connection; it ends with the last of them.
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::Sender<ConnectionCommand>,
    answers: Arc<Answers>,
    closed: watch::Receiver<Option<Closed>>,
    timeout: Duration,
}

/// What the server sends on its own, in order.
#[derive(Debug)]
pub struct Frames(mpsc::Receiver<Utf8Bytes>);

impl Client {
    pub(crate) fn start(stream: WebSocketStream<TcpStream>, options: &Options) -> (Self, Frames) {
        let (commands, taken) = mpsc::channel(COMMANDS);
        let (frames, incoming) = mpsc::channel(options.queue);
        let (ended, closed) = watch::channel(None);
        let answers = Arc::new(Answers::default());
        let connection = ClientConnection::new(stream, taken, frames, Arc::clone(&answers), options.pong);
        tokio::spawn(async move {
            let (end, answers) = connection.run().await;
            // In this order: who finds no answer any more also finds why.
            ended.send_replace(Some(end));
            answers.clear();
        });
        (Self { commands, answers, closed, timeout: options.timeout }, Frames(incoming))
    }

    /// Sends a request, an object with an `op`, under an id of its own, and waits for its answer.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal is [`ClientError::Refused`].
    pub async fn request(&self, mut request: Value) -> Result<Value, ClientError> {
        let (id, answer) = self.answers.add();
        let _forget = ForgetOnDrop::new(&self.answers, id);
        request["id"] = id.into();
        self.send_text(request.to_string()).await?;
        let Ok(answer) = tokio::time::timeout(self.timeout, answer).await else {
            return Err(ClientError::Timeout(request["op"].as_str().unwrap_or_default().to_owned()));
        };
        let Ok(text) = answer else { return Err(ClientError::Closed(self.closed().await)) };
        let answer: Value = serde_json::from_str(&text)?;
        if answer["op"] == "error" {
            return Err(ClientError::Refused(serde_json::from_value::<Refusal>(answer)?));
        }
        Ok(answer)
    }

    /// Sends a text frame as it is.
    ///
    /// # Errors
    /// [`ClientError::Closed`] where the connection has ended.
    pub async fn send_text(&self, text: impl Into<Utf8Bytes>) -> Result<(), ClientError> {
        self.command(ConnectionCommand::Send(Message::Text(text.into()))).await
    }

    /// Sends a binary frame.
    ///
    /// # Errors
    /// [`ClientError::Closed`] where the connection has ended.
    pub async fn send_binary(&self, bytes: impl Into<Bytes>) -> Result<(), ClientError> {
        self.command(ConnectionCommand::Send(Message::Binary(bytes.into()))).await
    }

    /// Reads nothing more from the connection until [`Client::start_reading`]: a client that is slow. It does not see the end either.
    ///
    /// # Errors
    /// [`ClientError::Closed`] where the connection has ended.
    pub async fn stop_reading(&self) -> Result<(), ClientError> {
        self.command(ConnectionCommand::Read(false)).await
    }

    /// Reads again.
    ///
    /// # Errors
    /// [`ClientError::Closed`] where the connection has ended.
    pub async fn start_reading(&self) -> Result<(), ClientError> {
        self.command(ConnectionCommand::Read(true)).await
    }

    /// Ends the connection with a close frame, and tells how it ended.
    pub async fn close(&self) -> Closed {
        // One that is closed already needs nothing more.
        let _ = self.command(ConnectionCommand::Close).await;
        self.closed().await
    }

    /// Drops the TCP connection without a close frame, and waits until it is gone.
    pub async fn cut(&self) {
        let _ = self.command(ConnectionCommand::Cut).await;
        self.closed().await;
    }

    /// Waits for the end of the connection, and tells how it came.
    pub async fn closed(&self) -> Closed {
        let mut closed = self.closed.clone();
        let gone = Closed { code: None, reason: "the client's task is gone".to_owned() };
        match closed.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(gone),
            Err(_) => gone,
        }
    }

    async fn command(&self, command: ConnectionCommand) -> Result<(), ClientError> {
        match self.commands.send(command).await {
            Ok(()) => Ok(()),
            Err(_) => Err(ClientError::Closed(self.closed().await)),
        }
    }
}

impl Frames {
    /// The next frame; `None` when the connection has ended and all are taken.
    ///
    /// # Errors
    /// [`ClientError::Answer`] where the frame is not what the protocol says.
    pub async fn next(&mut self) -> Option<Result<ServerFrame, ClientError>> {
        let text = self.0.recv().await?;
        Some(serde_json::from_str(&text).map_err(ClientError::from))
    }

    /// The next frame as it came, for who does not need all of it.
    pub async fn next_text(&mut self) -> Option<Utf8Bytes> {
        self.0.recv().await
    }
}

#[cfg(test)]
mod tests;
