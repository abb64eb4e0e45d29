//! The JavaScript client, which pages of any origin may load.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header;

use crate::shared::Shared;

/// The files of the client, with their addresses and types.
const FILES: [(&str, &str, &str); 5] = [
    ("/v1/sendpi.js", "text/javascript; charset=utf-8", include_str!("js/sendpi.js")),
    ("/v1/sendpi/connection.js", "text/javascript; charset=utf-8", include_str!("js/sendpi/connection.js")),
    ("/v1/sendpi/outbox.js", "text/javascript; charset=utf-8", include_str!("js/sendpi/outbox.js")),
    ("/v1/sendpi/room.js", "text/javascript; charset=utf-8", include_str!("js/sendpi/room.js")),
    ("/v1/sendpi.d.ts", "text/plain; charset=utf-8", include_str!("js/sendpi.d.ts")),
];

/// Returns the routes of the client.
pub(crate) fn router() -> Router<Arc<Shared>> {
    FILES.into_iter().fold(Router::new(), |router, (address, kind, text)| {
        router.route(address, get(move || async move { file(kind, text) }))
    })
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}
