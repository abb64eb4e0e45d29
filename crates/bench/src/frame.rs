//! The frames of the client protocol. They are searched for bytes instead of being parsed, because they come by the
//! hundred thousand.

/// The length of a message's text, which is a time followed by padding.
const TEXT: usize = 100;
/// The number of digits of the time.
const TIME: usize = 20;

/// What a frame says, as far as the load generator needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeenFrame {
    /// A durable event. If it is a message of this program, `sent` is the time in its text.
    Event { seq: u64, sent: Option<u64> },
    /// The request `id` succeeded, and `seq` is the seq of its event.
    Done { id: u64, seq: u64 },
    /// The request `id` was refused. It may be tried again after `retry_in_ms`, if the server said so.
    Refused { id: u64, retry_in_ms: Option<u64> },
    /// A heartbeat.
    Ping,
    /// The server ends the session, reports an error without an id, or says that the session missed something.
    Trouble,
    /// Any other frame.
    Other,
}

/// Returns what a text frame says.
pub(crate) fn look(frame: &[u8]) -> SeenFrame {
    if let Some(rest) = frame.strip_prefix(br#"{"op":"event","#) {
        return match number(rest, br#""seq":"#) {
            Some(seq) => SeenFrame::Event { seq, sent: sent(frame) },
            None => SeenFrame::Other,
        };
    }
    let id = number(frame, br#""id":"#);
    match (id, op(frame)) {
        (Some(id), b"ok") => number(frame, br#""seq":"#).map_or(SeenFrame::Other, |seq| SeenFrame::Done { id, seq }),
        (Some(id), b"error") => SeenFrame::Refused { id, retry_in_ms: number(frame, br#""retry_in_ms":"#) },
        (None, b"ping") => SeenFrame::Ping,
        (_, b"bye" | b"heads" | b"error") => SeenFrame::Trouble,
        _ => SeenFrame::Other,
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    let first = *what.first()?;
    let mut from = 0;
    loop {
        from += text.get(from..)?.iter().position(|byte| *byte == first)?;
        if text[from..].starts_with(what) {
            return Some(from + what.len());
        }
        from += 1;
    }
}

fn number(text: &[u8], name: &[u8]) -> Option<u64> {
    digits(text.get(find(text, name)?..)?)
}

fn digits(text: &[u8]) -> Option<u64> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    std::str::from_utf8(&text[..end]).ok()?.parse().ok()
}

fn op(frame: &[u8]) -> &[u8] {
    let rest = find(frame, br#""op":""#).map_or(&[][..], |start| &frame[start..]);
    &rest[..rest.iter().position(|byte| *byte == b'"').unwrap_or(0)]
}

/// Returns the time in a message of this program, whose text has a fixed length and ends the frame.
fn sent(frame: &[u8]) -> Option<u64> {
    let body = frame.strip_suffix(br#""}}"#)?;
    let (head, text) = body.split_at_checked(body.len().checked_sub(TEXT)?)?;
    if head.ends_with(br#""text":""#) { digits(&text[..TIME]) } else { None }
}

/// Appends a `send` with the time `nanos` both in its text and as its id, so that no table is needed to time its
/// answer.
pub(crate) fn write_send(out: &mut Vec<u8>, room: &str, nanos: u64, nonce: u64) {
    use std::io::Write;
    // Writing into a Vec cannot fail.
    let _ = write!(
        out,
        r#"{{"id":{nanos},"op":"send","room":"{room}","nonce":"b-{nonce}","body":{{"text":"{nanos:0TIME$}{:x<pad$}"}}}}"#,
        "",
        pad = TEXT - TIME
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(body: &str) -> String {
        format!(
            r#"{{"op":"event","room":"r","seq":42,"count":39,"kind":"message","from":"ann","at":5,"nonce":"c","body":{body}}}"#
        )
    }

    #[test]
    fn a_message_of_ours_tells_when_it_was_sent() {
        let mut send = Vec::new();
        write_send(&mut send, "r", 123_456, 7);
        let send: serde_json::Value = serde_json::from_slice(&send).unwrap();
        assert_eq!((&send["id"], &send["nonce"]), (&123_456.into(), &"b-7".into()));
        assert_eq!(send["body"]["text"].as_str().unwrap().len(), TEXT);
        let frame = event(&send["body"].to_string());
        assert_eq!(look(frame.as_bytes()), SeenFrame::Event { seq: 42, sent: Some(123_456) });
    }

    #[test]
    fn other_events_count_without_a_time_and_ephemeral_ones_do_not() {
        for body in [r#"{"text":"hi"}"#, "{}", &format!(r#"{{"text":"{}"}}"#, "\u{e9}".repeat(60))] {
            assert_eq!(look(event(body).as_bytes()), SeenFrame::Event { seq: 42, sent: None });
        }
        let typing = br#"{"op":"event","room":"r","kind":"typing","from":"bob","at":5}"#;
        assert_eq!(look(typing), SeenFrame::Other);
    }

    #[test]
    fn answers_are_told_by_their_id() {
        assert_eq!(look(br#"{"id":7,"op":"ok","seq":3,"count":2,"at":1}"#), SeenFrame::Done { id: 7, seq: 3 });
        assert_eq!(look(br#"{"op":"ok","seq":3,"id":7}"#), SeenFrame::Done { id: 7, seq: 3 });
        let refused = br#"{"id":7,"op":"error","code":"rate_limited","message":"m","retry_in_ms":50}"#;
        assert_eq!(look(refused), SeenFrame::Refused { id: 7, retry_in_ms: Some(50) });
        assert_eq!(look(br#"{"op":"ping"}"#), SeenFrame::Ping);
        assert_eq!(look(br#"{"op":"bye","reason":"drain"}"#), SeenFrame::Trouble);
        assert_eq!(look(br#"{"op":"room_added","info":{}}"#), SeenFrame::Other);
    }
}
