//! The options for tokens.

use std::path::PathBuf;

use sendpi_gateway::{TokenKey, TokenKeyError, TokenRules};

/// What tokens are checked against.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    /// A key that tokens are checked with, instead of the one in the data folder: HS256=FILE with a secret, or
    /// RS256=FILE, ES256=FILE or EdDSA=FILE with a public key in PEM. Repeatable.
    #[arg(long = "token-key", value_name = "ALGORITHM=FILE")]
    keys: Vec<String>,
    /// The address of a JSON Web Key Set with further keys, such as that of an identity provider.
    #[arg(long, value_name = "URL", env = "SENDPI_JWKS")]
    jwks: Option<String>,
    /// The issuer (`iss`) that tokens must name.
    #[arg(long = "token-issuer", value_name = "ISSUER")]
    issuer: Option<String>,
    /// The audience (`aud`) that tokens must name.
    #[arg(long = "token-audience", value_name = "AUDIENCE")]
    audience: Option<String>,
}

/// The reason why an option for tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenArgsError {
    /// It does not name an algorithm and a file.
    #[error("--token-key {0} must be ALGORITHM=FILE")]
    Form(String),
    /// The file cannot be read.
    #[error("cannot read the key {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The key cannot be used.
    #[error("--token-key {0}: {1}")]
    Key(String, #[source] TokenKeyError),
}

impl TokenArgs {
    /// Returns whether tokens of others are checked. Then nobody gets one from the development page.
    pub(crate) fn has_keys(&self) -> bool {
        !self.keys.is_empty() || self.jwks.is_some()
    }

    /// Returns the rules for tokens. `own` is the key that is used if no other is named.
    pub(crate) fn rules(&self, own: &[u8]) -> Result<TokenRules, TokenArgsError> {
        let mut keys = self.keys.iter().map(|key| read_key(key)).collect::<Result<Vec<_>, _>>()?;
        if !self.has_keys() {
            keys.push(TokenKey::Hs256(own.to_vec()));
        }
        let (jwks, issuer, audience) = (self.jwks.clone(), self.issuer.clone(), self.audience.clone());
        Ok(TokenRules { keys, jwks, issuer, audience })
    }
}

fn read_key(text: &str) -> Result<TokenKey, TokenArgsError> {
    let (algorithm, path) = text.split_once('=').ok_or_else(|| TokenArgsError::Form(text.to_owned()))?;
    let content = std::fs::read(path).map_err(|source| TokenArgsError::File { path: path.into(), source })?;
    TokenKey::read(algorithm, content).map_err(|error| TokenArgsError::Key(text.to_owned(), error))
}
