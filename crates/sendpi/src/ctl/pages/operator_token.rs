//! The token of operators.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// The least length of a token that somebody chose, in bytes.
const LEAST: usize = 16;

/// The reason why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperatorTokenError {
    /// The file cannot be read.
    #[error("cannot read the token in {}: {}", .0.display(), .1)]
    File(PathBuf, #[source] io::Error),
    /// It is easy to guess.
    #[error("the token in {} has {} bytes, and must have {LEAST} or more", .0.display(), .1)]
    Short(PathBuf, usize),
}

/// The token of operators.
#[derive(Debug)]
pub(super) struct OperatorToken {
    /// Tokens are compared by their digests, which tells nobody by the time it takes how much of a guess was right.
    digest: [u8; 32],
    /// The token, if it was made just now.
    made: Option<String>,
}

impl OperatorToken {
    /// Returns the token in a file, or makes one.
    pub(super) fn of(file: Option<&Path>) -> Result<Self, OperatorTokenError> {
        let Some(file) = file else {
            let made = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>());
            return Ok(Self { digest: Sha256::digest(&made).into(), made: Some(made) });
        };
        let text = std::fs::read_to_string(file).map_err(|error| OperatorTokenError::File(file.to_owned(), error))?;
        let token = text.trim();
        if token.len() < LEAST {
            return Err(OperatorTokenError::Short(file.to_owned(), token.len()));
        }
        Ok(Self { digest: Sha256::digest(token).into(), made: None })
    }

    /// Returns the token, if it was made just now.
    pub(super) fn made(&self) -> Option<&str> {
        self.made.as_deref()
    }

    /// Returns whether an `Authorization` header has the token: as a bearer token (RFC 6750), or as the password of
    /// anybody (RFC 7617), for which browsers ask.
    pub(super) fn is_in(&self, authorization: &str) -> bool {
        let Some((scheme, credentials)) = authorization.split_once(' ') else { return false };
        let token = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => credentials.trim().as_bytes().to_owned(),
            "basic" => {
                let Ok(pair) = BASE64_STANDARD.decode(credentials.trim()) else { return false };
                let Some(colon) = pair.iter().position(|byte| *byte == b':') else { return false };
                pair[colon + 1..].to_owned()
            }
            _ => return false,
        };
        <[u8; 32]>::from(Sha256::digest(token)) == self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_a_password_of_anybody_or_a_bearer_token() {
        let token = OperatorToken::of(None).unwrap();
        let made = token.made().unwrap().to_owned();
        let basic = |pair: String| format!("Basic {}", BASE64_STANDARD.encode(pair));
        for right in [format!("Bearer {made}"), basic(format!("ops:{made}")), basic(format!(":{made}"))] {
            assert!(token.is_in(&right), "{right}");
        }
        for wrong in [
            String::new(),
            made.clone(),
            "Bearer ".to_owned(),
            format!("Bearer {made}x"),
            basic(made.clone()),
            basic(format!("{made}:")),
            format!("Basic {made}"),
            format!("Digest {made}"),
        ] {
            assert!(!token.is_in(&wrong), "{wrong}");
        }
    }

    #[test]
    fn a_file_has_the_token_and_one_that_is_easy_to_guess_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "sixteen-bytes-ok\n").unwrap();
        let token = OperatorToken::of(Some(&file)).unwrap();
        assert!(token.is_in("bearer sixteen-bytes-ok") && token.made().is_none());
        std::fs::write(&file, "fifteen-bytes-0\n").unwrap();
        let refused = OperatorToken::of(Some(&file)).unwrap_err().to_string();
        assert!(refused.ends_with("has 15 bytes, and must have 16 or more"), "{refused}");
        assert!(OperatorToken::of(Some(&folder.path().join("none"))).is_err());
    }
}
