//! Answers: the fields of the frame that a WebSocket would get, without its `op`.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use sendpi_model::server_frame::{AnswerError, OkAnswer, read_answer};
use sendpi_model::{Code, JsonObject, Refusal, encode_json};
use serde::Serialize;

/// A JSON answer.
#[derive(Debug)]
pub(super) struct JsonAnswer {
    status: StatusCode,
    json: Vec<u8>,
}

impl JsonAnswer {
    /// Answers with JSON.
    pub(super) fn json(json: Vec<u8>) -> Self {
        Self { status: StatusCode::OK, json }
    }

    /// Answers with a value.
    pub(super) fn of(value: &impl Serialize) -> Self {
        Self::json(encode_json(value))
    }

    /// Answers with an empty object.
    pub(super) fn done() -> Self {
        Self::json(b"{}".to_vec())
    }

    /// Answers with the fields of a frame.
    pub(super) fn of_frame(frame: &[u8]) -> Self {
        Self::json(without_op(frame))
    }

    /// Answers 201 with the fields of a frame, and 200 if it says that the request was a repeat.
    pub(super) fn created(frame: &[u8]) -> Result<Self, Refusal> {
        let ok: OkAnswer = read_answer(frame).map_err(unreadable)?;
        let status = if ok.repeat { StatusCode::OK } else { StatusCode::CREATED };
        Ok(Self { status, json: without_op(frame) })
    }
}

impl IntoResponse for JsonAnswer {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.json).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

fn unreadable(error: AnswerError) -> Refusal {
    match error {
        AnswerError::Refused(refusal) => refusal,
        AnswerError::Malformed(error) => {
            tracing::error!(%error, "an owner's answer is unreadable");
            Refusal::new(Code::Internal, "the answer could not be read")
        }
    }
}

/// Returns the refusal in a frame, if it is one.
pub(super) fn refusal_in(frame: &[u8]) -> Option<Refusal> {
    if !frame.starts_with(br#"{"op":"error""#) {
        return None;
    }
    read_answer::<OkAnswer>(frame).err().map(unreadable)
}

/// Returns a frame without its first field, which is `op`.
fn without_op(frame: &[u8]) -> Vec<u8> {
    // An op is a word, without quotes in it.
    let rest = frame.strip_prefix(br#"{"op":""#).and_then(|rest| rest.splitn(2, |byte| *byte == b'"').nth(1));
    match rest {
        Some([b',', fields @ ..]) => [b"{", fields].concat(),
        _ => JsonObject::with_capacity(2).finish(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_frame_without_its_op() {
        let text = |frame: &str| String::from_utf8(without_op(frame.as_bytes())).unwrap();
        assert_eq!(text(r#"{"op":"ok","seq":3,"x":"op\""}"#), r#"{"seq":3,"x":"op\""}"#);
        assert_eq!(text(r#"{"op":"ok"}"#), "{}");
        let refused = refusal_in(br#"{"op":"error","code":"forbidden","message":"no"}"#).unwrap();
        assert_eq!(refused, Refusal::new(Code::Forbidden, "no"));
        assert_eq!(refusal_in(br#"{"op":"ok","code":"forbidden"}"#), None);
    }
}
