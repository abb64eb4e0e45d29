//! Runs one WebSocket from its handshake to its end: signs the client in, then passes its frames to the session.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sendpi_model::timing::CLOSE_TIMEOUT;
use sendpi_model::{ClientFrame, ClientOp, Code, FrameId, Millis, Refusal, UserId};
use sendpi_session::{Identity, Session};
use tokio::io::AsyncWriteExt;
use tracing::debug;
use tungstenite::Utf8Bytes;

use crate::connection::{ConnectionEnd, WsConnection};
use crate::handshake::{fresh_nonce, sign_in};
use crate::shared::Shared;
use crate::socket::WsSocket;
use crate::upgrade::AddressPlaces;

/// How long a client may take to close its side after the gateway has closed its own.
const LINGER: Duration = Duration::from_secs(2);
/// How long a client whose session has ended may take to read why.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// Runs the session of an upgraded socket. `rest` holds the bytes that arrived together with the handshake.
pub(crate) async fn run(
    shared: Arc<Shared>,
    socket: Arc<WsSocket>,
    rest: Bytes,
    identity: Option<Identity>,
    places: AddressPlaces,
) {
    let cut = shared.cut.clone();
    tokio::select! {
        () = cut.cancelled() => {}
        () = serve(&shared, socket, rest, identity, places) => {}
    }
}

async fn serve(shared: &Shared, socket: Arc<WsSocket>, rest: Bytes, identity: Option<Identity>, places: AddressPlaces) {
    let AddressPlaces { connection: _connection, unsigned } = places;
    let session = match shared.sessions.open(Arc::clone(&socket) as _) {
        Ok(session) => session,
        Err(refusal) => {
            socket.turn_away(&refusal);
            return linger(socket, &[]).await;
        }
    };
    let mut connection = WsConnection::new(Arc::clone(&socket), &rest, shared.config.rates.frames);
    drop(rest);
    // Boxed, because signing in has timers and buffers that a session does not need afterwards.
    let signed_in = Box::pin(sign_in(shared, &mut connection, &session, identity)).await;
    drop(unsigned);
    let end = match signed_in {
        Ok((user, early)) => exchange(shared, &mut connection, &session, &user, early).await,
        Err(end) => end,
    };
    let mut last_words = Vec::new();
    if end == ConnectionEnd::Closing {
        let written = tokio::time::timeout(CLOSE_TIMEOUT, connection.finish(&session)).await;
        debug!(in_time = written.is_ok(), "a session ends with a close frame");
        if written.is_err() {
            last_words = session.take_last_words();
        }
    }
    // For everybody else the session ends here. Only the socket still waits for its client.
    drop(session);
    drop(connection);
    if end != ConnectionEnd::Gone {
        linger(socket, &last_words).await;
    }
}

/// Passes frames to the session until it ends, beginning with those that came before the welcome.
async fn exchange(
    shared: &Shared,
    connection: &mut WsConnection,
    session: &Session,
    user: &UserId,
    early: Vec<Utf8Bytes>,
) -> ConnectionEnd {
    for text in early {
        receive_frame(shared, connection, session, user, text.as_bytes()).await;
    }
    loop {
        match connection.text(session).await {
            Ok(text) => receive_frame(shared, connection, session, user, text.as_bytes()).await,
            Err(end) => return end,
        }
    }
}

/// Receives one text frame for a signed-in session.
async fn receive_frame(shared: &Shared, connection: &mut WsConnection, session: &Session, user: &UserId, text: &[u8]) {
    shared.metrics.frames.inc();
    let read = ClientFrame::parse(text, Some(user), fresh_nonce);
    let id = read.as_ref().map_or_else(|(id, _)| id, |frame| &frame.id);
    if !connection.admits_frame(session, id.as_ref()) {
        return;
    }
    match read {
        Ok(ClientFrame { id, op: ClientOp::Token(token) }) => renew(shared, session, user, id, &token).await,
        Ok(frame) => {
            connection.good();
            match shared.rates.check(user, &frame.op) {
                Ok(()) => session.frame(frame),
                Err(refusal) => {
                    shared.metrics.refused(refusal.code);
                    session.refuse(frame.id, &refusal);
                }
            }
        }
        Err((id, refusal)) => {
            shared.metrics.refused(refusal.code);
            session.refuse(id, &refusal);
            if refusal.code == Code::BadFrame {
                connection.garbage(session);
            }
        }
    }
}

async fn renew(shared: &Shared, session: &Session, user: &UserId, id: Option<FrameId>, token: &str) {
    match shared.tokens.check(token, Millis::now()).await {
        Ok(identity) if identity.user == *user => session.renew(id, identity),
        Ok(_) => session.refuse(id, &Refusal::new(Code::Forbidden, "this token is of another user")),
        Err(error) => session.refuse(id, &error.into()),
    }
}

/// Writes what is left, shuts the stream down, and lets the client close first. Closing with something unread would
/// reset the connection, and the client might never see the close frame.
async fn linger(socket: Arc<WsSocket>, last_words: &[u8]) {
    let Some(WsSocket(mut stream)) = Arc::into_inner(socket) else { return };
    if !matches!(tokio::time::timeout(LAST_WORDS, stream.write_all(last_words)).await, Ok(Ok(()))) {
        return;
    }
    let until_closed = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut dropped = vec![0; 4096];
        while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut stream, &mut dropped).await {}
    };
    let _in_time = tokio::time::timeout(LINGER, until_closed).await;
}
