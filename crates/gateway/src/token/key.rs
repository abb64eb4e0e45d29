//! Keys that tokens are checked with.

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};

/// The least length of a secret for HS256, in bytes: that of its hash, as RFC 7518 §3.2 asks.
const SECRET_BYTES: usize = 32;

/// A key that tokens are checked with. The key determines the algorithm, and a token that names another is refused.
#[derive(Clone)]
#[non_exhaustive]
pub enum TokenKey {
    /// A secret for HS256, shared with the service that issues the tokens.
    Hs256(Vec<u8>),
    /// A public key for RS256, as PEM.
    Rs256(Vec<u8>),
    /// A public key for ES256, as PEM.
    Es256(Vec<u8>),
    /// A public key for EdDSA with Ed25519, as PEM.
    EdDsa(Vec<u8>),
}

impl TokenKey {
    /// Returns the key for the algorithm of this name, from the content of a file: PEM for public keys, and the secret
    /// itself for HS256.
    ///
    /// # Errors
    /// [`TokenKeyError`] if there is no such algorithm or the key cannot be used.
    pub fn read(algorithm: &str, content: Vec<u8>) -> Result<Self, TokenKeyError> {
        let key = match algorithm {
            "HS256" if content.trim_ascii_end().len() < SECRET_BYTES => return Err(TokenKeyError::ShortSecret),
            "HS256" => Self::Hs256(content.trim_ascii_end().to_vec()),
            "RS256" => Self::Rs256(content),
            "ES256" => Self::Es256(content),
            "EdDSA" => Self::EdDsa(content),
            _ => return Err(TokenKeyError::Algorithm(algorithm.to_owned())),
        };
        CheckingKey::new(&key)?;
        Ok(key)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Hs256(_) => "Hs256",
            Self::Rs256(_) => "Rs256",
            Self::Es256(_) => "Es256",
            Self::EdDsa(_) => "EdDsa",
        }
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(..)", self.name())
    }
}

/// The reason why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// There is no such algorithm.
    #[error("{0} is not among HS256, RS256, ES256 and EdDSA")]
    Algorithm(String),
    /// The secret can be guessed.
    #[error("a secret for HS256 must have at least {SECRET_BYTES} bytes")]
    ShortSecret,
    /// The key is not what the algorithm needs.
    #[error("this is no public key in PEM for {0}")]
    Malformed(&'static str),
}

/// A key as tokens are checked with it.
#[derive(Clone)]
pub(super) struct CheckingKey {
    pub(super) algorithm: Algorithm,
    /// The name of the key. A token that names another one is not signed with it.
    pub(super) kid: Option<String>,
    pub(super) check: DecodingKey,
    /// The same key for making tokens, if it is a secret.
    pub(super) sign: Option<EncodingKey>,
}

impl fmt::Debug for CheckingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckingKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl CheckingKey {
    pub(super) fn new(key: &TokenKey) -> Result<Self, TokenKeyError> {
        let malformed = |_| TokenKeyError::Malformed(key.name());
        let (algorithm, check, sign) = match key {
            TokenKey::Hs256(secret) => {
                (Algorithm::HS256, DecodingKey::from_secret(secret), Some(EncodingKey::from_secret(secret)))
            }
            TokenKey::Rs256(pem) => (Algorithm::RS256, DecodingKey::from_rsa_pem(pem).map_err(malformed)?, None),
            TokenKey::Es256(pem) => (Algorithm::ES256, DecodingKey::from_ec_pem(pem).map_err(malformed)?, None),
            TokenKey::EdDsa(pem) => (Algorithm::EdDSA, DecodingKey::from_ed_pem(pem).map_err(malformed)?, None),
        };
        Ok(Self { algorithm, kid: None, check, sign })
    }

    /// Returns a key of a JWKS. `None` for a key that is not for signatures, or of another algorithm: symmetric keys
    /// are never taken from there.
    pub(super) fn of_jwk(jwk: &Jwk) -> Option<Self> {
        if jwk.common.public_key_use.as_ref().is_some_and(|use_| *use_ != PublicKeyUse::Signature) {
            return None;
        }
        let (algorithm, named) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
            }
            _ => return None,
        };
        if jwk.common.key_algorithm.is_some_and(|algorithm| algorithm != named) {
            return None;
        }
        let check = DecodingKey::from_jwk(jwk).ok()?;
        Some(Self { algorithm, kid: jwk.common.key_id.clone(), check, sign: None })
    }
}

/// Returns whether tokens of this algorithm can be signed with a key of a JWKS.
pub(super) fn is_public_key_algorithm(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA)
}
