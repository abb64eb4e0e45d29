//! `GET /v1/ws`: the checks and the handshake of a WebSocket.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use sendpi_model::{Code, Millis, Refusal};
use sendpi_session::Identity;
use tokio::net::TcpStream;
use tracing::{debug, warn};
use tungstenite::handshake::derive_accept_key;

use crate::addresses::{CountedAddress, client_address};
use crate::http_error::HttpError;
use crate::server::{OpenConnection, PeerConnection, set_write_timeout};
use crate::shared::Shared;
use crate::socket::WsSocket;
use crate::ws_session;

const SUBPROTOCOL: &str = "sendpi.v1";

/// Answers the handshake, and spawns the task that runs the session on the upgraded stream.
pub(crate) async fn upgrade(State(shared): State<Arc<Shared>>, mut request: Request) -> Result<Response, HttpError> {
    let key = match handshake_key(&request) {
        Ok(key) => key.to_owned(),
        Err(response) => return Ok(*response),
    };
    if has_token(request.uri().query().unwrap_or_default()) {
        return Err(HttpError(Refusal::new(Code::BadFrame, "a token must not be in the URL: URLs end up in logs")));
    }
    let headers = request.headers();
    if !origin_allowed(headers, &shared.config.allowed_origins) {
        return Err(HttpError(Refusal::new(Code::Forbidden, "this origin is not among the allowed ones")));
    }
    let identity = match bearer(headers) {
        Some(token) => Some(shared.tokens.check(token, Millis::now()).await?),
        None => None,
    };
    let subprotocol = offers_subprotocol(headers);
    let places = take_places(&shared, &request)?;
    let Some(on_upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return Err(HttpError(Refusal::new(Code::Internal, "this connection cannot be upgraded")));
    };
    let tasks = shared.tasks.clone();
    tasks.spawn(start(shared, on_upgrade, identity, places));
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if subprotocol {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok(response)
}

/// Waits until hyper releases the stream, then runs the session in the same task.
async fn start(shared: Arc<Shared>, on_upgrade: OnUpgrade, identity: Option<Identity>, places: AddressPlaces) {
    let upgraded = match on_upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            debug!(%error, "a connection ended during its upgrade");
            return;
        }
    };
    let Ok(parts) = downcast::<TokioIo<TcpStream>>(upgraded) else {
        warn!("an upgraded connection is not a TCP stream");
        return;
    };
    let stream = parts.io.into_inner();
    // Where this fails, there was no such limit before either.
    let _no_limit = set_write_timeout(&stream, None);
    let socket = Arc::new(WsSocket(stream));
    ws_session::run(shared, socket, parts.read_buf, identity, places).await;
}

/// The places that a WebSocket takes among those of its address.
#[derive(Debug)]
pub(crate) struct AddressPlaces {
    /// Among all connections, until the end.
    pub(crate) connection: (Arc<OpenConnection>, Arc<CountedAddress>),
    /// Among those that are not signed in.
    pub(crate) unsigned: CountedAddress,
}

/// Counts the WebSocket by the address of its client.
fn take_places(shared: &Shared, request: &Request) -> Result<AddressPlaces, HttpError> {
    let too_many = |what: &str| {
        let refusal = Refusal::new(Code::RateLimited, format!("too many connections of this address{what}"));
        HttpError(Refusal { retry_in_ms: Some(10_000), ..refusal })
    };
    let connection = request.extensions().get::<PeerConnection>();
    let Some(connection) = connection else {
        return Err(HttpError(Refusal::new(Code::Internal, "the connection is not known")));
    };
    let address = client_address(connection.peer.ip(), request.headers(), &shared.config.trusted_proxies);
    let counted = match &connection.counted {
        Some(counted) => Arc::clone(counted),
        None => Arc::new(shared.connections.admit(address).ok_or_else(|| too_many(""))?),
    };
    let unsigned = shared.unsigned.admit(address).ok_or_else(|| too_many(" are not signed in"))?;
    Ok(AddressPlaces { connection: (Arc::clone(&connection.open), counted), unsigned })
}

/// Returns the client's key, or the response to a request that is not a WebSocket handshake of version 13.
fn handshake_key(request: &Request) -> Result<&str, Box<Response>> {
    let headers = request.headers();
    let is_upgrade = request.method() == Method::GET
        && has_word(headers, &header::CONNECTION, "upgrade")
        && has_word(headers, &header::UPGRADE, "websocket");
    if !is_upgrade {
        let refused = HttpError(Refusal::new(Code::BadFrame, "this address speaks WebSocket only"));
        let answer = (StatusCode::UPGRADE_REQUIRED, [(header::UPGRADE, "websocket")], refused);
        return Err(Box::new(answer.into_response()));
    }
    if !has_word(headers, &header::SEC_WEBSOCKET_VERSION, "13") {
        let version = [(header::SEC_WEBSOCKET_VERSION, "13")];
        let refused = HttpError(Refusal::new(Code::Unsupported, "only version 13 of WebSocket is spoken here"));
        return Err(Box::new((StatusCode::UPGRADE_REQUIRED, version, refused).into_response()));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    // 16 bytes in base64 are 24 characters.
    key.filter(|key| key.len() == 24)
        .ok_or_else(|| HttpError(Refusal::new(Code::BadFrame, "Sec-WebSocket-Key must be 16 bytes")))
        .map_err(|refused| Box::new(refused.into_response()))
}

/// Returns whether a header that is a comma-separated list contains `word`.
fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let lists = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|entry| entry.trim().eq_ignore_ascii_case(word))
}

fn offers_subprotocol(headers: &HeaderMap) -> bool {
    has_word(headers, &header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
}

fn has_token(query: &str) -> bool {
    let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    names.into_iter().any(|name| matches!(name, "token" | "access_token" | "jwt"))
}

/// Returns whether the request's origin may connect. It must be the gateway's own host or one of `allowed`. A request
/// without an origin may connect too, because browsers always send one.
pub(crate) fn origin_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let own = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = origin.split_once("://").map(|(_, host)| host);
    (host.is_some() && host == own) || allowed.iter().any(|one| one == origin)
}

/// Returns the token of the request.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn request(pairs: &[(&'static str, &str)]) -> Request {
        let mut request = Request::new(Body::empty());
        *request.headers_mut() = headers(pairs);
        request
    }

    #[test]
    fn an_origin_that_is_present_must_be_allowed() {
        let allowed = ["https://chat.example.org".to_owned()];
        let ok = |pairs: &[(&'static str, &str)]| origin_allowed(&headers(pairs), &allowed);
        assert!(ok(&[("host", "localhost:8080")]));
        assert!(ok(&[("host", "localhost:8080"), ("origin", "http://localhost:8080")]));
        assert!(ok(&[("host", "localhost:8080"), ("origin", "https://chat.example.org")]));
        assert!(!ok(&[("host", "localhost:8080"), ("origin", "http://localhost:9090")]));
        assert!(!ok(&[("host", "localhost:8080"), ("origin", "https://chat.example.org.evil.net")]));
        assert!(!ok(&[("host", "localhost:8080"), ("origin", "null")]));
        assert!(!ok(&[("origin", "null")]));
    }

    #[test]
    fn a_handshake_is_checked_in_all_its_parts() {
        let good = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        assert_eq!(handshake_key(&request(&good)).unwrap(), "dGhlIHNhbXBsZSBub25jZQ==");
        for (missing, status) in [(0, 426), (1, 426), (2, 426), (3, 400)] {
            let mut some = good.to_vec();
            some.remove(missing);
            assert_eq!(handshake_key(&request(&some)).unwrap_err().status(), status);
        }
        let mut post = request(&good);
        *post.method_mut() = Method::POST;
        assert_eq!(handshake_key(&post).unwrap_err().status(), 426);
    }

    #[test]
    fn a_token_is_taken_from_the_header_and_never_from_the_url() {
        assert_eq!(bearer(&headers(&[("authorization", "bearer abc")])), Some("abc"));
        assert_eq!(bearer(&headers(&[("authorization", "Basic abc")])), None);
        assert!(has_token("a=1&token=abc") && has_token("access_token=abc") && !has_token("room=token"));
    }

    #[test]
    fn the_subprotocol_is_found_among_others() {
        assert!(offers_subprotocol(&headers(&[("sec-websocket-protocol", "chat, sendpi.v1")])));
        assert!(!offers_subprotocol(&headers(&[("sec-websocket-protocol", "sendpi.v2")])));
    }
}
