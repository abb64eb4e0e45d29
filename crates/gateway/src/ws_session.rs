//! One WebSocket from its handshake to its end: signs in, then hands the client's frames to the session.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sendpi_model::timing::CLOSE_TIMEOUT;
use sendpi_model::{ClientFrame, ClientOp, CloseCode, Code, FrameId, Millis, Nonce, Refusal, UserId};
use sendpi_session::{Identity, Session};
use tokio::io::AsyncWriteExt;
use tracing::debug;

use crate::connection::{ConnectionEnd, WsConnection};
use crate::handshake::sign_in;
use crate::server::Shared;
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
            Ok(text) => frame(shared, connection, session, user, text.as_bytes()),
            Err(end) => return end,
        }
    }
}

/// Takes one text frame of a signed-in session.
pub(crate) fn frame(shared: &Shared, connection: &mut WsConnection, session: &Session, user: &UserId, text: &[u8]) {
    match ClientFrame::parse(text, Some(user), fresh_nonce) {
        Ok(ClientFrame { id, op: ClientOp::Token(token) }) => renew(shared, session, user, id, &token),
        Ok(frame) => {
            connection.good();
            session.frame(frame);
        }
        Err((id, refusal)) => {
            session.refuse(id, &refusal);
            if refusal.code == Code::BadFrame {
                connection.garbage(session);
            }
        }
    }
}

fn renew(shared: &Shared, session: &Session, user: &UserId, id: Option<FrameId>, token: &str) {
    match shared.tokens.check(token, Millis::now()) {
        Ok(identity) if identity.user == *user => session.renewed(id, identity.expires_at),
        Ok(_) => session.refuse(id, &Refusal::new(Code::Forbidden, "this token is of another user")),
        Err(error) => session.refuse(id, &error.into()),
    }
}

/// Names a creation for which the client gave no nonce.
pub(crate) fn fresh_nonce() -> Nonce {
    let text = format!("{:032x}", rand::random::<u128>());
    Nonce::parse(&text).unwrap_or_else(|_| unreachable!("32 hexadecimal digits are a nonce"))
}

/// Which close code goes with a refused sign-in: whether it is worth coming back.
pub(crate) fn close_code(refusal: &Refusal) -> CloseCode {
    match refusal.code {
        Code::Unavailable | Code::RateLimited | Code::Internal => CloseCode::Drain,
        _ => CloseCode::NotSignedIn,
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
