//! Who is in a room.

use std::sync::Arc;

use axum::extract::State;
use bytes::Bytes;
use sendpi_model::server_frame::MembersPage;
use sendpi_model::{Code, Refusal, Role};
use serde_json::{Value, json};

use super::answer::JsonAnswer;
use super::caller::Caller;
use super::extract::{At, JsonBody, Query};
use super::room_request;
use super::schema::{Done, Membership};
use crate::http_error::HttpError;
use crate::shared::Shared;

/// Lists the members of a room, ordered by user.
#[utoipa::path(
    get, path = "/v1/rooms/{room}/members", tag = "members", operation_id = "list_members",
    params(
        ("room" = String, Path),
        ("cursor" = Option<String>, Query, description = "What the page before gave as `next`"),
        ("limit" = Option<u32>, Query, description = "The most members, up to 500", minimum = 1, maximum = 500),
    ),
    responses(
        (status = 200, description = "Done", body = MembersPage),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At(room): At<String>,
    query: Query,
) -> Result<JsonAnswer, HttpError> {
    let mut named = query.fields(&["cursor", "limit"]);
    named.push(("room", room.into()));
    room_request::ask(&shared, &caller, "members", &named, None).await
}

/// Makes a user a member: oneself joins, others are invited. With a role it also gives the role, with `banned` it bans
/// the user or ends the ban.
#[utoipa::path(
    put, path = "/v1/rooms/{room}/members/{user}", tag = "members", operation_id = "put_member",
    params(("room" = String, Path), ("user" = String, Path)), request_body = Option<Membership>,
    responses(
        (status = 200, description = "Done", body = Done),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At((room, user)): At<(String, String)>,
    body: JsonBody,
) -> Result<JsonAnswer, HttpError> {
    let fields = body.fields()?;
    let (role, banned) = (fields.optional::<Role>("role")?, fields.optional::<bool>("banned")?);
    let room = Value::from(room);
    let ask = async |op: &str, fields: &[room_request::Named]| -> Result<Bytes, Refusal> {
        let named = [&[("room", room.clone())], fields].concat();
        room_request::ask_for_frame(&shared, &caller, op, &named, None).await
    };
    let the_user = ("user", Value::from(user.as_str()));
    let frame = match (role, banned) {
        (Some(_), Some(_)) => return Err(Refusal::field("role", "must not come together with banned").into()),
        (None, Some(true)) => ask("ban", &[the_user]).await?,
        (None, Some(false)) => ask("unban", &[the_user]).await?,
        (None, None) if user == caller.user.as_str() => ask("join", &[]).await?,
        (None, None) => ask("invite", &[("users", json!([user]))]).await?,
        (Some(role), None) => {
            let fields = [the_user, ("role", json!(role))];
            match ask("role", &fields).await {
                // The owner says so only to those who may give roles.
                Err(Refusal { code: Code::BadField, field: Some(field), .. }) if field == "user" => {
                    ask("invite", &[("users", json!([user]))]).await?;
                    ask("role", &fields).await?
                }
                answer => answer?,
            }
        }
    };
    Ok(JsonAnswer::of_frame(&frame))
}

/// Ends a membership: oneself leaves, others are kicked.
#[utoipa::path(
    delete, path = "/v1/rooms/{room}/members/{user}", tag = "members", operation_id = "remove_member",
    params(("room" = String, Path), ("user" = String, Path)),
    responses(
        (status = 200, description = "Done", body = Done),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At((room, user)): At<(String, String)>,
) -> Result<JsonAnswer, HttpError> {
    let op = if user == caller.user.as_str() { "leave" } else { "kick" };
    let named = [("room", room.into()), ("user", user.into())];
    room_request::ask(&shared, &caller, op, &named, None).await
}
