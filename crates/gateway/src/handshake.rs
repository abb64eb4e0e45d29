//! The first frame of a session: `hello`.

use sendpi_model::{ClientFrame, ClientOp, CloseCode, Code, FrameId, Hello, Millis, Nonce, Refusal, UserId, limits};
use sendpi_session::{Identity, Session};
use tungstenite::Utf8Bytes;

use crate::TokenError;
use crate::connection::{ConnectionEnd, WsConnection};
use crate::shared::Shared;

/// Signs a client in. Returns its user, and the frames that came before the welcome, which are to be handled now.
/// `bearer` is the identity in the token on the upgrade request, if it had one.
pub(crate) async fn sign_in(
    shared: &Shared,
    connection: &mut WsConnection,
    session: &Session,
    bearer: Option<Identity>,
) -> Result<(UserId, Vec<Utf8Bytes>), ConnectionEnd> {
    let (id, hello) = first_frame(shared, connection, session).await?;
    let identity = match identify(shared, &hello, bearer).await {
        Ok(identity) => identity,
        Err((refusal, code)) => {
            session.refuse(id, &refusal);
            session.close(code);
            return Err(ConnectionEnd::Closing);
        }
    };
    let user = identity.user.clone();
    // First of all, so that a token that was revoked neither ends the sessions of its user nor uses up the rate. It is
    // checked again once presence is up, for a sign-out of this very moment.
    let allowed = shared.sessions.check_token(&identity).await.and_then(|()| shared.rates.check_sign_in(&user));
    if let Err(refusal) = allowed {
        session.refuse(id, &refusal);
        session.close(close_code(&refusal));
        return Err(ConnectionEnd::Closing);
    }
    let mut held = EarlyFrames::default();
    let welcome = session.hello(id.clone(), identity, hello);
    let mut welcome = std::pin::pin!(welcome);
    let outcome = loop {
        connection.pause(held.is_full());
        tokio::select! {
            biased;
            outcome = &mut welcome => break outcome,
            text = connection.text(session) => held.add(text?),
        }
    };
    connection.pause(false);
    if let Err(refusal) = outcome {
        session.refuse(id, &refusal);
        session.close(close_code(&refusal));
        return Err(ConnectionEnd::Closing);
    }
    Ok((user, held.frames))
}

/// Waits for `hello`. Queues a refusal and a close frame if its time runs out or if another request comes first.
async fn first_frame(
    shared: &Shared,
    connection: &mut WsConnection,
    session: &Session,
) -> Result<(Option<FrameId>, Hello), ConnectionEnd> {
    let reading = async {
        loop {
            let text = connection.text(session).await?;
            match ClientFrame::parse(text.as_bytes(), None, fresh_nonce) {
                Ok(ClientFrame { id, op: ClientOp::Hello(hello) }) => return Ok(Ok((id, hello))),
                Ok(ClientFrame { id, .. }) => return Ok(Err((id, not_signed_in("the first frame must be hello")))),
                Err((id, refusal)) if refusal.code == Code::Unauthorized => return Ok(Err((id, refusal))),
                // The client may correct its mistake in the next frame.
                Err((id, refusal)) => {
                    session.refuse(id, &refusal);
                    connection.garbage(session);
                }
            }
        }
    };
    let refused = match tokio::time::timeout(shared.config.sign_in_timeout, reading).await {
        Ok(Ok(Ok(hello))) => return Ok(hello),
        Ok(Ok(Err(refused))) => refused,
        Ok(Err(end)) => return Err(end),
        Err(_) => (None, not_signed_in("no hello came in time")),
    };
    session.refuse(refused.0, &refused.1);
    session.close(CloseCode::NotSignedIn);
    Err(ConnectionEnd::Closing)
}

/// Returns the identity from the token in `hello`, or `bearer` if `hello` carries no token.
async fn identify(shared: &Shared, hello: &Hello, bearer: Option<Identity>) -> Result<Identity, (Refusal, CloseCode)> {
    let Some(token) = &hello.token else {
        return bearer.ok_or_else(|| (not_signed_in("hello carries no token"), CloseCode::NotSignedIn));
    };
    shared.tokens.check(token, Millis::now()).await.map_err(|error| {
        let code = if error == TokenError::Expired { CloseCode::TokenExpired } else { CloseCode::NotSignedIn };
        (error.into(), code)
    })
}

fn not_signed_in(message: &str) -> Refusal {
    Refusal::new(Code::Unauthorized, message)
}

/// Returns a random nonce for a creation for which the client sent none.
pub(crate) fn fresh_nonce() -> Nonce {
    let text = format!("{:032x}", rand::random::<u128>());
    Nonce::parse(&text).unwrap_or_else(|_| unreachable!("32 hexadecimal digits form a valid nonce"))
}

/// Returns the close code for a refused sign-in. It says whether it makes sense for the client to come back.
fn close_code(refusal: &Refusal) -> CloseCode {
    match refusal.code {
        Code::Unavailable | Code::RateLimited | Code::Internal => CloseCode::Drain,
        _ => CloseCode::NotSignedIn,
    }
}

/// Text frames that arrive before `welcome` is sent, because a client need not wait for it.
#[derive(Debug, Default)]
struct EarlyFrames {
    frames: Vec<Utf8Bytes>,
    bytes: usize,
}

impl EarlyFrames {
    fn is_full(&self) -> bool {
        self.frames.len() >= limits::SESSION_REQUESTS || self.bytes >= limits::FRAME_BYTES
    }

    fn add(&mut self, text: Utf8Bytes) {
        self.bytes += text.len();
        self.frames.push(text);
    }
}
