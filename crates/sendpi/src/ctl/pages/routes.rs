//! What browsers and scripts may ask, with the token only.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use sendpi_model::control::LiveRooms;
use sendpi_model::{Millis, Partition};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Pages;
use crate::ctl::fleet_history::LOOKS;
use crate::ctl::{CtlError, control};

/// The most bytes of a request's body.
const BODY: usize = 4 * 1024;
/// What the page may load. Its icon is an empty `data:` URL.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
/// The files of the page, with their addresses and types.
const FILES: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("index.html")),
    ("/fleet.css", "text/css; charset=utf-8", include_str!("fleet.css")),
    ("/fleet.js", JAVASCRIPT, include_str!("fleet.js")),
    ("/charts.js", JAVASCRIPT, include_str!("charts.js")),
];

/// Returns the routes.
pub(super) fn router(pages: &Arc<Pages>) -> Router {
    let files = FILES.into_iter().fold(Router::new(), |router, (address, kind, text)| {
        router.route(address, get(move || async move { ([(header::CONTENT_TYPE, kind)], text) }))
    });
    files
        .route("/fleet", get(fleet))
        .route("/partitions/{partition}/rooms", get(rooms))
        // They take JSON only, which no page of another origin can send without being asked about first.
        .route("/drain", post(drain))
        .route("/move", post(move_partition))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(from_fn_with_state(Arc::clone(pages), admit))
        .layer(from_fn(secure))
        .with_state(Arc::clone(pages))
}

/// Lets only operators through.
async fn admit(State(pages): State<Arc<Pages>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if given.is_some_and(|given| pages.token.is_in(given)) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, r#"Basic realm="sendpi operators", charset="UTF-8""#)];
    let error = json!({"error": "the token of operators is needed, as a password or a bearer token"});
    (StatusCode::UNAUTHORIZED, challenge, Json(error)).into_response()
}

/// Says what browsers may do with the answers.
async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl IntoResponse for CtlError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Worker { .. } | Self::NoOwner(_) | Self::NoSuchPartition(_) => StatusCode::NOT_FOUND,
            Self::Refused { .. } => StatusCode::CONFLICT,
            Self::Silent { .. } => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(json!({"error": self.to_string()}))).into_response()
    }
}

/// Returns what is seen of the fleet, and what was over the last minutes.
async fn fleet(State(pages): State<Arc<Pages>>) -> Json<Value> {
    let history = pages.history();
    let view = history.view.as_ref();
    Json(json!({
        "at": Millis::now(),
        "failure": history.failure,
        "summary": view.map(|view| view.summary()),
        "owned": view.map(|view| view.owned().0),
        "workers": view.map(|view| view.workers_json()),
        "partitions": view.map(|view| view.partitions_json()),
        "looks": LOOKS,
        "events": history.events,
        "events_of": history.events_of,
        "changes": history.changes,
    }))
}

async fn rooms(State(pages): State<Arc<Pages>>, Path(number): Path<u16>) -> Result<Json<LiveRooms>, CtlError> {
    Ok(Json(control::rooms(&pages.bus, &*pages.view()?, Partition(number)).await?))
}

/// The worker that is to hand over all that it owns, by the beginning of its id.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainBody {
    worker: String,
    /// Whether it is to take part again.
    #[serde(default)]
    undo: bool,
}

async fn drain(State(pages): State<Arc<Pages>>, Json(body): Json<DrainBody>) -> Result<Json<Value>, CtlError> {
    let node = control::drain(&pages.bus, &*pages.view()?, &body.worker, body.undo).await?;
    Ok(Json(json!({"node": node, "draining": !body.undo})))
}

/// The partition that is to move, and to which worker, by the beginning of its id.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveBody {
    partition: u16,
    /// Where it belongs, if this is `None`.
    worker: Option<String>,
}

async fn move_partition(State(pages): State<Arc<Pages>>, Json(body): Json<MoveBody>) -> Result<Json<Value>, CtlError> {
    let partition = Partition(body.partition);
    let to = control::move_to(&pages.bus, &*pages.view()?, partition, body.worker.as_deref()).await?;
    Ok(Json(json!({"partition": partition, "to": to})))
}
