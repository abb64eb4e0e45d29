//! The chat page of `sendpi dev`, and the tokens with which it signs in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::extract::{ConnectInfo, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, header};
use sendpi_model::flow::Requester;
use sendpi_model::{Code, Millis, Refusal, UserId};
use serde::Deserialize;

use crate::http_error::HttpError;
use crate::shared::Shared;
use crate::upgrade::origin_allowed;

const HTML: &str = include_str!("page/index.html");
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The files of the page, with their addresses and types.
const FILES: [(&str, &str, &str); 8] = [
    ("/", "text/html; charset=utf-8", HTML),
    ("/chat.css", "text/css; charset=utf-8", include_str!("page/chat.css")),
    ("/chat.js", JAVASCRIPT, include_str!("page/chat.js")),
    ("/elements.js", JAVASCRIPT, include_str!("page/elements.js")),
    ("/message.js", JAVASCRIPT, include_str!("page/message.js")),
    ("/people.js", JAVASCRIPT, include_str!("page/people.js")),
    ("/room_list.js", JAVASCRIPT, include_str!("page/room_list.js")),
    ("/timeline.js", JAVASCRIPT, include_str!("page/timeline.js")),
];

/// What the page may load. Its icon is an empty `data:` URL.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const DEFAULT_SECONDS: u64 = 24 * 60 * 60;

/// Returns the routes of the page, its parts, and `/dev/token`.
pub(crate) fn router(dev_tokens: bool) -> Router<Arc<Shared>> {
    let router = FILES.into_iter().fold(Router::new(), |router, (address, kind, text)| {
        router.route(address, get(move || async move { part(kind, text) }))
    });
    if dev_tokens { router.route("/dev/token", get(token)) } else { router }
}

fn part(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}

#[derive(Debug, Deserialize)]
struct TokenQuery {
    user: String,
    /// Whether the token is one of a service.
    #[serde(default)]
    service: bool,
    /// How long the token is valid: a day if this is `None`, and 30 days at most.
    seconds: Option<u64>,
}

/// Returns a token for any user, but only to clients on this machine. Nobody on the way may keep the answer.
async fn token(
    State(shared): State<Arc<Shared>>,
    Extension(ConnectInfo(peer)): Extension<ConnectInfo<SocketAddr>>,
    headers: HeaderMap,
    Query(wanted): Query<TokenQuery>,
) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], make_token(&shared, peer, &headers, &wanted))
}

fn make_token(
    shared: &Shared,
    peer: SocketAddr,
    headers: &HeaderMap,
    wanted: &TokenQuery,
) -> Result<String, HttpError> {
    let own = peer.ip().to_canonical().is_loopback() && names_this_machine(headers);
    if !own || is_from_elsewhere(headers) || !origin_allowed(headers, &[]) {
        return Err(HttpError(Refusal::new(Code::Forbidden, "development tokens are for this machine only")));
    }
    let user = UserId::parse_chosen(&wanted.user).map_err(|rule| HttpError(Refusal::field("user", rule)))?;
    let span = Duration::from_secs(wanted.seconds.unwrap_or(DEFAULT_SECONDS).min(30 * DEFAULT_SECONDS));
    let who = if wanted.service { Requester::Service(&user) } else { Requester::User(&user) };
    let now = Millis::now();
    Ok(shared.tokens.make(who, now, now.after(span))?)
}

/// Returns whether a request came through a proxy, which may serve the whole world from this machine, or from a page
/// of another origin. Another port of this machine is the same site, but not the same origin.
pub(crate) fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let proxied = |name: &str| matches!(name, "forwarded" | "via" | "x-real-ip") || name.starts_with("x-forwarded");
    let mut sites = headers.get_all("sec-fetch-site").iter();
    headers.keys().any(|name| proxied(name.as_str())) || sites.any(|site| site != "same-origin" && site != "none")
}

/// Returns whether the `Host` header names this machine by `localhost` or a loopback address. If a foreign name that
/// resolves to loopback were accepted, any web page could read the answer as its own.
pub(crate) fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_own_names_get_a_token() {
        let named = |host: &str| {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            names_this_machine(&headers)
        };
        for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "127.0.0.1", "[::1]:8080", "[::1]"] {
            assert!(named(host), "{host}");
        }
        for host in ["evil.net:8080", "localhost.evil.net", "127.0.0.1.evil.net", "10.0.0.1:8080", ""] {
            assert!(!named(host), "{host}");
        }
        assert!(!names_this_machine(&HeaderMap::new()));
    }

    #[test]
    fn the_policy_allows_what_the_page_loads() {
        assert!(HTML.contains(r#"rel="icon" href="data:,""#) && POLICY.contains("; img-src 'self' data:;"), "{POLICY}");
    }
}
