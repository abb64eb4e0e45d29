//! Tokens, which say who a client is and until when.

use std::fmt;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use sendpi_model::flow::Requester;
use sendpi_model::{Code, Millis, Refusal, UserId};
use sendpi_session::Identity;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How long after its `exp`, and how long before its `nbf`, a token is accepted, because clocks differ.
const LEEWAY: Duration = Duration::from_secs(5);
/// The latest `exp` in milliseconds: what a client can read as an integer.
const LATEST: f64 = ((1_u64 << 53) - 1) as f64;

/// What the claim `scope` of a service's token contains.
const SERVICE: &str = "service";

/// A key that tokens are checked with. The key determines the algorithm, and a token that names another is refused.
#[derive(Clone)]
#[non_exhaustive]
pub enum TokenKey {
    /// A secret for HS256, shared with the service that issues the tokens.
    Hs256(Vec<u8>),
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hs256(_) => f.write_str("Hs256(..)"),
        }
    }
}

/// The reason why a token does not sign anybody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not a JWT, is not signed with the key, or lacks a claim.
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
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        Self::new(Code::Unauthorized, error.to_string())
    }
}

#[derive(Serialize, Deserialize)]
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
    scope: Option<String>,
}

/// Checks tokens, and creates those of `sendpi dev`.
#[derive(Debug)]
pub struct Tokens {
    check: DecodingKey,
    rules: Validation,
    make: EncodingKey,
}

impl Tokens {
    /// Returns a checker for tokens that are signed with `key`.
    #[must_use]
    pub fn new(key: &TokenKey) -> Self {
        let TokenKey::Hs256(secret) = key;
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_required_spec_claims(&["sub"]);
        // `exp` and `nbf` are checked against the caller's time, below.
        rules.validate_exp = false;
        // No audience is configured, and a token that has one is accepted all the same.
        rules.validate_aud = false;
        Self { check: DecodingKey::from_secret(secret), rules, make: EncodingKey::from_secret(secret) }
    }

    /// Returns whom `token` signs in, and until when: its `exp`, or the end of the leeway if `exp` has just passed.
    ///
    /// # Errors
    /// [`TokenError`], which never contains the token itself.
    pub fn check(&self, token: &str, now: Millis) -> Result<Identity, TokenError> {
        let claims =
            jsonwebtoken::decode::<Claims>(token, &self.check, &self.rules).map_err(|_| TokenError::Invalid)?.claims;
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
        // One that is no time counts as if it were not there: any sign-out revokes the token.
        let issued_at = claims.iat.as_ref().and_then(millis).filter(|iat| (0.0..=LATEST).contains(iat));
        let issued_at = issued_at.map(|iat| Millis(iat as u64));
        let user = UserId::parse_chosen(&claims.sub).map_err(|_| TokenError::BadUser)?;
        let service = claims.scope.is_some_and(|scope| scope.split(' ').any(|word| word == SERVICE));
        Ok(Identity { user, issued_at, expires_at, service })
    }

    /// Creates a token for a user, or for a service, that is issued at `now` and expires at `expires_at`.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] if the key cannot sign.
    pub fn make(&self, who: Requester<'_>, now: Millis, expires_at: Millis) -> Result<String, TokenError> {
        let [exp, iat] = [expires_at, now].map(|at| Some(Value::from(at.0 as f64 / 1000.0)));
        let scope = matches!(who, Requester::Service(_)).then(|| SERVICE.to_owned());
        let claims = Claims { sub: who.id().to_string(), exp, nbf: None, iat, scope };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.make).map_err(|_| TokenError::Invalid)
    }
}

/// Returns a claim's time in milliseconds. `None` if it is not a number.
fn millis(claim: &Value) -> Option<f64> {
    claim.as_f64().map(|seconds| seconds * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(secret: &str) -> Tokens {
        Tokens::new(&TokenKey::Hs256(secret.into()))
    }

    fn sign(header: &Header, claims: &serde_json::Value) -> String {
        jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(b"secret")).unwrap()
    }

    #[test]
    fn a_token_says_who_and_until_when() {
        let (tokens, ann) = (tokens("secret"), UserId::parse("ann").unwrap());
        let token = tokens.make(Requester::User(&ann), Millis(1), Millis(20_000)).unwrap();
        let identity = tokens.check(&token, Millis(10_000)).unwrap();
        assert_eq!((identity.user, identity.expires_at, identity.service), (ann, Millis(20_000), false));
    }

    #[test]
    fn exp_has_five_seconds_of_leeway() {
        let tokens = tokens("secret");
        let token = tokens.make(Requester::User(&UserId::parse("ann").unwrap()), Millis(1), Millis(20_000)).unwrap();
        let until = |now| tokens.check(&token, Millis(now)).unwrap().expires_at;
        assert_eq!((until(19_999), until(20_000), until(24_999)), (Millis(20_000), Millis(25_000), Millis(25_000)));
        assert_eq!(tokens.check(&token, Millis(25_000)).unwrap_err(), TokenError::Expired);
    }

    #[test]
    fn another_key_another_algorithm_and_no_signature_are_refused() {
        let ann = UserId::parse("ann").unwrap();
        let claims = serde_json::json!({"sub": "ann", "exp": 100});
        for token in [
            tokens("other").make(Requester::User(&ann), Millis(1), Millis(99_000)).unwrap(),
            sign(&Header::new(Algorithm::HS512), &claims),
            // {"alg":"none"}.{"sub":"ann","exp":100}.
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJleHAiOjEwMH0.".to_owned(),
            "nonsense".to_owned(),
            String::new(),
        ] {
            assert_eq!(tokens("secret").check(&token, Millis(0)).unwrap_err(), TokenError::Invalid, "{token}");
        }
    }

    #[test]
    fn sub_and_exp_are_required_and_sub_must_be_an_id() {
        let (tokens, header) = (tokens("secret"), Header::new(Algorithm::HS256));
        let check = |claims| tokens.check(&sign(&header, &claims), Millis(0));
        assert_eq!(check(serde_json::json!({"sub": "ann"})).unwrap_err(), TokenError::Invalid);
        assert_eq!(check(serde_json::json!({"exp": 100})).unwrap_err(), TokenError::Invalid);
        for sub in ["a b", "a\u{200b}b", "", "=a"] {
            assert_eq!(check(serde_json::json!({"exp": 100, "sub": sub})).unwrap_err(), TokenError::BadUser, "{sub:?}");
        }
    }

    #[test]
    fn an_exp_that_is_no_time_is_refused_with_the_reason() {
        let (tokens, header) = (tokens("secret"), Header::new(Algorithm::HS256));
        let check = |exp: serde_json::Value| {
            tokens.check(&sign(&header, &serde_json::json!({"sub": "ann", "exp": exp})), Millis(0))
        };
        let latest = ((1_u64 << 53) - 1) / 1000;
        assert_eq!(check(latest.into()).unwrap().expires_at, Millis(latest * 1000));
        for exp in [(latest + 1).into(), 1e300.into(), (-1).into(), (-0.1).into(), "soon".into(), true.into()] {
            assert_eq!(check(exp).unwrap_err(), TokenError::BadExpiry);
        }
    }

    #[test]
    fn nbf_has_five_seconds_of_leeway() {
        let (tokens, header) = (tokens("secret"), Header::new(Algorithm::HS256));
        let check = |nbf: serde_json::Value, now| {
            tokens.check(&sign(&header, &serde_json::json!({"sub": "ann", "exp": 100, "nbf": nbf})), Millis(now))
        };
        assert!(check(20.into(), 15_000).is_ok() && check((-5).into(), 0).is_ok());
        assert_eq!(check(20.into(), 14_999).unwrap_err(), TokenError::NotYetValid);
        assert_eq!(check(1e300.into(), 15_000).unwrap_err(), TokenError::NotYetValid);
        assert_eq!(check("now".into(), 15_000).unwrap_err(), TokenError::NotYetValid);
    }

    #[test]
    fn the_scope_service_makes_a_service() {
        let claims = serde_json::json!({"sub": "billing", "exp": 100.5, "scope": "other service", "aud": "x"});
        let token = sign(&Header::new(Algorithm::HS256), &claims);
        let identity = tokens("secret").check(&token, Millis(0)).unwrap();
        assert_eq!((identity.service, identity.expires_at), (true, Millis(100_500)));
    }

    #[test]
    fn a_key_does_not_show_its_secret() {
        assert_eq!(format!("{:?}", TokenKey::Hs256(b"secret".to_vec())), "Hs256(..)");
    }
}
