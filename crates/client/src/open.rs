//! Opens connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_tungstenite::client_async_tls_with_config;
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

/// Connects to the server at `url` (`https://chat.example.org`, `http://127.0.0.1:8080`) and signs in.
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
    let (scheme, port) = match uri.scheme_str() {
        Some("http" | "ws") => ("ws", 80),
        Some("https" | "wss") => ("wss", 443),
        _ => return Err(bad("it must begin with https:// or http://")),
    };
    let authority = uri.authority().ok_or_else(|| bad("no host"))?;
    let connect_error = |error| ClientError::Connect(Box::new(error));
    let mut request = format!("{scheme}://{authority}/v1/ws").into_client_request().map_err(connect_error)?;
    add_headers(request.headers_mut(), token.filter(|_| options.bearer), &options).ok_or_else(|| bad("bad header"))?;

    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let io = |error: std::io::Error| connect_error(error.into());
    let addresses = lookup_host((host, authority.port_u16().unwrap_or(port))).await.map_err(io)?;
    let mut connected = Err(bad("unknown host"));
    for address in addresses {
        connected = connect_to(address, options.receive_buffer).await.map_err(io);
        if connected.is_ok() {
            break;
        }
    }
    let stream = connected?;
    // The default buffers would keep 128 KiB for each connection.
    let config = WebSocketConfig::default().read_buffer_size(4 * 1024).write_buffer_size(16 * 1024);
    // An error means that there is a provider already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Boxed, because the handshake has buffers that the caller's future need not hold.
    let opening = Box::pin(client_async_tls_with_config(request, stream, Some(config), None));
    let (stream, _) = opening.await.map_err(connect_error)?;
    Ok(Client::start(stream, &options))
}

async fn connect_to(address: SocketAddr, receive_buffer: Option<u32>) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(size) = receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
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
