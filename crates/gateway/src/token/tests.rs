use futures_util::FutureExt;
use jsonwebtoken::{EncodingKey, Header};

use super::*;

fn tokens(secret: &str) -> Tokens {
    let keys = vec![TokenKey::Hs256(secret.into())];
    Tokens::new(TokenRules { keys, ..TokenRules::default() }).unwrap()
}

/// Checks a token. Without a JWKS address that waits for nothing.
fn verify(tokens: &Tokens, token: &str, now: u64) -> Result<Identity, TokenError> {
    tokens.check(token, Millis(now)).now_or_never().unwrap()
}

fn sign(header: &Header, claims: &serde_json::Value) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(b"secret")).unwrap()
}

#[test]
fn a_token_says_who_and_until_when() {
    let (tokens, ann) = (tokens("secret"), UserId::parse("ann").unwrap());
    let token = tokens.make(Requester::User(&ann), Millis(1), Millis(20_000)).unwrap();
    let identity = verify(&tokens, &token, 10_000).unwrap();
    assert_eq!((identity.user, identity.expires_at, identity.service), (ann, Millis(20_000), false));
}

#[test]
fn exp_has_five_seconds_of_leeway() {
    let tokens = tokens("secret");
    let token = tokens.make(Requester::User(&UserId::parse("ann").unwrap()), Millis(1), Millis(20_000)).unwrap();
    let until = |now| verify(&tokens, &token, now).unwrap().expires_at;
    assert_eq!((until(19_999), until(20_000), until(24_999)), (Millis(20_000), Millis(25_000), Millis(25_000)));
    assert_eq!(verify(&tokens, &token, 25_000).unwrap_err(), TokenError::Expired);
}

#[test]
fn an_iat_that_is_no_time_or_has_not_come_yet_is_none() {
    let (tokens, header) = (tokens("secret"), Header::new(Algorithm::HS256));
    let issued = |iat: serde_json::Value| {
        let claims = serde_json::json!({"sub": "ann", "exp": 1_000, "iat": iat});
        verify(&tokens, &sign(&header, &claims), 100_000).unwrap().issued_at
    };
    assert_eq!((issued(99.5.into()), issued(105.into())), (Some(Millis(99_500)), Some(Millis(105_000))));
    assert_eq!((issued(106.into()), issued("99".into()), issued((-1).into())), (None, None, None));
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
        sign(&Header { crit: Some(vec!["x".to_owned()]), ..Header::new(Algorithm::HS256) }, &claims),
        "nonsense".to_owned(),
        String::new(),
    ] {
        assert_eq!(verify(&tokens("secret"), &token, 0).unwrap_err(), TokenError::Invalid, "{token}");
    }
}

#[test]
fn sub_and_exp_are_required_and_sub_must_be_an_id() {
    let (tokens, header) = (tokens("secret"), Header::new(Algorithm::HS256));
    let check = |claims| verify(&tokens, &sign(&header, &claims), 0);
    assert_eq!(check(serde_json::json!({"sub": "ann"})).unwrap_err(), TokenError::Invalid);
    assert_eq!(check(serde_json::json!({"exp": 100})).unwrap_err(), TokenError::Invalid);
    for sub in ["a b", "a\u{200b}b", "", "=a"] {
        assert_eq!(check(serde_json::json!({"exp": 100, "sub": sub})).unwrap_err(), TokenError::BadUser, "{sub:?}");
    }
}

#[test]
fn an_exp_that_is_no_time_is_refused_with_the_reason() {
    let (tokens, header) = (tokens("secret"), Header::new(Algorithm::HS256));
    let check =
        |exp: serde_json::Value| verify(&tokens, &sign(&header, &serde_json::json!({"sub": "ann", "exp": exp})), 0);
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
        verify(&tokens, &sign(&header, &serde_json::json!({"sub": "ann", "exp": 100, "nbf": nbf})), now)
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
    let identity = verify(&tokens("secret"), &token, 0).unwrap();
    assert_eq!((identity.service, identity.expires_at), (true, Millis(100_500)));
}

#[test]
fn a_key_does_not_show_its_secret() {
    assert_eq!(format!("{:?}", TokenKey::Hs256(b"secret".to_vec())), "Hs256(..)");
}
