//! What operators and their tools ask of a node: whether it lives, whether it is ready, and its metrics.
//!
//! Whether it lives and is ready anybody may ask, because balancers do. Metrics are for this machine, unless the
//! configuration opens them to all.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::{HeaderMap, StatusCode, header};
use prometheus_client::encoding::text::encode;
use sendpi_model::{Code, Refusal};

use crate::http_error::HttpError;
use crate::page::{is_from_elsewhere, names_this_machine};
use crate::shared::Shared;

/// Returns the routes of operations.
pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new().route("/healthz", get(health)).route("/readyz", get(ready)).route("/metrics", get(metrics))
}

/// Says that the process answers.
async fn health() -> &'static str {
    "ok\n"
}

/// Says whether the node can serve clients, and if not why, a line for each reason.
async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let missing = shared.sessions.missing();
    if missing.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n").into_response()
}

async fn metrics(
    State(shared): State<Arc<Shared>>,
    Extension(ConnectInfo(peer)): Extension<ConnectInfo<SocketAddr>>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let own = peer.ip().to_canonical().is_loopback() && !is_from_elsewhere(&headers) && names_this_machine(&headers);
    if !own && !shared.config.open_metrics {
        return Err(HttpError(Refusal::new(Code::Forbidden, "metrics are for this machine only")));
    }
    let mut text = String::new();
    encode(&mut text, &shared.registry)
        .map_err(|_| HttpError(Refusal::new(Code::Internal, "the metrics could not be written")))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
