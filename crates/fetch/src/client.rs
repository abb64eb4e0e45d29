//! The client.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use url::{Host, Url};

use crate::is_public;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Which addresses may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRule {
    /// Only those of the public internet.
    Public,
    /// All, because the operator said so.
    Any,
}

/// The reason why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The address is no URL with `http` or `https` and a host.
    #[error("{0} is not an http or https address")]
    BadUrl(String),
    /// The host is or resolves to an address that is not public.
    #[error("{0} is or leads to an address that is not public; allow private addresses to use it")]
    NotPublic(String),
    /// The server sends its clients elsewhere, which is not followed.
    #[error("the answer is a redirect, which is not followed")]
    Redirect,
    /// The answer is larger than allowed, in bytes.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// No connection, or it broke, or took too long.
    #[error("no answer: {}", innermost(.0))]
    NoAnswer(#[source] reqwest::Error),
    /// The client could not be set up.
    #[error("HTTPS cannot be set up")]
    Setup(#[source] reqwest::Error),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The status.
    pub status: u16,
    /// For how many seconds not to ask again, as `Retry-After` says.
    pub retry_after: Option<u64>,
    /// The body.
    pub body: Bytes,
}

impl Fetched {
    /// Returns whether the request succeeded.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// An HTTP client. It is cheap to clone.
#[derive(Debug, Clone)]
pub struct Fetch {
    client: reqwest::Client,
    rule: AddressRule,
}

impl Fetch {
    /// Returns a client whose requests take no longer than `timeout`.
    ///
    /// # Errors
    /// [`FetchError::Setup`] if there is no TLS.
    pub fn new(rule: AddressRule, timeout: Duration) -> Result<Self, FetchError> {
        // An error means that there is a provider already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let builder = reqwest::Client::builder().redirect(Policy::none()).no_proxy().connect_timeout(CONNECT);
        let builder = builder.timeout(timeout).dns_resolver(Arc::new(CheckedNames { rule }));
        Ok(Self { client: builder.build().map_err(FetchError::Setup)?, rule })
    }

    /// Gets what is at an address.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn get(&self, address: &str, most: usize) -> Result<Fetched, FetchError> {
        let url = self.check(address)?;
        self.send(self.client.get(url), most).await
    }

    /// Posts a JSON body with further headers.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn post_json(
        &self,
        address: &str,
        headers: &[(&'static str, String)],
        body: Bytes,
        most: usize,
    ) -> Result<Fetched, FetchError> {
        let url = self.check(address)?;
        let request = self.client.post(url).header("content-type", "application/json").body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        self.send(request, most).await
    }

    /// Returns the address as a URL. A host that is an address is checked here, because it is not resolved.
    fn check(&self, address: &str) -> Result<Url, FetchError> {
        let bad = || FetchError::BadUrl(address.to_owned());
        let url = Url::parse(address).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad());
        }
        let literal = match url.host().ok_or_else(bad)? {
            Host::Ipv4(v4) => Some(IpAddr::V4(v4)),
            Host::Ipv6(v6) => Some(IpAddr::V6(v6)),
            Host::Domain(_) => None,
        };
        match literal {
            Some(ip) if self.rule == AddressRule::Public && !is_public(ip) => {
                Err(FetchError::NotPublic(ip.to_string()))
            }
            _ => Ok(url),
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder, most: usize) -> Result<Fetched, FetchError> {
        let mut response = request.send().await.map_err(no_answer)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(FetchError::Redirect);
        }
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
            if body.len() + chunk.len() > most {
                return Err(FetchError::TooLarge(most));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Fetched { status: status.as_u16(), retry_after, body: body.into() })
    }
}

/// Returns what is behind an error at last. The ones before it only say that something failed.
fn innermost(error: &reqwest::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Tells a name that may not be asked from other failures.
fn no_answer(error: reqwest::Error) -> FetchError {
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        if let Some(NotPublic(name)) = cause.downcast_ref() {
            return FetchError::NotPublic(name.clone());
        }
        source = cause.source();
    }
    FetchError::NoAnswer(error)
}

/// A name that resolves to addresses that are not public.
#[derive(Debug, thiserror::Error)]
#[error("{0} leads to an address that is not public")]
struct NotPublic(String);

/// Resolves names, and drops the addresses that may not be asked.
#[derive(Debug)]
struct CheckedNames {
    rule: AddressRule,
}

impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let rule = self.rule;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> =
                found.filter(|found| rule == AddressRule::Any || is_public(found.ip())).collect();
            if found.is_empty() {
                return Err(NotPublic(name.as_str().to_owned()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(address: &str) -> FetchError {
        let fetch = Fetch::new(AddressRule::Public, Duration::from_secs(5)).unwrap();
        fetch.get(address, 10).await.unwrap_err()
    }

    #[tokio::test]
    async fn an_address_that_is_not_public_is_not_asked() {
        for address in [
            "http://127.0.0.1:1/",
            "http://[::1]:1/",
            "https://localhost:1/",
            "http://0x7f000001:1/",
            "http://2130706433:1/",
            "http://169.254.169.254/latest/meta-data/",
            "http://[::ffff:10.0.0.1]/",
        ] {
            assert!(matches!(refused(address).await, FetchError::NotPublic(_)), "{address}");
        }
        for address in ["ftp://example.org/", "file:///etc/passwd", "example.org", "http://", ""] {
            assert!(matches!(refused(address).await, FetchError::BadUrl(_)), "{address}");
        }
    }
}
