//! One WebSocket from its handshake to its end: signs in, then hands the client's frames to the session.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sendpi_model::UserId;
use sendpi_model::timing::CLOSE_TIMEOUT;
use sendpi_session::{Identity, Session};
use tokio::io::AsyncWriteExt;
use tracing::debug;

use crate::connection::{ConnectionEnd, WsConnection};
use crate::handshake::sign_in;
use crate::incoming::receive_frame;
use crate::shared::Shared;
use crate::socket::WsSocket;

/// How long a client may take to close its side after that.
const LINGER: Duration = Duration::from_secs(2);

/// Runs the session of an upgraded socket; `rest` is what came with the handshake already.
pub(crate) async fn run(shared: Arc<Shared>, socket: Arc<WsSocket>, rest: Bytes, identity: Option<Identity>) {
    let cut = shared.cut.clone();
    tokio::select! {
        () = cut.cancelled() => {}
        () = serve(&shared, socket, rest, identity) => {}
    }
}

async fn serve(shared: &Shared, socket: Arc<WsSocket>, rest: Bytes, identity: Option<Identity>) {
    let session = match shared.sessions.open(Arc::clone(&socket) as _) {
        Ok(session) => session,
        Err(refusal) => {
            socket.turn_away(&refusal);
            return linger(socket).await;
        }
    };
    let mut connection = WsConnection::new(Arc::clone(&socket), &rest);
    drop(rest);
    // Signing in has timers and buffers that a session does without afterwards.
    let signed_in = Box::pin(sign_in(shared, &mut connection, &session, identity)).await;
    let end = match signed_in {
        Ok(user) => exchange(shared, &mut connection, &session, &user).await,
        Err(end) => end,
    };
    if end == ConnectionEnd::Closing {
        let written = tokio::time::timeout(CLOSE_TIMEOUT, connection.finish(&session)).await;
        debug!(in_time = written.is_ok(), "a session was closed from here");
    }
    // The session has ended for everybody else now; only the socket still waits for its peer.
    drop(session);
    drop(connection);
    if end != ConnectionEnd::Gone {
        linger(socket).await;
    }
}

/// Hands over frames until the session ends.
async fn exchange(shared: &Shared, connection: &mut WsConnection, session: &Session, user: &UserId) -> ConnectionEnd {
    loop {
        match connection.text(session).await {
            Ok(text) => receive_frame(shared, connection, session, user, text.as_bytes()),
            Err(end) => return end,
        }
    }
}

/// Ends the stream after the last frame, and lets the client close first: closing with something unread would reset the connection,
/// and the client might never see why.
async fn linger(socket: Arc<WsSocket>) {
    let until_closed = async {
        let Some(WsSocket(mut stream)) = Arc::into_inner(socket) else { return };
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut dropped = vec![0; 4096];
        while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut stream, &mut dropped).await {}
    };
    let _in_time = tokio::time::timeout(LINGER, until_closed).await;
}
