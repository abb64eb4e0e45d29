//! HTTP for servers and scripts: the same requests as on a WebSocket, with the same names, rights, errors and limits.
//!
//! The routes and their description in OpenAPI come from the same lines, so that neither is without the other.

mod answer;
mod caller;
mod devices;
mod events;
mod extract;
mod members;
mod own;
mod room_request;
mod rooms;
mod schema;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use sendpi_model::{Code, Refusal, limits};
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::answer::JsonAnswer;
use crate::http_error::HttpError;
use crate::shared::Shared;

/// The header in which a service names the user for whom it acts.
pub(crate) const USER_HEADER: &str = "sendpi-user";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sendpi",
        description = "A chat backend over HTTP. Times are milliseconds since 1970 (UTC). A token of a service carries \
                       the scope `service`; it acts as itself, or for the user whom the header `Sendpi-User` names."
    ),
    security(("token" = [])),
    tags(
        (name = "rooms", description = "Rooms, and the caller's list of them"),
        (name = "members", description = "Who is in a room"),
        (name = "events", description = "The timeline of a room"),
        (name = "own", description = "What the caller has for itself: read markers, what is pushed, devices"),
        (name = "users", description = "Who is online, signing out, and forgetting"),
    )
)]
struct ApiDocument;

fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::with_openapi(ApiDocument::openapi())
        .routes(routes!(rooms::list, rooms::create))
        .routes(routes!(rooms::show, rooms::change, rooms::delete))
        .routes(routes!(members::list))
        .routes(routes!(members::put, members::remove))
        .routes(routes!(events::history, events::send))
        .routes(routes!(events::edit, events::delete))
        .routes(routes!(events::react, events::take_back))
        .routes(routes!(own::read))
        .routes(routes!(own::notify))
        .routes(routes!(devices::list))
        .routes(routes!(devices::put, devices::remove))
        .routes(routes!(users::online))
        .routes(routes!(users::sign_out))
        .routes(routes!(users::forget))
}

/// Returns the OpenAPI 3.1 document.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = routes().into_openapi();
    let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build());
    document.components.get_or_insert_default().add_security_scheme("token", scheme);
    document
}

/// Returns the routes of HTTP, with CORS for the allowed origins.
pub(crate) fn router(shared: &Shared) -> Router<Arc<Shared>> {
    let document: Arc<str> = openapi().to_json().unwrap_or_default().into();
    let describe = move || async move { JsonAnswer::json(document.as_bytes().to_vec()) };
    let (router, _) = routes().split_for_parts();
    router
        .route("/v1/openapi.json", get(describe))
        .fallback(|| async { (StatusCode::NOT_FOUND, no_such("there is nothing at this address")) })
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, no_such("this method is not for this address"))
        })
        .layer(DefaultBodyLimit::max(limits::FRAME_BYTES))
        .layer(cors(&shared.config.allowed_origins))
}

fn no_such(what: &str) -> HttpError {
    HttpError(Refusal::new(Code::Unsupported, what))
}

/// Tells browsers that pages of the allowed origins may ask. A page of another origin can ask, too, if it has a token,
/// but its browser does not let it read the answer.
fn cors(allowed: &[String]) -> CorsLayer {
    let origins = allowed.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, HeaderName::from_static(USER_HEADER)])
        .expose_headers([header::RETRY_AFTER])
        .max_age(std::time::Duration::from_secs(3600))
}
