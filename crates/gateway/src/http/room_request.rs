//! A request to a room, put together from the path, the query and the body of a request.

use bytes::Bytes;
use sendpi_model::{ClientOp, Code, Fields, JsonObject, Refusal};
use serde_json::Value;

use super::answer::{JsonAnswer, refusal_in};
use super::caller::Caller;
use super::extract::JsonBody;
use crate::handshake::fresh_nonce;
use crate::http_error::HttpError;
use crate::shared::Shared;

/// Fields that do not come from the body, and that the body cannot replace.
pub(super) type Named = (&'static str, Value);

/// Answers with what the owner of the room answers to `op`.
pub(super) async fn ask(
    shared: &Shared,
    caller: &Caller,
    op: &str,
    named: &[Named],
    body: Option<&JsonBody>,
) -> Result<JsonAnswer, HttpError> {
    Ok(JsonAnswer::of_frame(&ask_for_frame(shared, caller, op, named, body).await?))
}

/// Answers 201 with what the owner of the room answers to `op`, or 200 if it had been done before.
pub(super) async fn create(
    shared: &Shared,
    caller: &Caller,
    op: &str,
    named: &[Named],
    body: &JsonBody,
) -> Result<JsonAnswer, HttpError> {
    Ok(JsonAnswer::created(&ask_for_frame(shared, caller, op, named, Some(body)).await?)?)
}

/// Returns the frame of the answer of the owner of the room.
///
/// # Errors
/// Returns the refusal, also if it is the owner's.
pub(super) async fn ask_for_frame(
    shared: &Shared,
    caller: &Caller,
    op: &str,
    named: &[Named],
    body: Option<&JsonBody>,
) -> Result<Bytes, Refusal> {
    let object = JsonObject::with_capacity(256);
    let object = named.iter().fold(object, |object, (name, value)| object.field(name, value));
    let object = object.fields_of(body.map_or(&b"{}"[..], JsonBody::bytes)).finish();
    let op = ClientOp::read(op, &Fields::parse(&object)?, Some(&caller.user), fresh_nonce)?;
    let ClientOp::Room(room, verb) = op else {
        return Err(Refusal::new(Code::Internal, "this is no request to a room"));
    };
    shared.rates.check_verb(&caller.user, &verb)?;
    let frame = shared.sessions.request(caller.requester(), &room, verb).await?;
    refusal_in(&frame).map_or(Ok(frame), Err)
}
