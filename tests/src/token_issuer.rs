//! An identity provider: it signs tokens, and publishes its public keys as a JWKS.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A key pair of the provider, which only tests use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssuerKey {
    /// For RS256.
    Rsa,
    /// Another one for RS256.
    OtherRsa,
    /// For ES256.
    P256,
    /// For EdDSA.
    Ed25519,
}

impl IssuerKey {
    fn algorithm(self) -> Algorithm {
        match self {
            Self::Rsa | Self::OtherRsa => Algorithm::RS256,
            Self::P256 => Algorithm::ES256,
            Self::Ed25519 => Algorithm::EdDSA,
        }
    }

    fn key(self) -> EncodingKey {
        let key = match self {
            Self::Rsa => EncodingKey::from_rsa_pem(include_bytes!("keys/rs.pem")),
            Self::OtherRsa => EncodingKey::from_rsa_pem(include_bytes!("keys/rs2.pem")),
            Self::P256 => EncodingKey::from_ec_pem(include_bytes!("keys/es.pem")),
            Self::Ed25519 => EncodingKey::from_ed_pem(include_bytes!("keys/ed.pem")),
        };
        key.unwrap_or_else(|error| panic!("a key of the tests cannot be read: {error}"))
    }

    /// Signs a token with these claims. `kid` is the name of the key in the token, if there is one.
    ///
    /// # Panics
    /// If it cannot be signed.
    #[must_use]
    pub fn sign(self, kid: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(self.algorithm()) };
        let signed = jsonwebtoken::encode(&header, claims, &self.key());
        signed.unwrap_or_else(|error| panic!("cannot sign a token: {error}"))
    }
}

/// A provider that runs until it is dropped.
#[derive(Debug)]
pub struct TokenIssuer {
    address: String,
    keys: Arc<Mutex<String>>,
    fetches: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl TokenIssuer {
    /// Starts a provider with these keys, each under a name.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start(keys: &[(&str, IssuerKey)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.unwrap_or_else(|error| panic!("the token issuer cannot listen: {error}"));
        let port = listener.local_addr().map_or(0, |address| address.port());
        let (set, fetches) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicUsize::new(0)));
        let task = tokio::spawn(serve(listener, Arc::clone(&set), Arc::clone(&fetches)));
        let issuer = Self { address: format!("http://127.0.0.1:{port}/keys"), keys: set, fetches, task };
        issuer.publish(keys);
        issuer
    }

    /// Publishes other keys from now on.
    ///
    /// # Panics
    /// If a key cannot be published.
    pub fn publish(&self, keys: &[(&str, IssuerKey)]) {
        let jwk = |(kid, key): &(&str, IssuerKey)| {
            let jwk = Jwk::from_encoding_key(&key.key(), key.algorithm());
            let mut jwk = jwk.unwrap_or_else(|error| panic!("a key cannot be published: {error}"));
            jwk.common.key_id = Some((*kid).to_owned());
            jwk
        };
        let set = json!(JwkSet { keys: keys.iter().map(jwk).collect() });
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = set.to_string();
    }

    /// Returns the address of the JWKS.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns how often the JWKS was fetched.
    #[must_use]
    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }
}

impl Drop for TokenIssuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, keys: Arc<Mutex<String>>, fetches: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = [0; 4096];
        if stream.read(&mut head).await.is_err() {
            continue;
        }
        fetches.fetch_add(1, Ordering::Relaxed);
        let body = keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}
