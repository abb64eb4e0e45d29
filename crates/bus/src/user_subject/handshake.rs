//! The beginning of a connection to a NATS server: what the server says of itself, TLS, and signing in.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::BusConfig;

/// How long the beginning may take.
const CONNECT: Duration = Duration::from_secs(2);
/// The longest INFO, in bytes. It may name many servers.
const INFO: usize = 64 * 1024;

/// The address of a server, and how to sign in there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerAddress {
    host: String,
    tls: bool,
    user: Option<UrlLogin>,
}

/// What an address says before its `@`.
#[derive(Clone, PartialEq, Eq)]
enum UrlLogin {
    Password(String, String),
    Token(String),
}

impl std::fmt::Debug for UrlLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UrlLogin")
    }
}

impl ServerAddress {
    /// Parses `[nats://|tls://][user:password@|token@]host[:port]`. Returns `None` for another scheme.
    pub(super) fn parse(server: &str) -> Option<Self> {
        let (tls, rest) = match server.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("nats") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("tls") => (true, rest),
            Some(_) => return None,
            None => (false, server),
        };
        let rest = rest.trim_end_matches('/');
        let (user, host) = match rest.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, rest),
        };
        let user = user.map(|user| match user.split_once(':') {
            Some((name, password)) => UrlLogin::Password(decoded(name), decoded(password)),
            None => UrlLogin::Token(decoded(user)),
        });
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = if has_port { host.to_owned() } else { format!("{host}:4222") };
        Some(Self { host, tls, user })
    }

    /// Returns the host and the port.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the name that the server's certificate must have.
    fn name(&self) -> io::Result<ServerName<'static>> {
        let name = self.host.rsplit_once(':').map_or(self.host.as_str(), |(name, _)| name);
        ServerName::try_from(name.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)
    }
}

/// Undoes the escapes of a URL.
fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// What a server says of itself, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
struct ServerHello {
    #[serde(default)]
    tls_required: bool,
    #[serde(default)]
    nonce: String,
}

/// The two directions of a connection.
pub(super) trait ServerStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ServerStream for T {}

/// Connects to a server and signs in there. The server answers a refusal later.
pub(super) async fn connect(
    address: &ServerAddress,
    config: &BusConfig,
    name: &str,
) -> io::Result<Box<dyn ServerStream>> {
    timeout(CONNECT, try_connect(address, config, name)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn try_connect(address: &ServerAddress, config: &BusConfig, name: &str) -> io::Result<Box<dyn ServerStream>> {
    let mut stream = TcpStream::connect(&address.host).await?;
    stream.set_nodelay(true)?;
    let hello = read_info(&mut stream).await?;
    let encrypted = address.tls || hello.tls_required || config.tls.is_some();
    let mut stream: Box<dyn ServerStream> = if encrypted {
        let files = config.tls.clone().unwrap_or_default();
        let client = files.client_config().map_err(io::Error::other)?;
        Box::new(TlsConnector::from(Arc::clone(&client)).connect(address.name()?, stream).await?)
    } else {
        Box::new(stream)
    };
    let mut fields = serde_json::json!({
        "verbose": false, "pedantic": false, "lang": "rust", "version": env!("CARGO_PKG_VERSION"), "protocol": 1,
        "name": name, "tls_required": encrypted,
    });
    match &address.user {
        Some(UrlLogin::Password(user, password)) => {
            fields["user"] = user.as_str().into();
            fields["pass"] = password.as_str().into();
        }
        Some(UrlLogin::Token(token)) => fields["auth_token"] = token.as_str().into(),
        None => {}
    }
    for (name, value) in config.login.iter().flat_map(|login| login.answer(&hello.nonce)) {
        fields[name] = value;
    }
    stream.write_all(format!("CONNECT {fields}\r\n").as_bytes()).await?;
    stream.flush().await?;
    Ok(stream)
}

/// Reads the line with which each server begins, and not a byte more: TLS may begin behind it.
async fn read_info(stream: &mut TcpStream) -> io::Result<ServerHello> {
    let mut line = BytesMut::new();
    while !line.ends_with(b"\r\n") {
        line.extend_from_slice(&[stream.read_u8().await?]);
        if line.len() > INFO {
            return Err(io::Error::other("the server's INFO is too long"));
        }
    }
    let json = line.strip_prefix(b"INFO ").ok_or_else(|| io::Error::other("what answers is no NATS server"))?;
    serde_json::from_slice(json).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_taken_apart() {
        let address = |host: &str, tls, user| Some(ServerAddress { host: host.to_owned(), tls, user });
        let password = |name: &str, password: &str| Some(UrlLogin::Password(name.to_owned(), password.to_owned()));
        assert_eq!(ServerAddress::parse("nats://a:1"), address("a:1", false, None));
        assert_eq!(ServerAddress::parse("b"), address("b:4222", false, None));
        assert_eq!(ServerAddress::parse("TLS://b/"), address("b:4222", true, None));
        assert_eq!(ServerAddress::parse("nats://u:p%40w@a:1"), address("a:1", false, password("u", "p@w")));
        assert_eq!(ServerAddress::parse("t@a:1"), address("a:1", false, Some(UrlLogin::Token("t".to_owned()))));
        assert_eq!(ServerAddress::parse("ws://a"), None);
        assert_eq!(ServerAddress::parse("tls://[::1]:4").unwrap().name().unwrap().to_str(), "::1");
    }

    #[test]
    fn an_address_does_not_print_its_secret() {
        assert!(!format!("{:?}", ServerAddress::parse("nats://u:secret@a")).contains("secret"));
    }
}
