//! The keys at a JWKS address: fetched from there and nowhere else, kept by key id, and fetched anew now and then, so
//! that a key that the issuer withdraws is not accepted for long.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use sendpi_fetch::{AddressRule, Fetch, FetchError};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::key::CheckingKey;

/// How often the keys are fetched.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// How often they are fetched at most because of a token that names an unknown key.
const PAUSE: Duration = Duration::from_secs(10);
/// How long one fetch may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest JWKS, in bytes.
const MOST_BYTES: usize = 256 * 1024;
/// The most keys that are kept.
const MOST_KEYS: usize = 100;

/// The reason why a JWKS address cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// Whoever is on the way could put other keys into the answer.
    #[error("the JWKS address must begin with https://, or with http:// and this machine's own address")]
    NotSecret,
    /// There is no HTTP client.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// The keys at one JWKS address.
#[derive(Debug)]
pub(super) struct Jwks {
    address: String,
    fetch: Fetch,
    keys: RwLock<Arc<[CheckingKey]>>,
    /// When the keys were fetched last, whether that succeeded or not. Held during a fetch, so that there is one at a
    /// time.
    fetched: Mutex<Option<Instant>>,
}

impl Jwks {
    pub(super) fn new(address: &str) -> Result<Self, JwksError> {
        let host = address.strip_prefix("http://").map(|rest| rest.split(['/', '?']).next().unwrap_or_default());
        let is_own = |host: &str| {
            ["127.0.0.1", "localhost", "[::1]"]
                .iter()
                .any(|own| host.strip_prefix(own).is_some_and(|port| port.is_empty() || port.starts_with(':')))
        };
        if !address.starts_with("https://") && !host.is_some_and(is_own) {
            return Err(JwksError::NotSecret);
        }
        // The operator named the address, which may be one within the own network.
        let fetch = Fetch::new(AddressRule::Any, TIMEOUT)?;
        Ok(Self { address: address.to_owned(), fetch, keys: RwLock::default(), fetched: Mutex::default() })
    }

    pub(super) fn keys(&self) -> Arc<[CheckingKey]> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn knows(&self, kid: &str) -> bool {
        self.keys().iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// Fetches the keys, now and then anew, for ever.
    pub(super) async fn keep_fresh(&self) {
        loop {
            {
                let mut fetched = self.fetched.lock().await;
                self.fetch_keys().await;
                *fetched = Some(Instant::now());
            }
            sleep(if self.keys().is_empty() { PAUSE } else { EVERY }).await;
        }
    }

    /// Fetches the keys for a token that names an unknown one, unless they were fetched just now. Returns whether the
    /// key is known then.
    pub(super) async fn look_for(&self, kid: &str) -> bool {
        let mut fetched = self.fetched.lock().await;
        if !self.knows(kid) && fetched.is_none_or(|at| at.elapsed() >= PAUSE) {
            self.fetch_keys().await;
            *fetched = Some(Instant::now());
        }
        self.knows(kid)
    }

    /// Fetches the keys. Those that are known stay if that fails.
    async fn fetch_keys(&self) {
        let answer = match self.fetch.get(&self.address, MOST_BYTES).await {
            Ok(answer) if answer.is_success() => answer,
            Ok(answer) => {
                tracing::warn!(status = answer.status, "the JWKS address gave no keys; the known ones stay");
                return;
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the JWKS address gave no keys; the known ones stay");
                return;
            }
        };
        match keys_of(&answer.body) {
            Ok(keys) => {
                if keys.is_empty() {
                    tracing::warn!("there is no key for RS256, ES256 or EdDSA at the JWKS address");
                }
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
            }
            Err(error) => tracing::warn!(%error, "there is no JWKS at its address; the known keys stay"),
        }
    }
}

/// Returns the keys of a set that tokens can be signed with. Those that this release cannot read are left out.
fn keys_of(body: &[u8]) -> Result<Arc<[CheckingKey]>, serde_json::Error> {
    let set: JwkSet = serde_json::from_slice(body)?;
    Ok(set.keys.iter().take(MOST_KEYS).filter_map(CheckingKey::of_jwk).collect())
}
