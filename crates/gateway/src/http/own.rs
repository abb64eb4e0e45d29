//! What the caller has for itself in a room: the read marker, and which messages are pushed.

use std::sync::Arc;

use axum::extract::State;
use sendpi_model::{Mark, Refusal};

use super::answer::JsonAnswer;
use super::caller::Caller;
use super::extract::{At, JsonBody};
use super::room_request;
use super::schema::{Done, NotifyChoice, ReadUpTo};
use crate::http_error::HttpError;
use crate::shared::Shared;

/// Moves the caller's read marker, which only rises. Answers where it is now.
#[utoipa::path(
    put, path = "/v1/rooms/{room}/marker", tag = "own", params(("room" = String, Path)), request_body = ReadUpTo,
    responses(
        (status = 200, description = "Done", body = Mark),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn read(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At(room): At<String>,
    body: JsonBody,
) -> Result<JsonAnswer, HttpError> {
    room_request::ask(&shared, &caller, "read", &[("room", room.into())], Some(&body)).await
}

/// Chooses which messages of a room are pushed to the caller.
#[utoipa::path(
    put, path = "/v1/rooms/{room}/notify", tag = "own", params(("room" = String, Path)), request_body = NotifyChoice,
    responses(
        (status = 200, description = "Done", body = Done),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn notify(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At(room): At<String>,
    body: JsonBody,
) -> Result<JsonAnswer, HttpError> {
    room_request::ask(&shared, &caller, "notify", &[("room", room.into())], Some(&body)).await
}
