//! Rooms, and the caller's list of them.

use std::sync::Arc;

use axum::extract::State;
use sendpi_model::server_frame::RoomsPage;
use sendpi_model::{ClientOp, Code, Fields, JsonObject, Refusal, RoomId, RoomInfo};

use super::answer::JsonAnswer;
use super::caller::Caller;
use super::extract::{At, JsonBody, Query};
use super::room_request;
use super::schema::{Change, Create, CreatedRoom, Done};
use crate::handshake::fresh_nonce;
use crate::http_error::HttpError;
use crate::shared::Shared;

/// Lists the caller's rooms, newest message first.
#[utoipa::path(
    get, path = "/v1/rooms", tag = "rooms", operation_id = "list_rooms",
    params(
        ("cursor" = Option<String>, Query, description = "What the page before gave as `next`"),
        ("limit" = Option<u32>, Query, description = "The most rooms, up to 200", minimum = 1, maximum = 200),
    ),
    responses(
        (status = 200, description = "Done", body = RoomsPage),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    query: Query,
) -> Result<JsonAnswer, HttpError> {
    let named = query.fields(&["cursor", "limit"]);
    let object = named.iter().fold(JsonObject::with_capacity(64), |object, (name, value)| object.field(name, value));
    let object = object.finish();
    let op = ClientOp::read("rooms", &Fields::parse(&object)?, Some(&caller.user), fresh_nonce)?;
    let ClientOp::Rooms { cursor, limit } = op else { return Err(Refusal::new(Code::Internal, "no list").into()) };
    shared.rates.check_list(&caller.user)?;
    let frame = shared.sessions.rooms(&caller.user, cursor.as_deref(), limit).await?;
    Ok(JsonAnswer::of_frame(&frame))
}

/// Creates a room, of which the caller is the owner.
#[utoipa::path(
    post, path = "/v1/rooms", tag = "rooms", operation_id = "create_room", request_body = Create,
    responses(
        (status = 201, body = CreatedRoom, description = "The room was made"),
        (status = 200, body = CreatedRoom, description = "It had been made before, by the same caller and nonce"),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    body: JsonBody,
) -> Result<JsonAnswer, HttpError> {
    room_request::create(&shared, &caller, "create", &[], &body).await
}

/// Shows a room as the caller sees it.
#[utoipa::path(
    get, path = "/v1/rooms/{room}", tag = "rooms", operation_id = "show_room", params(("room" = String, Path)),
    responses(
        (status = 200, description = "Done", body = RoomInfo),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At(room): At<String>,
) -> Result<JsonAnswer, HttpError> {
    let room = RoomId::parse(&room).map_err(|rule| Refusal::field("room", rule))?;
    Ok(JsonAnswer::of(&shared.sessions.room(caller.requester(), &room).await?))
}

/// Changes the name of a room, who may join it, or how long its events are kept.
#[utoipa::path(
    patch, path = "/v1/rooms/{room}", tag = "rooms", operation_id = "change_room",
    params(("room" = String, Path)), request_body = Change,
    responses(
        (status = 200, description = "Done", body = Done),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At(room): At<String>,
    body: JsonBody,
) -> Result<JsonAnswer, HttpError> {
    room_request::ask(&shared, &caller, "change", &[("room", room.into())], Some(&body)).await
}

/// Deletes a room for all of its members. Its id is never used again.
#[utoipa::path(
    delete, path = "/v1/rooms/{room}", tag = "rooms", operation_id = "delete_room", params(("room" = String, Path)),
    responses(
        (status = 200, description = "Done", body = Done),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At(room): At<String>,
) -> Result<JsonAnswer, HttpError> {
    room_request::ask(&shared, &caller, "delete_room", &[("room", room.into())], None).await
}
