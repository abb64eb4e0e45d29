//! The timeline of a room.

use std::sync::Arc;

use axum::extract::State;
use sendpi_model::Refusal;
use serde_json::Value;

use super::answer::JsonAnswer;
use super::caller::Caller;
use super::extract::{At, JsonBody, Query};
use super::room_request;
use super::schema::{Done, Edit, HistoryAnswer, Send};
use crate::http_error::HttpError;
use crate::shared::Shared;

/// Reads a page of the timeline, oldest event first: the newest events, those before a seq, or those after one.
#[utoipa::path(
    get, path = "/v1/rooms/{room}/events", tag = "events",
    params(
        ("room" = String, Path),
        ("before" = Option<u64>, Query, description = "The page ends before this seq"),
        ("after" = Option<u64>, Query, description = "The page begins after this seq"),
        ("limit" = Option<u32>, Query, description = "The most messages, up to 200", minimum = 1, maximum = 200),
    ),
    responses(
        (status = 200, description = "Done", body = HistoryAnswer),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn history(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At(room): At<String>,
    query: Query,
) -> Result<JsonAnswer, HttpError> {
    let mut named = query.fields(&["before", "after", "limit"]);
    named.push(("room", room.into()));
    room_request::ask(&shared, &caller, "history", &named, None).await
}

/// Sends a message. Of a service that acts as itself it becomes a `system` event.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/events", tag = "events", params(("room" = String, Path)), request_body = Send,
    responses(
        (status = 201, body = Done, description = "The message is stored"),
        (status = 200, body = Done, description = "It had been stored before, with the same nonce"),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn send(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At(room): At<String>,
    body: JsonBody,
) -> Result<JsonAnswer, HttpError> {
    room_request::create(&shared, &caller, "send", &[("room", room.into())], &body).await
}

/// Replaces the body of a message of one's own.
#[utoipa::path(
    patch, path = "/v1/rooms/{room}/events/{seq}", tag = "events",
    params(("room" = String, Path), ("seq" = u64, Path)), request_body = Edit,
    responses(
        (status = 200, description = "Done", body = Done),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn edit(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At((room, seq)): At<(String, String)>,
    body: JsonBody,
) -> Result<JsonAnswer, HttpError> {
    room_request::ask(&shared, &caller, "edit", &[("room", room.into()), ("ref", seq_of(&seq)?)], Some(&body)).await
}

/// Deletes a message: its body is gone for good.
#[utoipa::path(
    delete, path = "/v1/rooms/{room}/events/{seq}", tag = "events", operation_id = "delete_event",
    params(("room" = String, Path), ("seq" = u64, Path)),
    responses(
        (status = 200, description = "Done", body = Done),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At((room, seq)): At<(String, String)>,
) -> Result<JsonAnswer, HttpError> {
    room_request::ask(&shared, &caller, "delete", &[("room", room.into()), ("ref", seq_of(&seq)?)], None).await
}

/// Reacts to a message.
#[utoipa::path(
    put, path = "/v1/rooms/{room}/events/{seq}/reactions/{emoji}", tag = "events",
    params(("room" = String, Path), ("seq" = u64, Path), ("emoji" = String, Path)),
    responses(
        (status = 200, description = "Done", body = Done),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn react(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At((room, seq, emoji)): At<(String, String, String)>,
) -> Result<JsonAnswer, HttpError> {
    let named = [("room", room.into()), ("ref", seq_of(&seq)?), ("emoji", emoji.into())];
    room_request::ask(&shared, &caller, "react", &named, None).await
}

/// Takes a reaction back.
#[utoipa::path(
    delete, path = "/v1/rooms/{room}/events/{seq}/reactions/{emoji}", tag = "events",
    operation_id = "take_reaction_back",
    params(("room" = String, Path), ("seq" = u64, Path), ("emoji" = String, Path)),
    responses(
        (status = 200, description = "Done", body = Done),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn take_back(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At((room, seq, emoji)): At<(String, String, String)>,
) -> Result<JsonAnswer, HttpError> {
    let named = [("room", room.into()), ("ref", seq_of(&seq)?), ("emoji", emoji.into()), ("remove", true.into())];
    room_request::ask(&shared, &caller, "react", &named, None).await
}

fn seq_of(text: &str) -> Result<Value, Refusal> {
    let seq = text.parse::<u64>().map_err(|_| Refusal::field("seq", "must be an integer"))?;
    Ok(seq.into())
}
