//! The part of the NATS protocol that a reader of plain subscriptions needs. It is pure.

use bytes::{Buf, Bytes, BytesMut};

/// The longest line of the protocol, in bytes. A server's INFO may name many servers.
const LINE: usize = 64 * 1024;
/// The longest payload that is accepted, in bytes.
const PAYLOAD: usize = 8 * 1024 * 1024;

/// What a server sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ServerOp {
    /// A message of a subscription.
    Message { sid: u64, payload: Bytes },
    /// The server wants to know whether this side lives.
    Ping,
    /// The server has handled everything up to our ping.
    Pong,
    /// Something is wrong. The server may close the connection.
    Error(String),
    /// Anything else: who the server is, or that all is well.
    Other,
}

/// The error if the bytes are not the NATS protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what the server sends is not the NATS protocol")]
pub(super) struct Malformed;

/// Drains the next thing that a server sent. Returns `None` if not all of it has arrived yet.
pub(super) fn next(buffer: &mut BytesMut) -> Result<Option<ServerOp>, Malformed> {
    let Some(end) = buffer.windows(2).position(|pair| pair == b"\r\n") else {
        return if buffer.len() > LINE { Err(Malformed) } else { Ok(None) };
    };
    let line = std::str::from_utf8(buffer.get(..end).unwrap_or_default()).map_err(|_| Malformed)?;
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let said = match word.to_ascii_uppercase().as_str() {
        "MSG" => {
            let (sid, length) = message(rest).ok_or(Malformed)?;
            if length > PAYLOAD {
                return Err(Malformed);
            }
            if buffer.len() < end + 2 + length + 2 {
                return Ok(None);
            }
            buffer.advance(end + 2);
            let payload = buffer.split_to(length).freeze();
            if !buffer.starts_with(b"\r\n") {
                return Err(Malformed);
            }
            buffer.advance(2);
            return Ok(Some(ServerOp::Message { sid, payload }));
        }
        "PING" => ServerOp::Ping,
        "PONG" => ServerOp::Pong,
        "-ERR" => ServerOp::Error(rest.trim_matches('\'').to_owned()),
        "INFO" | "+OK" => ServerOp::Other,
        _ => return Err(Malformed),
    };
    buffer.advance(end + 2);
    Ok(Some(said))
}

/// Parses `<subject> <sid> [reply] <bytes>`. Returns the sid and the number of bytes.
fn message(rest: &str) -> Option<(u64, usize)> {
    let mut words = rest.split_ascii_whitespace();
    let sid = words.nth(1)?.parse().ok()?;
    Some((sid, words.next_back()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<ServerOp>, Malformed> {
        let mut buffer = BytesMut::from(text);
        let mut said = Vec::new();
        while let Some(next) = next(&mut buffer)? {
            said.push(next);
        }
        Ok(said)
    }

    fn message(sid: u64, payload: &str) -> ServerOp {
        ServerOp::Message { sid, payload: Bytes::copy_from_slice(payload.as_bytes()) }
    }

    #[test]
    fn a_message_is_read_with_and_without_a_reply_subject() {
        let said = all("INFO {}\r\nMSG a.b 7 2\r\nhi\r\nMSG a.b 8 _R.1 4\r\n\r\nxx\r\nPING\r\n").unwrap();
        assert_eq!(said, [ServerOp::Other, message(7, "hi"), message(8, "\r\nxx"), ServerOp::Ping]);
    }

    #[test]
    fn what_is_not_all_there_yet_waits() {
        let whole = "MSG a 7 5\r\nhello\r\n";
        for cut in 0..whole.len() {
            assert_eq!(all(&whole[..cut]), Ok(vec![]), "{cut}");
        }
        assert_eq!(all(whole), Ok(vec![message(7, "hello")]));
    }

    #[test]
    fn what_is_no_nats_is_refused() {
        for text in ["HTTP/1.1 400 Bad Request\r\n", "MSG a\r\n", "MSG a 1 99999999999\r\n", "MSG a 1 1\r\nxyz"] {
            assert_eq!(all(text), Err(Malformed), "{text}");
        }
        assert_eq!(
            all("-ERR 'Authorization Violation'\r\n"),
            Ok(vec![ServerOp::Error("Authorization Violation".into())])
        );
    }
}
