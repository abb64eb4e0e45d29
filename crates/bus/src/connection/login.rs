//! How a node signs in at NATS: with an NKEY, or with the JWT of a `.creds` file and the NKEY to it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_nats::{AuthError, ConnectOptions};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;

/// The reason why a file with a login cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NatsLoginError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// It holds no seed of a user.
    #[error("{0} holds no seed of a NATS user, which is 58 letters and digits and begins with SU")]
    NoSeed(PathBuf),
}

/// Who a node is to NATS. It does not print its secret.
#[derive(Clone)]
pub struct NatsLogin {
    jwt: Option<String>,
    seed: String,
    key: Arc<KeyPair>,
}

impl fmt::Debug for NatsLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsLogin").field("user", &self.key.public_key()).finish_non_exhaustive()
    }
}

impl NatsLogin {
    /// Reads a file that holds the seed of an NKEY, or a JWT and a seed as `nsc generate creds` writes them.
    ///
    /// # Errors
    /// [`NatsLoginError`] names the file.
    pub fn read(path: &Path) -> Result<Self, NatsLoginError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| NatsLoginError::File { path: path.to_owned(), source })?;
        Self::parse(&text).ok_or_else(|| NatsLoginError::NoSeed(path.to_owned()))
    }

    /// Makes a new NKEY of a user.
    #[must_use]
    pub fn generate() -> Self {
        let key = KeyPair::new_user();
        // A pair that was made anew has its secret half.
        let seed = key.seed().unwrap_or_default();
        Self { jwt: None, seed, key: Arc::new(key) }
    }

    /// Returns the secret with which [`NatsLogin::read`] makes the same.
    #[must_use]
    pub fn seed(&self) -> &str {
        &self.seed
    }

    /// Returns the key by which a server knows the user.
    #[must_use]
    pub fn public_key(&self) -> String {
        self.key.public_key()
    }

    /// Returns a signature of a server's nonce.
    ///
    /// # Errors
    /// That of the library, which never happens with a key that has its secret half.
    pub fn sign(&self, nonce: &str) -> Result<String, nkeys::error::Error> {
        self.key.sign(nonce.as_bytes()).map(|signature| BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    fn parse(text: &str) -> Option<Self> {
        let jwt = section(text, "-----BEGIN NATS USER JWT-----");
        let of_user = |seed: &str| seed.starts_with("SU").then(|| KeyPair::from_seed(seed).ok()).flatten();
        let (seed, key) = match jwt {
            Some(_) => section(text, "-----BEGIN USER NKEY SEED-----").and_then(|seed| Some((seed, of_user(seed)?)))?,
            None => text.split_whitespace().find_map(|word| Some((word, of_user(word)?)))?,
        };
        Some(Self { jwt: jwt.map(str::to_owned), seed: seed.to_owned(), key: Arc::new(key) })
    }

    pub(super) fn apply(&self, options: ConnectOptions) -> ConnectOptions {
        let Some(jwt) = &self.jwt else { return options.nkey(self.seed.clone()) };
        let key = Arc::clone(&self.key);
        options.jwt(jwt.clone(), move |nonce| {
            let key = Arc::clone(&key);
            async move { key.sign(&nonce).map_err(AuthError::new) }
        })
    }

    /// Returns the fields of a CONNECT that answer a server's nonce.
    #[must_use]
    pub fn answer(&self, nonce: &str) -> serde_json::Map<String, serde_json::Value> {
        let mut fields = serde_json::Map::new();
        match &self.jwt {
            Some(jwt) => fields.insert("jwt".to_owned(), jwt.as_str().into()),
            None => fields.insert("nkey".to_owned(), self.key.public_key().into()),
        };
        if let Ok(signature) = self.sign(nonce) {
            fields.insert("sig".to_owned(), signature.into());
        }
        fields
    }
}

/// Returns the line behind a heading.
fn section<'a>(text: &'a str, heading: &str) -> Option<&'a str> {
    text.split_once(heading)?.1.lines().map(str::trim).find(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_a_seed_or_the_credentials_of_a_user() {
        let seed = KeyPair::new_user().seed().unwrap();
        let alone = NatsLogin::parse(&format!("# SUPPORT: gateway\n{seed}\n")).unwrap();
        assert_eq!((alone.jwt.as_deref(), alone.seed.as_str()), (None, seed.as_str()));
        let creds = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.e30.sig\n------END NATS USER JWT------\n\nIMPORTANT\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        let creds = NatsLogin::parse(&creds).unwrap();
        assert_eq!((creds.jwt.as_deref(), creds.seed), (Some("eyJ0.e30.sig"), seed));
        assert!(NatsLogin::parse("nothing").is_none());
        assert!(NatsLogin::parse(&KeyPair::new_account().seed().unwrap()).is_none());
    }

    #[test]
    fn a_login_does_not_print_its_secret() {
        let key = KeyPair::new_user();
        let text = format!("{:?}", NatsLogin::parse(&key.seed().unwrap()).unwrap());
        assert!(text.contains(&key.public_key()) && !text.contains(&key.seed().unwrap()), "{text}");
    }
}
