//! The examples of the docs, as they stand there.

use std::process::Stdio;
use std::time::Duration;

use sendpi_model::Rates;
use sendpi_tests::{NatsClient, NatsServer, Recording, Sendpi, SendpiSetup, api, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;

/// Returns the first block of a language in a document.
fn example(document: &str, language: &str) -> String {
    let (_, rest) = document.split_once(&format!("```{language}\n")).expect("the document has such a block");
    rest.split("```").next().unwrap().to_owned()
}

/// Runs a shell script, and returns what it prints.
async fn run(script: &str) -> String {
    let shell = Command::new("bash").args(["-euo", "pipefail", "-c", script]).stdin(Stdio::null()).output();
    let output = within(Duration::from_secs(30), "the example ends", shell).await.unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_requests_of_the_page_on_http_work_as_they_are() {
    let server = Sendpi::start().await;
    let script = example(include_str!("../../docs/http.md"), "sh");
    let printed = run(&script.replace("http://localhost:8080", server.url())).await;
    assert!(printed.contains(r#""name":"lobby""#) && printed.contains(r#""body":{"text":"hi"}"#), "{printed}");
}

#[tokio::test]
async fn the_events_of_the_page_on_events_arrive() {
    let nats = NatsServer::start().await;
    let server = Sendpi::start_with(SendpiSetup { nats: Some(nats.url()), ..SendpiSetup::default() }).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    ann.client().create_with(serde_json::json!({"name": "lobby", "room": "lobby"})).await.unwrap();
    let mut service = NatsClient::connect(&nats.url()).await;
    // The example is for the `nats` tool, which takes subject, payload and headers in this order.
    for line in example(include_str!("../../docs/events.md"), "sh").lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let [_, _, subject, rest] = words.as_slice() else { panic!("{line} is no nats pub") };
        let (payload, options) = rest.rsplit_once('\'').unwrap();
        let id = options.split_once("-H Nats-Msg-Id:").map(|(_, id)| id.trim());
        service.publish(subject, id, payload.trim_start_matches('\'')).await;
    }
    ann.until_text("lobby", "The invoice is paid.").await;
    ann.until_text("=u:ann", "Welcome!").await;
    ann.finish().await;
}

#[tokio::test]
async fn the_webhook_of_the_page_on_push_forwards_a_notification() {
    let vendor = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let secret = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMuLi4=";
    let code = example(include_str!("../../docs/push.md"), "python");
    assert!(code.lines().filter(|line| !line.trim().is_empty()).count() <= 35, "it is short");
    let mut webhook = Command::new("python3");
    webhook.args(["-c", &code]).env("SENDPI_WEBHOOK_SECRET", secret).env("PORT", free.to_string());
    webhook.env("FCM_SEND_URL", format!("http://{}/send", vendor.local_addr().unwrap())).env("FCM_TOKEN", "t");
    let _webhook = webhook.stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let url = format!("http://127.0.0.1:{free}/");
    let args = ["--webhook", &url, "--webhook-secret", secret, "--webhook-private"].map(str::to_owned).to_vec();
    let server = Sendpi::start_with(SendpiSetup { args, push: true, ..SendpiSetup::default() }).await;
    let bob = server.token("bob").await;
    api("PUT", server.url(), "/v1/devices/phone", &bob, r#"{"kind":"fcm","address":"bobs-phone"}"#).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let room = ann.client().create("The lobby", &["bob"]).await.unwrap().room.to_string();
    ann.client().send(&room, "see you there").await.unwrap();
    let forwarded = async {
        let (mut stream, _) = vendor.accept().await.unwrap();
        let mut request = String::new();
        while !request.contains("bobs-phone") {
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).await.unwrap();
            request += &String::from_utf8_lossy(&bytes[..read]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        request
    };
    let request = within(Duration::from_secs(30), "the vendor gets the notification", forwarded).await;
    for part in ["Authorization: Bearer t", r#""title": "The lobby""#, r#""body": "see you there""#] {
        assert!(request.contains(part), "{request}");
    }
    ann.finish().await;
}

/// Returns the rows of the tables of a document, each as its cells.
fn rows(document: &str) -> Vec<Vec<&str>> {
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim_matches([' ', '`'])).collect()).collect()
}

#[tokio::test]
async fn the_page_on_configuration_has_each_option_and_rate_with_its_default() {
    let document = include_str!("../../docs/configuration.md");
    let (options, rates) = document.split_once("## Rates").unwrap();
    let sections: Vec<&str> = options.split("## `sendpi").skip(1).collect();
    let [dev, serve, chat] = sections.as_slice() else { panic!("there are other sections: {sections:?}") };
    compare(dev, "", "dev").await;
    compare(serve, dev, "serve").await;
    compare(chat, "", "chat").await;
    let mut defaults = Rates::off();
    for row in rows(rates) {
        defaults.set(&format!("{}={}", row[0], row[1])).unwrap();
    }
    assert_eq!(defaults, Rates::default());
}

/// Compares the options of a command with the table of a document. Those that it has in common with another command are
/// in the table of that one.
async fn compare(document: &str, common: &str, command: &str) {
    let help = String::from_utf8(Sendpi::run(&[command, "--help"]).await.stdout).unwrap();
    let mut told: Vec<Vec<String>> = Vec::new();
    for line in help.lines().map(str::trim) {
        let bracket = |name: &str| line.strip_prefix(name).map(|rest| rest.trim_end_matches(']').to_owned());
        if let Some(option) = line.split_whitespace().next().filter(|word| word.starts_with("--")) {
            told.push(vec![option.to_owned(), String::new(), String::new()]);
        } else if let (Some(option), Some(variable)) = (told.last_mut(), bracket("[env: ")) {
            option[1] = variable.split('=').next().unwrap_or_default().to_owned();
        } else if let (Some(option), Some(default)) = (told.last_mut(), bracket("[default: ")) {
            option[2] = default;
        }
    }
    let (written, common) = (rows(document), rows(common));
    for option in told.iter().filter(|option| command == "dev" || option[0] != "--log-format") {
        let row = written.iter().chain(&common).find(|row| row[0] == option[0]);
        let row = row.unwrap_or_else(|| panic!("{} is missing", option[0]));
        assert_eq!(row[1], option[1], "the variable of {}", option[0]);
        let default = if matches!(row[2], "off" | "below") { "" } else { row[2] };
        assert_eq!(default, option[2], "the default of {}", option[0]);
    }
    let names: Vec<&str> = told.iter().map(|option| option[0].as_str()).collect();
    assert!(written.iter().all(|row| names.contains(&row[0])), "{command} has no such option: {written:?}");
}
