//! The little HTTP that the tests need.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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
    let address = address.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await?;
    let mut request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request += &format!("Host: {address}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("not an HTTP answer: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(bad)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(bad)?;
    Ok(HttpAnswer { status, head: head.to_owned(), body: body.to_owned() })
}
