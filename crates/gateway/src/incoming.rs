//! Checks a client's frames and passes them to its session.

use sendpi_model::{ClientFrame, ClientOp, CloseCode, Code, FrameId, Millis, Nonce, Refusal, UserId};
use sendpi_session::Session;

use crate::connection::WsConnection;
use crate::shared::Shared;

/// Receives one text frame for a signed-in session.
pub(crate) fn receive_frame(
    shared: &Shared,
    connection: &mut WsConnection,
    session: &Session,
    user: &UserId,
    text: &[u8],
) {
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

/// Returns a random nonce for a creation for which the client sent none.
pub(crate) fn fresh_nonce() -> Nonce {
    let text = format!("{:032x}", rand::random::<u128>());
    Nonce::parse(&text).unwrap_or_else(|_| unreachable!("32 hexadecimal digits form a valid nonce"))
}

/// Returns the close code for a refused sign-in. It says whether it makes sense for the client to come back.
pub(crate) fn close_code(refusal: &Refusal) -> CloseCode {
    match refusal.code {
        Code::Unavailable | Code::RateLimited | Code::Internal => CloseCode::Drain,
        _ => CloseCode::NotSignedIn,
    }
}
