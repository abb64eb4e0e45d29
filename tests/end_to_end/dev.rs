//! What `sendpi dev` gives only to people on its own machine.

use sendpi_tests::{Recording, Sendpi, SendpiSetup, get, step};

#[tokio::test]
async fn a_development_token_is_only_for_who_comes_directly() {
    let server = Sendpi::start().await;
    let path = "/dev/token?user=ann";
    for header in [
        ("Forwarded", "for=192.0.2.7"),
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "192.0.2.7"),
        ("Via", "1.1 proxy"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Origin", "https://evil.example"),
    ] {
        step(format!("a request comes with {header:?}"));
        let answer = get(server.url(), path, &[header]).await.unwrap();
        assert_eq!(answer.status, 403, "{header:?}: {}", answer.body);
    }
    for site in ["same-origin", "none"] {
        step(format!("the page itself asks, as {site}"));
        let answer = get(server.url(), path, &[("Sec-Fetch-Site", site)]).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.head.to_lowercase().contains("cache-control: no-store"), "{}", answer.head);
    }
}

#[tokio::test]
async fn the_token_key_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let mut server = Sendpi::start().await;
    let key = server.data().join("token-key");
    let mode = || std::fs::metadata(&key).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let secret = std::fs::read(&key).unwrap();
    step("the server starts again with a key that everybody may read");
    server.terminate().await;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    server.start_again().await;
    assert_eq!((mode(), std::fs::read(&key).unwrap()), (0o600, secret));
}

#[tokio::test]
async fn a_server_whose_output_nobody_reads_serves() {
    let mut server = Sendpi::start_with(SendpiSetup { unread_output: true, ..SendpiSetup::default() }).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    ann.client().ping().await.unwrap();
    ann.finish().await;
    step("the server is told to end, and has not ended in another way before");
    let status = server.terminate().await;
    assert!(status.success(), "{status}");
}
