//! Push notifications, from a message to the webhook.

use std::time::Duration;

use sendpi_tests::{NatsClient, NatsServer, Recording, Sendpi, SendpiSetup, WebhookServer, api, step, until};
use serde_json::{Value, json};
use tokio::time::Instant;

async fn start(webhook: &WebhookServer) -> (NatsServer, Sendpi) {
    let nats = NatsServer::start().await;
    let setup = SendpiSetup { nats: Some(nats.url()), args: webhook.args(), push: true, ..SendpiSetup::default() };
    let server = Sendpi::start_with(setup).await;
    (nats, server)
}

/// Returns what `sendpi why` says.
async fn why(server: &Sendpi, room: &str, seq: u64, user: &str) -> String {
    let data = server.data().to_string_lossy().into_owned();
    let output =
        Sendpi::run(&["why", "--room", room, "--seq", &seq.to_string(), "--user", user, "--data", &data]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn until_why(server: &Sendpi, room: &str, seq: u64, user: &str, words: &str) {
    let mut said = String::new();
    until(&format!("why to say {words:?} of {seq} for {user}"), async || {
        said = why(server, room, seq, user).await;
        said.contains(words)
    })
    .await;
}

fn is_for(user: &str, seq: u64) -> impl Fn(&sendpi_tests::PostedPush) -> bool + '_ {
    move |posted| posted.status < 300 && posted.body["user"] == user && posted.body["last"].as_u64() >= Some(seq)
}

#[tokio::test]
async fn a_message_is_pushed_with_the_users_devices_and_further_ones_come_as_one() {
    let webhook = WebhookServer::start().await;
    let (_nats, server) = start(&webhook).await;
    let bob = server.token("bob").await;
    api("PUT", server.url(), "/v1/devices/phone", &bob, r#"{"kind":"fcm","address":"token-1"}"#).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let room =
        ann.client().create_with(json!({"name": "lobby", "room": "r", "members": ["bob", "eve"]})).await.unwrap();
    let room = room.room.to_string();
    let first = ann.client().send(&room, "hello").await.unwrap().seq;
    let posted = webhook.until("the push for bob", is_for("bob", first)).await;
    let wanted = json!({
        "type": "push", "user": "bob", "devices": [{"device": "phone", "kind": "fcm", "address": "token-1"}],
        "room": {"room": "r", "name": "lobby", "kind": "group"}, "first": 2, "last": 2, "count": 1,
        "message": {"seq": 2, "kind": "message", "from": "ann", "at": posted.body["message"]["at"], "text": "hello"},
    });
    assert_eq!(posted.body, wanted);
    let of_eve = webhook.until("the push for eve, who has no device", is_for("eve", first)).await;
    assert_eq!(of_eve.body["devices"], json!([]));
    step("what follows within ten seconds comes as one");
    let pushed = Instant::now();
    let mut last = first;
    for n in 0..30 {
        last = ann.client().send(&room, &format!("message {n}")).await.unwrap().seq;
    }
    let posted = webhook.until("the second push for bob", is_for("bob", last)).await.body;
    assert_eq!(
        (&posted["first"], &posted["count"], &posted["message"]["text"]),
        (&json!(3), &json!(30), &json!("message 29"))
    );
    assert!(pushed.elapsed() > Duration::from_secs(9), "{:?}", pushed.elapsed());
    assert_eq!(webhook.taken("bob").len(), 2);
    until_why(&server, &room, 10, "bob", "it was pushed, together with events 3 to 32").await;
    assert!(why(&server, &room, 10, "ann").await.starts_with("ann sent it\n1 open sessions of ann on node"));
    ann.finish().await;
}

#[tokio::test]
async fn what_was_read_deleted_or_muted_meanwhile_is_not_pushed() {
    let mut webhook = WebhookServer::start().await;
    webhook.go_away().await;
    let (_nats, server) = start(&webhook).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let users = ["rita", "dan", "mia", "kim", "meg"];
    for user in users {
        ann.client().create_with(json!({"name": "n", "room": user, "members": [user, "meg"]})).await.unwrap();
    }
    ann.client().request(json!({"op": "notify", "room": "meg", "notify": "none"})).await.unwrap();
    let mut seqs = Vec::new();
    for user in users {
        seqs.push(ann.client().send(user, &format!("to {user}")).await.unwrap().seq);
    }
    step("the webhook is away while they read, mute and are kicked");
    until_why(&server, "rita", seqs[0], "rita", "its push waits").await;
    let as_user = async |user: &str, method: &str, path: &str, body: &str| {
        api(method, server.url(), path, &server.token(user).await, body).await
    };
    as_user("rita", "PUT", "/v1/rooms/rita/marker", &json!({"seq": seqs[0]}).to_string()).await;
    until_why(&server, "rita", seqs[0], "rita", "rita has read up to event").await;
    as_user("mia", "PUT", "/v1/rooms/mia/notify", r#"{"notify":"none"}"#).await;
    ann.client().request(json!({"op": "delete", "room": "dan", "ref": seqs[1]})).await.unwrap();
    ann.client().kick("kim", "kim").await.unwrap();
    webhook.come_back().await;
    webhook.until("the push for meg", is_for("meg", seqs[4])).await;
    for (user, seq, words) in [
        ("rita", seqs[0], "it was read before its push was posted"),
        ("dan", seqs[1], "it was deleted before its push was posted"),
        ("mia", seqs[2], "the room was muted when its push was to be posted"),
        ("kim", seqs[3], "the user had left when its push was to be posted"),
    ] {
        until_why(&server, user, seq, user, words).await;
        assert_eq!(webhook.taken(user), Vec::<Value>::new(), "{user}");
    }
    assert!(why(&server, "mia", seqs[2], "mia").await.contains("mia wants no pushes of the room"));
    ann.finish().await;
}

#[tokio::test]
async fn a_webhook_that_is_down_and_restarts_lose_no_push() {
    let mut webhook = WebhookServer::start().await;
    let (mut nats, mut server) = start(&webhook).await;
    let mut ann = Recording::connect(&server, "ann", "phone").await;
    let members: Vec<String> = (0..20).map(|n| format!("u{n}")).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    let room = ann.client().create("lobby", &members).await.unwrap().room.to_string();
    webhook.answer("503 Service Unavailable\r\nRetry-After: 1");
    let first = ann.client().send(&room, "one").await.unwrap().seq;
    webhook.until("a push that is refused", |posted| posted.status == 503).await;
    step("sendpi is killed, then NATS is, and the webhook goes away");
    server.kill9().await;
    webhook.go_away().await;
    server.start_again().await;
    nats.kill9().await;
    nats.start_again().await;
    ann.come_back(server.url()).await;
    let last = ann.client().send(&room, "two").await.unwrap().seq;
    webhook.answer("200 OK");
    webhook.come_back().await;
    for user in &members {
        for seq in first..=last {
            let has = |push: &Value| push["first"].as_u64() <= Some(seq) && push["last"].as_u64() >= Some(seq);
            let what = format!("the push of {seq} for {user}");
            webhook
                .until(&what, |posted| posted.status < 300 && posted.body["user"] == *user && has(&posted.body))
                .await;
        }
    }
    ann.finish().await;
}

#[tokio::test]
async fn a_push_that_the_webhook_never_takes_becomes_a_dead_letter() {
    let webhook = WebhookServer::start().await;
    let (nats, server) = start(&webhook).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let room = ann.client().create_with(json!({"name": "lobby", "room": "r", "members": ["bob"]})).await.unwrap();
    webhook.answer("400 Bad Request");
    let seq = ann.client().send(room.room.as_str(), "hello").await.unwrap().seq;
    step("a message that comes before the last try has tries of its own");
    until("four refusals", async || webhook.posted().len() >= 4).await;
    let ids: Vec<String> = webhook.posted().into_iter().take(4).map(|posted| posted.id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "each try has the same name: {ids:?}");
    let later = ann.client().send(room.room.as_str(), "again").await.unwrap().seq;
    until_why(&server, "r", seq, "bob", "its push is a dead letter: the webhook refused it too often").await;
    let mut reader = NatsClient::connect(&nats.url()).await;
    let letter = reader.last_kept("sendpi_dead", "sendpi.dead.push.r.bob").await.unwrap();
    assert_eq!((&letter["user"], &letter["last"]), (&json!("bob"), &json!(seq)));
    webhook.answer("200 OK");
    let posted = webhook.until("the push of the later message", is_for("bob", later)).await.body;
    assert_eq!((&posted["first"], &posted["count"]), (&json!(later), &json!(1)));
    ann.finish().await;
}

#[tokio::test]
async fn what_the_webhook_does_not_take_for_twenty_hours_becomes_a_dead_letter_and_what_is_younger_waits() {
    let webhook = WebhookServer::start().await;
    let nats = NatsServer::start().await;
    let setup = SendpiSetup { own_clock: true, push: true, args: webhook.args(), ..SendpiSetup::default() };
    let server = Sendpi::start_with(SendpiSetup { nats: Some(nats.url()), ..setup }).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let room =
        ann.client().create_with(json!({"name": "lobby", "room": "r", "members": ["bob", "eve"]})).await.unwrap();
    webhook.answer("503 Service Unavailable");
    let seq = ann.client().send(room.room.as_str(), "hello").await.unwrap().seq;
    ann.finish().await;
    webhook.until("a post that is not taken", |posted| posted.status == 503).await;
    server.set_clock(19 * 3600);
    let posts = webhook.posted().len();
    until("it is tried on", async || webhook.posted().len() > posts + 1).await;
    until_why(&server, "r", seq, "eve", "its push waits").await;
    server.set_clock(21 * 3600);
    for user in ["bob", "eve"] {
        let words = "its push is a dead letter: the webhook did not take it for too long";
        until_why(&server, "r", seq, user, words).await;
    }
}

#[tokio::test]
async fn a_job_that_comes_again_while_it_waits_counts_once() {
    let webhook = WebhookServer::start().await;
    let (nats, server) = start(&webhook).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let room = ann.client().create_with(json!({"name": "lobby", "room": "r", "members": ["bob"]})).await.unwrap();
    webhook.answer("503 Service Unavailable");
    ann.client().send(room.room.as_str(), "one").await.unwrap();
    webhook.until("a post that is not taken", |posted| posted.status == 503).await;
    step("NATS delivers the job again, as if nothing had been heard of it for long");
    let mut nats = NatsClient::connect(&nats.url()).await;
    nats.publish("$JS.ACK.sendpi_push.push-workers.1.1.1.0.0", None, "-NAK").await;
    let mut consumer = async |field: &str| {
        nats.publish("$JS.API.CONSUMER.INFO.sendpi_push.push-workers", None, "").await[field].as_u64()
    };
    until("the job is delivered again", async || consumer("num_redelivered").await == Some(1)).await;
    let mut last = 0;
    for n in 0..250 {
        last = ann.client().send(room.room.as_str(), &format!("message {n}")).await.unwrap().seq;
    }
    webhook.until("a post of all that is not taken", |posted| posted.body["last"] == last).await;
    webhook.answer("200 OK");
    let posted = webhook.until("the push", is_for("bob", last)).await.body;
    assert_eq!((&posted["first"], &posted["count"]), (&json!(2), &json!(251)));
    until("all jobs are done", async || consumer("num_ack_pending").await == Some(0)).await;
    assert_eq!(webhook.taken("bob").len(), 1);
    ann.finish().await;
}

#[tokio::test]
async fn operators_can_test_the_webhook_and_are_told_what_is_wrong_with_it() {
    let webhook = WebhookServer::start().await;
    let (_nats, server) = start(&webhook).await;
    let data = server.data().to_string_lossy().into_owned();
    let test = async || Sendpi::run(&["push", "test", "--user", "bob", "--data", &data]).await;
    let output = test().await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "the webhook answered 200; bob has 0 devices with an address\n");
    assert_eq!(webhook.posted()[0].body["type"], "push.test");
    webhook.answer("403 Forbidden");
    let output = test().await;
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("the webhook answered 403"));
    webhook.answer("302 Found\r\nLocation: http://169.254.169.254/");
    assert!(String::from_utf8_lossy(&test().await.stderr).contains("the answer is a redirect, which is not followed"));
    step("a private address is refused unless it is allowed");
    let args = webhook.args().into_iter().filter(|arg| arg != "--webhook-private").collect();
    let other = Sendpi::start_with(SendpiSetup { args, push: true, ..SendpiSetup::default() }).await;
    let data = other.data().to_string_lossy().into_owned();
    let output = Sendpi::run(&["push", "test", "--user", "bob", "--data", &data]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("127.0.0.1 is or leads to an address that is not public"), "{said}");
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_string_lossy().into_owned();
    let args = ["dev", "--port", "0", "--data", &data, "--webhook", "http://x/", "--webhook-secret", "x"];
    let output = Sendpi::run(&args).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("the webhook secret must be whsec_"));
}
