//! Tokens of an identity provider: which get in, and what is asked of the provider.

use sendpi_tests::{IssuerKey, NatsServer, Sendpi, SendpiSetup, TokenIssuer, api, get, step, until};
use serde_json::{Value, json};

const KEYS: [(&str, IssuerKey); 3] = [("r", IssuerKey::Rsa), ("e", IssuerKey::P256), ("d", IssuerKey::Ed25519)];

/// Returns the claims of a token of ann that is good.
fn claims() -> Value {
    json!({"sub": "ann", "exp": 4_000_000_000_u64, "iss": "https://id.example.org", "aud": ["other", "chat"]})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

async fn start(issuer: &TokenIssuer) -> Sendpi {
    let args = ["--jwks", issuer.address(), "--token-issuer", "https://id.example.org", "--token-audience", "chat"];
    let args = args.map(str::to_owned).to_vec();
    let server = Sendpi::start_with(SendpiSetup { args, ..SendpiSetup::default() }).await;
    until("the keys were fetched", async || issuer.fetches() > 0).await;
    server
}

async fn status(server: &Sendpi, token: &str) -> u16 {
    let over_http = api("GET", server.url(), "/v1/rooms", token, "").await.0;
    let over_socket = sendpi_client::connect(server.url(), token, "phone", Default::default()).await;
    assert_eq!(over_http == 200, over_socket.is_ok(), "{token}");
    over_http
}

#[tokio::test]
async fn tokens_of_a_provider_get_in_and_nothing_that_is_wrong_with_one_causes_a_fetch() {
    let issuer = TokenIssuer::start(&KEYS).await;
    let server = start(&issuer).await;
    for (kid, key) in KEYS {
        for kid in [Some(kid), None] {
            assert_eq!(status(&server, &key.sign(kid, &claims())).await, 200, "{key:?} {kid:?}");
        }
    }
    step("with real keys nobody gets a token for the asking");
    assert_eq!(get(server.url(), "/dev/token?user=ann", &[]).await.unwrap().status, 404);
    let fetches = issuer.fetches();
    let public = include_bytes!("../src/keys/rs.pub");
    let header = jsonwebtoken::Header { kid: Some("r".into()), ..jsonwebtoken::Header::default() };
    let confused = jsonwebtoken::encode(&header, &claims(), &jsonwebtoken::EncodingKey::from_secret(public)).unwrap();
    let good = IssuerKey::Rsa.sign(Some("r"), &claims());
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    let (_, payload) = unsigned.split_once('.').unwrap();
    for (what, token) in [
        ("another key", IssuerKey::OtherRsa.sign(Some("r"), &claims())),
        ("another key without a name", IssuerKey::OtherRsa.sign(None, &claims())),
        ("the key of another name", IssuerKey::Rsa.sign(Some("e"), &claims())),
        ("HS256 with the public key", confused),
        // {"alg":"none"}
        ("no signature", format!("eyJhbGciOiJub25lIn0.{payload}.")),
        ("a signature that is missing", format!("{unsigned}.")),
        ("expired", IssuerKey::Rsa.sign(Some("r"), &with("exp", 1.into()))),
        ("expired, with an unknown key", IssuerKey::OtherRsa.sign(Some("new"), &with("exp", 1.into()))),
        ("exp is a text", IssuerKey::OtherRsa.sign(Some("new"), &with("exp", "4000000000".into()))),
        ("no exp", IssuerKey::OtherRsa.sign(Some("new"), &without("exp"))),
        ("no sub", IssuerKey::OtherRsa.sign(Some("new"), &without("sub"))),
        ("sub is no id", IssuerKey::OtherRsa.sign(Some("new"), &with("sub", "a b".into()))),
        ("not valid yet", IssuerKey::OtherRsa.sign(Some("new"), &with("nbf", 3_999_999_999_u64.into()))),
        ("another issuer", IssuerKey::OtherRsa.sign(Some("new"), &with("iss", "https://evil.example".into()))),
        ("no issuer", IssuerKey::Rsa.sign(Some("r"), &without("iss"))),
        ("another audience", IssuerKey::Rsa.sign(Some("r"), &with("aud", "other".into()))),
        ("no audience", IssuerKey::OtherRsa.sign(Some("new"), &without("aud"))),
        ("too long", IssuerKey::Rsa.sign(Some("r"), &with("x", "x".repeat(9_000).into()))),
    ] {
        assert_eq!(status(&server, &token).await, 401, "{what}");
        assert_eq!(issuer.fetches(), fetches, "{what}");
    }
}

#[tokio::test]
async fn a_key_that_the_provider_rotates_is_found_and_the_old_one_is_not_accepted_any_more() {
    let issuer = TokenIssuer::start(&KEYS).await;
    let server = start(&issuer).await;
    let (old, new) = (IssuerKey::Rsa.sign(Some("r"), &claims()), IssuerKey::OtherRsa.sign(Some("r2"), &claims()));
    assert_eq!((status(&server, &old).await, status(&server, &new).await), (200, 401));
    issuer.publish(&[("r2", IssuerKey::OtherRsa)]);
    until("the new key is found", async || status(&server, &new).await == 200).await;
    assert_eq!(status(&server, &old).await, 401);
    step("many tokens with unknown keys cost one fetch in a while");
    let fetches = issuer.fetches();
    for n in 0..50 {
        let token = IssuerKey::Rsa.sign(Some(&format!("unknown-{n}")), &claims());
        assert_eq!(api("GET", server.url(), "/v1/rooms", &token, "").await.0, 401);
    }
    assert!(issuer.fetches() <= fetches + 1);
}

#[tokio::test]
async fn keys_may_be_files_and_one_that_cannot_be_used_is_named() {
    let nats = NatsServer::start().await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/keys");
    let args = ["--token-key", &format!("RS256={folder}/rs.pub"), "--token-key", &format!("EdDSA={folder}/ed.pub")];
    let args = args.map(str::to_owned).to_vec();
    let setup = SendpiSetup { args, nats: Some(nats.url()), ..SendpiSetup::default() };
    let server = Sendpi::start_with(setup).await;
    for (key, wanted) in
        [(IssuerKey::Rsa, 200), (IssuerKey::Ed25519, 200), (IssuerKey::OtherRsa, 401), (IssuerKey::P256, 401)]
    {
        assert_eq!(status(&server, &key.sign(Some("any"), &claims())).await, wanted, "{key:?}");
    }
    let data = tempfile::tempdir().unwrap();
    for (option, key, said) in [
        ("--token-key", format!("RS256={folder}/ed.pub"), "this is no public key in PEM for Rs256"),
        ("--token-key", format!("RS512={folder}/rs.pub"), "RS512 is not among HS256, RS256, ES256 and EdDSA"),
        ("--token-key", "HS256=/etc/hostname".to_owned(), "a secret for HS256 must have at least 32 bytes"),
        ("--token-key", "HS256".to_owned(), "--token-key HS256 must be ALGORITHM=FILE"),
        ("--jwks", "http://id.example.org/keys".to_owned(), "the JWKS address must begin with https://"),
    ] {
        let data = data.path().to_string_lossy().into_owned();
        let output = Sendpi::run(&["dev", "--port", "0", "--data", &data, option, &key]).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(said), "{option} {key}: {error}");
    }
}

#[tokio::test]
async fn sendpi_token_makes_one_for_a_data_folder() {
    let server = Sendpi::start().await;
    let data = server.data().to_string_lossy().into_owned();
    let made = Sendpi::run(&["token", "--user", "ann", "--data", &data]).await;
    let token = String::from_utf8(made.stdout).unwrap();
    assert_eq!(api("GET", server.url(), "/v1/rooms", token.trim(), "").await.0, 200);
    let made = Sendpi::run(&["token", "--user", "desk", "--service", "--valid", "1m", "--data", &data]).await;
    let token = String::from_utf8(made.stdout).unwrap();
    assert_eq!(api("GET", server.url(), "/v1/users/online?user=ann", token.trim(), "").await.0, 200);
    let none = Sendpi::run(&["token", "--user", "ann", "--data", "/nowhere"]).await;
    assert!(String::from_utf8_lossy(&none.stderr).contains("name its folder with --data"));
}
