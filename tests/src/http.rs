//! The little HTTP that the tests need.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::within;

/// An answer to a request.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// The status line and the headers, as received.
    pub head: String,
    /// The body as text.
    pub body: String,
}

/// Sends a GET request for `http://address/path` with additional headers, and returns the answer.
///
/// # Errors
/// If the connection breaks or the answer is not HTTP.
pub async fn get(address: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<HttpAnswer> {
    request("GET", address, path, headers, "").await
}

/// Sends a request with a body, and returns the answer.
///
/// # Errors
/// If the connection breaks or the answer is not HTTP.
pub async fn request(
    method: &str,
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<HttpAnswer> {
    let address = address.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await?;
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request += &format!("Host: {address}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{request}\r\n{body}").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("not an HTTP answer: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(bad)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(bad)?;
    Ok(HttpAnswer { status, head: head.to_owned(), body: body.to_owned() })
}

/// Sends a request as the owner of a token, and returns the status and the JSON of the answer.
///
/// # Panics
/// If there is no answer, or it is not JSON.
pub async fn api(method: &str, address: &str, path: &str, token: &str, body: &str) -> (u16, Value) {
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let answer = within(Duration::from_secs(20), "an answer", request(method, address, path, &headers, body)).await;
    let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    let json = serde_json::from_str(&answer.body);
    (answer.status, json.unwrap_or_else(|error| panic!("{method} {path}: {error}: {}", answer.body)))
}

/// Returns a metric in what `/metrics` answered.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn metric(metrics: &str, name: &str) -> u64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("there is no metric {name}"))
}
