//! Tokens, which say who a client is and until when.
//!
//! A key determines its algorithm, and a token that names another is refused. Keys come from the configuration and from
//! one configured JWKS address; what a token says of addresses or keys of its own is never followed.

mod jwks;
mod key;

use std::time::Duration;

use jsonwebtoken::{Algorithm, Header, Validation};
use sendpi_model::flow::Requester;
use sendpi_model::{Code, Millis, Refusal, UserId};
use sendpi_session::Identity;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use jwks::JwksError;
pub use key::{TokenKey, TokenKeyError};

use jwks::Jwks;
use key::CheckingKey;

/// How long after its `exp`, and how long before its `nbf`, a token is accepted, because clocks differ.
const LEEWAY: Duration = Duration::from_secs(5);
/// The latest `exp` in milliseconds: what a client can read as an integer.
const LATEST: f64 = ((1_u64 << 53) - 1) as f64;
/// What the claim `scope` of a service's token contains.
const SERVICE: &str = "service";
/// The largest token, in bytes.
const TOKEN_BYTES: usize = 8 * 1024;

/// What tokens are checked against.
#[derive(Debug, Clone, Default)]
pub struct TokenRules {
    /// The keys. The first one also signs the tokens of `sendpi dev`.
    pub keys: Vec<TokenKey>,
    /// The address of a JSON Web Key Set (RFC 7517) with further keys.
    pub jwks: Option<String>,
    /// The `iss` that tokens must have. Any or none if it is `None`.
    pub issuer: Option<String>,
    /// The `aud` that tokens must have, alone or among others. Any or none if it is `None`.
    pub audience: Option<String>,
}

/// The reason why a token does not sign anybody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not a JWT, is not signed with a known key, or lacks a claim.
    #[error("the token is not valid")]
    Invalid,
    /// Its `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// Its `exp` is not a number, is negative, or is too late for a time in milliseconds below 2^53.
    #[error("the token's exp is not a time in seconds since 1970")]
    BadExpiry,
    /// Its `nbf` has not come yet, or is not a number.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Its `sub` is not a user id.
    #[error("the token's sub is not a user id")]
    BadUser,
    /// Its `iss` is not the configured one.
    #[error("the token is of another issuer")]
    OtherIssuer,
    /// Its `aud` does not contain the configured one.
    #[error("the token is for another audience")]
    OtherAudience,
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        Self::new(Code::Unauthorized, error.to_string())
    }
}

/// The reason why tokens cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] TokenKeyError),
    /// The JWKS address cannot be used.
    #[error(transparent)]
    Jwks(#[from] JwksError),
}

#[derive(Clone, Serialize, Deserialize)]
struct Claims {
    sub: String,
    /// Seconds since 1970. The standard allows fractions.
    exp: Option<Value>,
    /// Seconds since 1970, like `exp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<Value>,
    /// Seconds since 1970, like `exp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    /// A text, or a list of texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aud: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// Checks tokens, and creates those of `sendpi dev`.
#[derive(Debug)]
pub struct Tokens {
    keys: Vec<CheckingKey>,
    jwks: Option<Jwks>,
    rules: TokenRules,
}

impl Tokens {
    /// Returns a checker for tokens. It asks for no JWKS yet.
    ///
    /// # Errors
    /// [`TokensError`] if a key or the JWKS address cannot be used.
    pub fn new(rules: TokenRules) -> Result<Self, TokensError> {
        let keys = rules.keys.iter().map(CheckingKey::new).collect::<Result<_, _>>()?;
        let jwks = rules.jwks.as_deref().map(Jwks::new).transpose()?;
        Ok(Self { keys, jwks, rules })
    }

    /// Keeps the keys of the JWKS address fresh. It never ends; without such an address it does nothing.
    pub(crate) async fn keep_fresh(&self) {
        match &self.jwks {
            Some(jwks) => jwks.keep_fresh().await,
            None => std::future::pending().await,
        }
    }

    /// Returns whom `token` signs in, and until when: its `exp`, or the end of the leeway if `exp` has just passed.
    ///
    /// # Errors
    /// [`TokenError`], which never contains the token itself.
    pub async fn check(&self, token: &str, now: Millis) -> Result<Identity, TokenError> {
        if token.len() > TOKEN_BYTES {
            return Err(TokenError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        // No extension is known that a token may ask for (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        if let Some(claims) = self.keys.iter().find_map(|key| verified(token, &header, key)) {
            return self.identity(claims, now);
        }
        let Some(jwks) = &self.jwks else { return Err(TokenError::Invalid) };
        if let Some(claims) = jwks.keys().iter().find_map(|key| verified(token, &header, key)) {
            return self.identity(claims, now);
        }
        // A key that was made lately is looked for, but only for a token that would be accepted but for it.
        let Some(kid) = header.kid.as_deref().filter(|kid| !jwks.knows(kid)) else { return Err(TokenError::Invalid) };
        let unchecked =
            jsonwebtoken::dangerous::insecure_decode_claims::<Claims>(token).map_err(|_| TokenError::Invalid)?;
        self.identity(unchecked, now)?;
        if !key::is_public_key_algorithm(header.alg) || !jwks.look_for(kid).await {
            return Err(TokenError::Invalid);
        }
        let found = jwks.keys().iter().find_map(|key| verified(token, &header, key));
        found.ok_or(TokenError::Invalid).and_then(|claims| self.identity(claims, now))
    }

    /// Returns whom the claims name, if they keep to the rules.
    fn identity(&self, claims: Claims, now: Millis) -> Result<Identity, TokenError> {
        let exp = millis(&claims.exp.ok_or(TokenError::Invalid)?).ok_or(TokenError::BadExpiry)?;
        if !(0.0..=LATEST).contains(&exp) {
            return Err(TokenError::BadExpiry);
        }
        let exp = Millis(exp as u64);
        let expires_at = if exp <= now { exp.after(LEEWAY) } else { exp };
        if expires_at <= now {
            return Err(TokenError::Expired);
        }
        if let Some(nbf) = claims.nbf
            && millis(&nbf).is_none_or(|nbf| nbf > now.after(LEEWAY).0 as f64)
        {
            return Err(TokenError::NotYetValid);
        }
        if self.rules.issuer.is_some() && claims.iss != self.rules.issuer {
            return Err(TokenError::OtherIssuer);
        }
        if self.rules.audience.as_deref().is_some_and(|wanted| !is_for(claims.aud.as_ref(), wanted)) {
            return Err(TokenError::OtherAudience);
        }
        // One that is no time, or has not come yet, counts as if it were not there: any sign-out revokes the token.
        let latest = now.after(LEEWAY).0 as f64;
        let issued_at = claims.iat.as_ref().and_then(millis).filter(|iat| (0.0..=latest).contains(iat));
        let issued_at = issued_at.map(|iat| Millis(iat as u64));
        let user = UserId::parse_chosen(&claims.sub).map_err(|_| TokenError::BadUser)?;
        let service = claims.scope.is_some_and(|scope| scope.split(' ').any(|word| word == SERVICE));
        Ok(Identity { user, issued_at, expires_at, service })
    }

    /// Creates a token for a user, or for a service, that is issued at `now` and expires at `expires_at`.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] if the first key cannot sign.
    pub fn make(&self, who: Requester<'_>, now: Millis, expires_at: Millis) -> Result<String, TokenError> {
        let [exp, iat] = [expires_at, now].map(|at| Some(Value::from(at.0 as f64 / 1000.0)));
        let scope = matches!(who, Requester::Service(_)).then(|| SERVICE.to_owned());
        let (iss, aud) = (self.rules.issuer.clone(), self.rules.audience.clone().map(Value::from));
        let claims = Claims { sub: who.id().to_string(), exp, nbf: None, iat, iss, aud, scope };
        let key = self.keys.first().and_then(|key| key.sign.as_ref()).ok_or(TokenError::Invalid)?;
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, key).map_err(|_| TokenError::Invalid)
    }
}

/// Returns the claims of a token that is signed with this key.
fn verified(token: &str, header: &Header, key: &CheckingKey) -> Option<Claims> {
    if header.alg != key.algorithm || key.kid.as_ref().is_some_and(|kid| header.kid.as_ref().is_some_and(|k| k != kid))
    {
        return None;
    }
    let mut rules = Validation::new(key.algorithm);
    rules.set_required_spec_claims(&["sub"]);
    // The times and the audience are checked afterwards, against the caller's time and with reasons of their own.
    rules.validate_exp = false;
    rules.validate_aud = false;
    jsonwebtoken::decode::<Claims>(token, &key.check, &rules).ok().map(|token| token.claims)
}

fn is_for(audience: Option<&Value>, wanted: &str) -> bool {
    match audience {
        Some(Value::String(one)) => one == wanted,
        Some(Value::Array(many)) => many.iter().any(|one| one == wanted),
        _ => false,
    }
}

/// Returns a claim's time in milliseconds. `None` if it is not a number.
fn millis(claim: &Value) -> Option<f64> {
    claim.as_f64().map(|seconds| seconds * 1000.0)
}

#[cfg(test)]
mod tests;
