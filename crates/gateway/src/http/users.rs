//! Users: who is online, signing them out, and forgetting them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use sendpi_model::flow::Requester;
use sendpi_model::{Code, Refusal, UserId, limits};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::JsonAnswer;
use super::caller::Caller;
use super::extract::{At, Query};
use super::schema::{Done, Forgotten};
use crate::http_error::HttpError;
use crate::shared::Shared;

/// Which users are online.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsersOnline {
    /// Each user that was asked for, and whether the user is online.
    #[schema(value_type = std::collections::BTreeMap<String, bool>)]
    users: BTreeMap<UserId, bool>,
}

/// Tells which users are online. Only services may ask.
#[utoipa::path(
    get, path = "/v1/users/online", tag = "users",
    params(("user" = Vec<String>, Query, description = "The users, up to 100, each as a parameter of its own")),
    responses(
        (status = 200, description = "Done", body = UsersOnline),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn online(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    query: Query,
) -> Result<JsonAnswer, HttpError> {
    if !caller.has_service_token {
        return Err(Refusal::new(Code::Forbidden, "only a service may ask who is online").into());
    }
    let named = query.all("user");
    if named.is_empty() {
        return Err(Refusal::field("user", "is required").into());
    }
    if named.len() > limits::USERS_PER_REQUEST {
        return Err(Refusal::too_large("user", format!("{} users", limits::USERS_PER_REQUEST)).into());
    }
    let users = named.iter().map(|name| user_of(name)).collect::<Result<Vec<UserId>, Refusal>>()?;
    let users = shared.sessions.online(users).await?.into_iter().collect();
    Ok(JsonAnswer::of(&UsersOnline { users }))
}

/// Signs a user out: ends all sessions, on all nodes, and revokes all tokens that were issued up to now. The user may
/// ask this, or a service.
#[utoipa::path(
    delete, path = "/v1/users/{user}/sessions", tag = "users", params(("user" = String, Path)),
    responses(
        (status = 200, description = "Done", body = Done),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn sign_out(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At(user): At<String>,
) -> Result<JsonAnswer, HttpError> {
    let user = user_of(&user)?;
    if user != caller.user && !caller.has_service_token {
        return Err(Refusal::new(Code::Forbidden, "only a service may sign another user out").into());
    }
    shared.sessions.sign_out(&user).await?;
    Ok(JsonAnswer::done())
}

/// Forgets a user, a step of some seconds at a time: signs the user out, removes the push addresses of all devices, and
/// removes in place the bodies of all messages that the user wrote. Memberships, seqs and counts stay. Only services
/// may ask. Each answer has the `cursor` of the next step as `next`, until nothing is left.
#[utoipa::path(
    post, path = "/v1/users/{user}/forget", tag = "users",
    params(
        ("user" = String, Path),
        ("cursor" = Option<String>, Query, description = "What the step before gave as `next`"),
    ),
    responses(
        (status = 200, description = "The step is done", body = Forgotten),
        (status = "default", body = Refusal, description = "Why it was not done"),
    ),
)]
pub(super) async fn forget(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    At(user): At<String>,
    query: Query,
) -> Result<JsonAnswer, HttpError> {
    let user = user_of(&user)?;
    let Requester::Service(service) = caller.requester() else {
        return Err(Refusal::new(Code::Forbidden, "only a service that acts as itself may forget a user").into());
    };
    let cursor = query.all("cursor").first().cloned();
    Ok(JsonAnswer::of(&shared.sessions.forget(service, &user, cursor.as_deref()).await?))
}

fn user_of(text: &str) -> Result<UserId, Refusal> {
    UserId::parse_chosen(text).map_err(|rule| Refusal::field("user", rule))
}
