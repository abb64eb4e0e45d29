//! The two halves of a connection: one sends requests, the other receives frames.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sendpi_model::Refusal;
use sendpi_model::server_frame::ServerFrame;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::answers::{Answers, ForgetOnDrop};
use crate::connection::{ClientConnection, ConnectionCommand};
use crate::{ClientError, Closed, Options};

/// How many commands may be queued for the connection. Beyond that, a caller waits.
const COMMANDS: usize = 256;

/// The half that sends requests and receives their answers. Clones share the connection, which ends with the last of
/// them.
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::Sender<ConnectionCommand>,
    answers: Arc<Answers>,
    closed: watch::Receiver<Option<Closed>>,
    timeout: Duration,
}

/// The frames that the server sends on its own, in order.
#[derive(Debug)]
pub struct Frames(mpsc::Receiver<Utf8Bytes>);

impl Client {
    pub(crate) fn start(stream: WebSocketStream<MaybeTlsStream<TcpStream>>, options: &Options) -> (Self, Frames) {
        let (commands, taken) = mpsc::channel(COMMANDS);
        let (frames, incoming) = mpsc::channel(options.queue);
        let (ended, closed) = watch::channel(None);
        let answers = Arc::new(Answers::default());
        let connection = ClientConnection::new(stream, taken, frames, Arc::clone(&answers), options.pong);
        tokio::spawn(async move {
            let (end, answers) = connection.run().await;
            // In this order, so that a request that gets no answer can already see how the connection ended.
            ended.send_replace(Some(end));
            answers.clear();
        });
        (Self { commands, answers, closed, timeout: options.timeout }, Frames(incoming))
    }

    /// Sends a request, which is an object with an `op`, under a fresh id, and waits for its answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the server refuses it, or another [`ClientError`] if no readable answer comes.
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
    /// [`ClientError::Closed`] if the connection has ended.
    pub async fn send_text(&self, text: impl Into<Utf8Bytes>) -> Result<(), ClientError> {
        self.command(ConnectionCommand::Send(Message::Text(text.into()))).await
    }

    /// Sends a binary frame.
    ///
    /// # Errors
    /// [`ClientError::Closed`] if the connection has ended.
    pub async fn send_binary(&self, bytes: impl Into<Bytes>) -> Result<(), ClientError> {
        self.command(ConnectionCommand::Send(Message::Binary(bytes.into()))).await
    }

    /// Reads nothing more from the connection until [`Client::start_reading`], like a client that is slow. Until then
    /// the end of the connection is not seen either.
    ///
    /// # Errors
    /// [`ClientError::Closed`] if the connection has ended.
    pub async fn stop_reading(&self) -> Result<(), ClientError> {
        self.command(ConnectionCommand::Read(false)).await
    }

    /// Reads from the connection again.
    ///
    /// # Errors
    /// [`ClientError::Closed`] if the connection has ended.
    pub async fn start_reading(&self) -> Result<(), ClientError> {
        self.command(ConnectionCommand::Read(true)).await
    }

    /// Ends the connection with a close frame, and returns how it ended.
    pub async fn close(&self) -> Closed {
        // If the connection has ended already, there is nothing to do.
        let _ = self.command(ConnectionCommand::Close).await;
        self.closed().await
    }

    /// Drops the TCP connection without a close frame, and waits until it is gone.
    pub async fn cut(&self) {
        let _ = self.command(ConnectionCommand::Cut).await;
        self.closed().await;
    }

    /// Waits for the end of the connection, and returns how it ended.
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
    /// Returns the next frame, or `None` once the connection has ended and all frames were returned.
    ///
    /// # Errors
    /// [`ClientError::Answer`] if the frame does not follow the protocol.
    pub async fn next(&mut self) -> Option<Result<ServerFrame, ClientError>> {
        let text = self.0.recv().await?;
        Some(serde_json::from_str(&text).map_err(ClientError::from))
    }

    /// Returns the text of the next frame, for callers that need only a part of it.
    pub async fn next_text(&mut self) -> Option<Utf8Bytes> {
        self.0.recv().await
    }
}

#[cfg(test)]
mod tests;
