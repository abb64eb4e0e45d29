//! HTTP: what is not in the table of rights.

use std::process::Stdio;
use std::time::Duration;

use sendpi_client::ServerFrame;
use sendpi_model::CloseCode;
use sendpi_tests::{Recording, Sendpi, SendpiSetup, api, get, request, step, until, within};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::process::Command;

/// Returns the code of a refusal and its field, or `ok`.
fn told(answer: &Value) -> String {
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    if answer["code"].is_null() { "ok".to_owned() } else { format!("{} {}", text("code"), text("field")) }
}

#[tokio::test]
async fn a_sign_out_ends_every_session_on_every_node_and_revokes_the_tokens() {
    let server = Sendpi::start_with(SendpiSetup { nodes: 3, ..SendpiSetup::default() }).await;
    let (old, bob) = (server.token("ann").await, server.token("bob").await);
    let mut anns = Vec::new();
    for node in 0..3 {
        let url = server.node(node);
        anns.push(Recording::connect_with(url, &old, "ann", &format!("d{node}"), Default::default()).await);
    }
    let by_bob = api("DELETE", server.node(1), "/v1/users/ann/sessions", &bob, "").await;
    assert_eq!((by_bob.0, told(&by_bob.1)), (403, "forbidden ".to_owned()));
    step("a service signs ann out, on a node that has one of her sessions");
    let service = server.service_token("desk").await;
    let ended = async {
        for ann in &anns {
            assert_eq!(ann.client().closed().await.code, Some(CloseCode::SignedOut.code()));
        }
    };
    let signed_out = api("DELETE", server.node(1), "/v1/users/ann/sessions", &service, "");
    let (answer, ()) = tokio::join!(signed_out, within(Duration::from_secs(1), "all sessions have ended", ended));
    assert_eq!(answer.0, 200, "{}", answer.1);
    for node in 0..3 {
        let refused = sendpi_client::connect(server.node(node), &old, "d9", Default::default()).await;
        assert!(refused.is_err());
        let (status, answer) = api("GET", server.node(node), "/v1/rooms", &old, "").await;
        assert_eq!((status, told(&answer)), (401, "unauthorized ".to_owned()));
    }
    step("a new token signs in, and bob is where he was");
    let new = server.token("ann").await;
    let back = Recording::connect_with(server.url(), &new, "ann", "d0", Default::default()).await;
    step("the old token does not end her session by naming its device");
    assert!(sendpi_client::connect(server.url(), &old, "d0", Default::default()).await.is_err());
    back.client().ping().await.unwrap();
    back.finish().await;
    assert_eq!(api("GET", server.url(), "/v1/rooms", &bob, "").await.0, 200);
    for ann in anns {
        ann.finish().await;
    }
}

#[tokio::test]
async fn who_does_not_read_an_answer_is_cut_off() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let fields = json!({"name": "lobby", "room": "lobby", "members": []});
    ann.client().create_with(fields).await.unwrap();
    for _ in 0..100 {
        ann.client().send("lobby", &"long ".repeat(2_000)).await.unwrap();
    }
    let connections = async |count: usize| {
        let metrics = get(server.url(), "/metrics", &[]).await.unwrap().body;
        metrics.contains(&format!("sendpi_connections {count}\n"))
    };
    until("only ann's connection and the one that asks are left", async || connections(2).await).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut deaf = socket.connect(server.url().trim_start_matches("http://").parse().unwrap()).await.unwrap();
    let token = server.token("ann").await;
    let ask = "GET /v1/rooms/lobby/events?limit=100 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer";
    deaf.write_all(format!("{ask} {token}\r\n\r\n").as_bytes()).await.unwrap();
    until("the one that does not read is there", async || connections(3).await).await;
    until("it is cut off", async || connections(2).await).await;
    drop(deaf);
    ann.finish().await;
}

#[tokio::test]
async fn what_is_done_over_http_reaches_who_is_online() {
    let server = Sendpi::start().await;
    let bob = Recording::connect(&server, "bob", "phone").await;
    let laptop = Recording::connect(&server, "bob", "laptop").await;
    let (ann, own) = (server.token("ann").await, server.token("bob").await);
    let room = json!({"name": "lobby", "members": ["bob"], "room": "a/b c?".replace(' ', "%"), "nonce": "n"});
    let room = room.to_string();
    let made = api("POST", server.url(), "/v1/rooms", &ann, &room).await;
    assert_eq!((made.0, &made.1["info"]["room"]), (201, &json!("a/b%c?")), "{}", made.1);
    assert_eq!(api("POST", server.url(), "/v1/rooms", &ann, &room).await.0, 200);
    let path = "/v1/rooms/a%2Fb%25c%3F";
    let sent =
        api("POST", server.url(), &format!("{path}/events"), &ann, r#" { "body" : {"n":1e2}, "nonce":"1" } "#).await;
    assert_eq!(sent.0, 201, "{}", sent.1);
    bob.until_seq("a/b%c?", sent.1["seq"].as_u64().unwrap()).await;
    step("a body comes back byte for byte");
    let page =
        get(server.url(), &format!("{path}/events"), &[("Authorization", &format!("Bearer {own}"))]).await.unwrap();
    assert!(page.body.contains(r#""nonce":"1","body":{"n":1e2}}"#), "{}", page.body);
    step("a marker that moved over HTTP is told to all devices");
    let (status, marker) = api("PUT", server.url(), &format!("{path}/marker"), &own, r#"{"seq":2}"#).await;
    assert_eq!((status, &marker), (200, &json!({"seq": 2, "count": 1})));
    for device in [&bob, &laptop] {
        let marker = |frame: &ServerFrame| match frame {
            ServerFrame::Marker(marker) => Some(marker.seq),
            _ => None,
        };
        assert_eq!(device.until_frame("the marker", marker).await, 2);
    }
    let (_, list) = api("GET", server.url(), "/v1/rooms?limit=1", &own, "").await;
    assert_eq!((&list["rooms"][0]["room"], &list["rooms"][0]["unread"]), (&json!("a/b%c?"), &json!(0)));
    for user in [bob, laptop] {
        user.finish().await;
    }
}

#[tokio::test]
async fn a_service_acts_as_itself_or_with_the_rights_of_the_user_whom_it_names() {
    let server = Sendpi::start().await;
    let (service, ann) = (server.service_token("billing").await, server.token("ann").await);
    let ask = async |method: &str, path: &str, user: Option<&str>, body: &str| {
        let authorization = format!("Bearer {service}");
        let mut headers = vec![("Authorization", authorization.as_str())];
        headers.extend(user.map(|user| ("Sendpi-User", user)));
        let answer = request(method, server.url(), path, &headers, body).await.unwrap();
        serde_json::from_str::<Value>(&answer.body).unwrap()
    };
    let made = ask("POST", "/v1/rooms", Some("ann"), r#"{"name":"lobby","room":"r","members":["z%C3%BC"]}"#).await;
    assert_eq!(made["info"]["role"], "owner", "{made}");
    ask("POST", "/v1/rooms/r/events", None, r#"{"body":{"text":"an invoice"}}"#).await;
    ask("POST", "/v1/rooms/r/events", Some("ann"), r#"{"body":{"text":"thanks"}}"#).await;
    ask("PUT", "/v1/rooms/r/members/zü".replace('ü', "%C3%BC").as_str(), Some("ann"), "").await;
    ask("POST", "/v1/rooms/r/events", Some("z%C3%BC"), r#"{"body":{}}"#).await;
    let (_, page) = api("GET", server.url(), "/v1/rooms/r/events", &ann, "").await;
    let events = page["events"].as_array().unwrap();
    let seen: Vec<_> =
        events.iter().map(|event| (event["kind"].as_str().unwrap(), event["from"].as_str().unwrap())).collect();
    let wanted = [("joined", "ann"), ("system", "billing"), ("message", "ann"), ("joined", "ann"), ("message", "zü")];
    assert_eq!(seen, wanted);
    assert_eq!(told(&ask("POST", "/v1/rooms/r/events", Some("eve"), r#"{"body":{}}"#).await), "no_such_room ");
    assert_eq!(told(&ask("GET", "/v1/rooms", Some("a b"), "").await), "bad_field Sendpi-User");
    let online = ask("GET", "/v1/users/online?user=ann&user=bob", None, "").await;
    assert_eq!(online, json!({"users": {"ann": false, "bob": false}}));
    step("who is no service names nobody");
    let headers = [("Authorization", &*format!("Bearer {ann}")), ("Sendpi-User", "bob")];
    let refused = get(server.url(), "/v1/rooms", &headers).await.unwrap();
    assert_eq!((refused.status, told(&serde_json::from_str(&refused.body).unwrap())), (403, "forbidden ".to_owned()));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named() {
    let server = Sendpi::start().await;
    let ann = server.token("ann").await;
    api("POST", server.url(), "/v1/rooms", &ann, r#"{"name":"lobby","room":"r"}"#).await;
    let large = format!(r#"{{"body":{{"text":"{}"}}}}"#, "x".repeat(70_000));
    for (method, path, body, status, wanted) in [
        ("POST", "/v1/rooms", "", 400, "bad_field name"),
        ("POST", "/v1/rooms", "[]", 400, "bad_frame "),
        ("POST", "/v1/rooms", r#"{"name":"x"},"room":"y"}"#, 400, "bad_frame "),
        ("POST", "/v1/rooms", r#"{"name":"x","room":"=u:ann"}"#, 400, "bad_field room"),
        ("POST", "/v1/rooms", r#"{"name":"x","room":"r"}"#, 409, "conflict room"),
        ("POST", "/v1/rooms/r/events", r#"{"room":"other"}"#, 400, "bad_field body"),
        ("POST", "/v1/rooms/r/events", r#"{"body":{"a":1,"a":2}}"#, 400, "bad_field body"),
        ("POST", "/v1/rooms/r/events", &large, 413, "too_large body"),
        ("POST", "/v1/rooms/r/events", r#"{"body":{},"nonce":""}"#, 400, "bad_field nonce"),
        ("GET", "/v1/rooms/r/events?limit=0", "", 400, "bad_field limit"),
        ("GET", "/v1/rooms/r/events?limit=1000000", "", 400, "bad_field limit"),
        ("GET", "/v1/rooms/r/events?limit=-1", "", 400, "bad_field limit"),
        ("GET", "/v1/rooms/r/events?before=9007199254740992", "", 400, "bad_field before"),
        ("GET", "/v1/rooms/r/events?before=1&after=1", "", 400, "bad_field before"),
        ("GET", "/v1/rooms?limit=0", "", 400, "bad_field limit"),
        ("GET", "/v1/rooms?limit=1000000", "", 400, "bad_field limit"),
        ("GET", "/v1/rooms?cursor=x", "", 400, "bad_field cursor"),
        ("GET", "/v1/rooms/r%20r/events", "", 400, "bad_field room"),
        ("GET", "/v1/rooms/r%FF/events", "", 400, "bad_field path"),
        ("GET", "/v1/rooms/%2E%2A%3E/events", "", 404, "no_such_room "),
        ("PATCH", "/v1/rooms/r", "{}", 400, "bad_field name"),
        ("PATCH", "/v1/rooms/r/events/x", r#"{"body":{}}"#, 400, "bad_field seq"),
        ("PATCH", "/v1/rooms/r/events/99", r#"{"body":{}}"#, 404, "no_such_event ref"),
        ("PUT", "/v1/rooms/r/events/1/reactions/x%20y", "", 400, "bad_field emoji"),
        ("PUT", "/v1/rooms/r/marker", r#"{"seq":99}"#, 400, "bad_field seq"),
        ("PUT", "/v1/rooms/r/notify", r#"{"notify":"some"}"#, 400, "bad_field notify"),
        ("PUT", "/v1/rooms/r/members/bob", r#"{"role":"king"}"#, 400, "bad_field role"),
        ("PUT", "/v1/rooms/r/members/bob", r#"{"role":"admin","banned":true}"#, 400, "bad_field role"),
        ("PUT", "/v1/devices/phone", r#"{"kind":"F C M","address":"x"}"#, 400, "bad_field kind"),
        ("PUT", "/v1/devices/phone", r#"{"kind":"fcm"}"#, 400, "bad_field address"),
        ("DELETE", "/v1/users/=x/sessions", "", 400, "bad_field user"),
        ("GET", "/v1/nothing", "", 404, "unsupported "),
        ("DELETE", "/v1/rooms", "", 405, "unsupported "),
    ] {
        let answer = api(method, server.url(), path, &ann, body).await;
        assert_eq!(
            (answer.0, told(&answer.1).as_str()),
            (status, wanted),
            "{method} {path} {:.80}: {}",
            body,
            answer.1
        );
    }
    let (status, answer) = api("GET", server.url(), "/v1/rooms", "nonsense", "").await;
    assert_eq!((status, told(&answer)), (401, "unauthorized ".to_owned()));
    assert_eq!(get(server.url(), "/v1/rooms", &[]).await.unwrap().status, 401);
    step("a user has a limited number of devices with an address");
    for n in 0..21 {
        let (status, answer) =
            api("PUT", server.url(), &format!("/v1/devices/d{n}"), &ann, r#"{"kind":"fcm","address":"a"}"#).await;
        assert_eq!(status, if n < 20 { 200 } else { 413 }, "{answer}");
    }
    api("DELETE", server.url(), "/v1/devices/d3", &ann, "").await;
    let (_, devices) = api("GET", server.url(), "/v1/devices", &ann, "").await;
    assert_eq!(devices["devices"].as_array().unwrap().len(), 19);
}

#[tokio::test]
async fn pages_of_the_allowed_origins_may_ask_and_no_others() {
    let args = vec!["--allowed-origin".to_owned(), "https://chat.example.org".to_owned()];
    let server = Sendpi::start_with(SendpiSetup { args, ..SendpiSetup::default() }).await;
    let ann = format!("Bearer {}", server.token("ann").await);
    for (origin, allowed) in [("https://chat.example.org", true), ("https://evil.example.org", false), ("null", false)]
    {
        let asked = [("Origin", origin), ("Access-Control-Request-Method", "PUT")];
        let preflight = request("OPTIONS", server.url(), "/v1/rooms/r/marker", &asked, "").await.unwrap();
        let answer = get(server.url(), "/v1/rooms", &[("Origin", origin), ("Authorization", &ann)]).await.unwrap();
        for head in [preflight.head, answer.head] {
            let head = head.to_lowercase();
            assert_eq!(head.contains(&format!("access-control-allow-origin: {origin}")), allowed, "{head}");
        }
    }
}

#[tokio::test]
async fn the_openapi_document_is_valid_and_has_every_address() {
    let server = Sendpi::start().await;
    let document = get(server.url(), "/v1/openapi.json", &[]).await.unwrap().body;
    let parsed: Value = serde_json::from_str(&document).unwrap();
    assert!(parsed["openapi"].as_str().unwrap().starts_with("3.1"));
    let addresses: Vec<&String> = parsed["paths"].as_object().unwrap().keys().collect();
    let docs = include_str!("../../docs/http.md");
    for address in addresses {
        assert!(docs.contains(&format!("`{address}")), "docs/http.md does not name {address}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openapi.json");
    std::fs::write(&file, document).unwrap();
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/python");
    let mut check = Command::new("python3");
    check.args(["-m", "openapi_spec_validator"]).arg(&file).env("PYTHONPATH", tools).stdin(Stdio::null());
    let check = check.output().await.unwrap();
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success(), "{said}{}; run tests/tools test", String::from_utf8_lossy(&check.stderr));
}
