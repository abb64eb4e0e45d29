//! Opens connections.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::net::{TcpSocket, lookup_host};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::{Client, ClientError, Frames, Welcome};

/// The options of a connection.
#[derive(Debug, Clone)]
pub struct Options {
    /// The rooms to resume at sign-in, each with the last seq seen.
    pub resume: BTreeMap<String, u64>,
    /// The size of the first page of rooms. If it is `None`, the server chooses.
    pub rooms: Option<usize>,
    /// How many frames may be queued in [`Frames`] before reading stops.
    pub queue: usize,
    /// Whether heartbeats are answered. If not, the client looks like a device that died silently.
    pub pong: bool,
    /// Whether the token is sent in a header of the upgrade request instead of in `hello`.
    pub bearer: bool,
    /// The `Origin` header to send, as a browser does.
    pub origin: Option<String>,
    /// The size of the socket's receive buffer, for clients that read slowly.
    pub receive_buffer: Option<u32>,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            resume: BTreeMap::new(),
            rooms: None,
            queue: 8_192,
            pong: true,
            bearer: false,
            origin: None,
            receive_buffer: None,
            timeout: Duration::from_secs(30),
        }
    }
}

/// Connects to the server at `url` (`http://127.0.0.1:8080`) and signs in.
///
/// # Errors
/// [`ClientError`] if the connection cannot be opened or the sign-in fails.
pub async fn connect(
    url: &str,
    token: &str,
    device: &str,
    options: Options,
) -> Result<(Client, Frames, Welcome), ClientError> {
    let (resume, rooms) = (options.resume.clone(), options.rooms);
    let in_hello = (!options.bearer).then_some(token);
    let (client, frames) = open(url, Some(token), options).await?;
    let mut hello = serde_json::json!({"op": "hello", "device": device});
    if let Some(token) = in_hello {
        hello["token"] = token.into();
    }
    if let Some(rooms) = rooms {
        hello["rooms"] = rooms.into();
    }
    if !resume.is_empty() {
        hello["resume"] = serde_json::to_value(resume)?;
    }
    let welcome = serde_json::from_value(client.request(hello).await?)?;
    Ok((client, frames, welcome))
}

/// Connects without signing in. `token` is sent only if [`Options::bearer`] is set.
///
/// # Errors
/// [`ClientError`] if the connection cannot be opened.
pub async fn open(url: &str, token: Option<&str>, options: Options) -> Result<(Client, Frames), ClientError> {
    let bad = |why: &str| ClientError::Address(url.to_owned(), why.to_owned());
    let uri: Uri = url.parse().map_err(|_| bad("not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "ws")) {
        return Err(bad("it must begin with http:// or ws://"));
    }
    let authority = uri.authority().ok_or_else(|| bad("no host"))?;
    let connect_error = |error| ClientError::Connect(Box::new(error));
    let mut request = format!("ws://{authority}/v1/ws").into_client_request().map_err(connect_error)?;
    add_headers(request.headers_mut(), token.filter(|_| options.bearer), &options).ok_or_else(|| bad("bad header"))?;

    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let io = |error: std::io::Error| connect_error(error.into());
    let address = lookup_host((host, authority.port_u16().unwrap_or(80))).await.map_err(io)?.next();
    let address = address.ok_or_else(|| bad("unknown host"))?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(io)?;
    if let Some(size) = options.receive_buffer {
        socket.set_recv_buffer_size(size).map_err(io)?;
    }
    let stream = socket.connect(address).await.map_err(io)?;
    stream.set_nodelay(true).map_err(io)?;
    // The default buffers would keep 128 KiB for each connection.
    let config = WebSocketConfig::default().read_buffer_size(4 * 1024).write_buffer_size(16 * 1024);
    let (stream, _) =
        tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await.map_err(connect_error)?;
    Ok(Client::start(stream, &options))
}

fn add_headers(headers: &mut HeaderMap, token: Option<&str>, options: &Options) -> Option<()> {
    let mut add = |name: HeaderName, value: &str| {
        headers.insert(name, HeaderValue::from_str(value).ok()?);
        Some(())
    };
    add(SEC_WEBSOCKET_PROTOCOL, "sendpi.v1")?;
    if let Some(token) = token {
        add(AUTHORIZATION, &format!("Bearer {token}"))?;
    }
    if let Some(origin) = &options.origin {
        add(ORIGIN, origin)?;
    }
    Some(())
}
