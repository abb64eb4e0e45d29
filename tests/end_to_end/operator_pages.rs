//! The page of operators, in a real browser and from scripts.

use std::time::Duration;

use sendpi_model::{Partitions, RoomId};
use sendpi_tests::{
    Browser, Keyspace, NatsServer, OperatorPages, Recording, ServedNode, api, get, request, step, until, within,
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::page::everybody_can_use;

const RELAXED: &str = "durability = \"relaxed\"";

async fn fleet(pages: &OperatorPages) -> Value {
    api("GET", &pages.url, "/fleet", &pages.token, "").await.1
}

/// Returns the worker that owns a partition.
async fn owner(pages: &OperatorPages, partition: u16) -> String {
    let fleet = fleet(pages).await;
    let of_it = fleet["partitions"].as_array().unwrap().iter().find(|seen| seen["partition"] == partition).cloned();
    of_it.unwrap()["owner"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_operator_sees_the_fleet_in_a_browser_and_changes_it() {
    let (nats, keyspace) = (NatsServer::start().await, Keyspace::make().await);
    let gateway = ServedNode::start(&nats, &keyspace, RELAXED, &["--role", "gateway"]).await;
    let _first = ServedNode::start(&nats, &keyspace, RELAXED, &["--role", "channel"]).await;
    let mut second = ServedNode::start(&nats, &keyspace, RELAXED, &["--role", "channel"]).await;
    let pages = OperatorPages::start(&nats).await;
    let token = ServedNode::token("ann");
    let ann = Recording::connect_with(gateway.url(), &token, "ann", "phone", Default::default()).await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    ann.client().send(room.as_str(), "hi").await.unwrap();
    let partition = Partitions::DEFAULT.of(&RoomId::parse(room.as_str()).unwrap()).0;

    step("the page shows the fleet, to who has the token");
    let mut browser = Browser::start().await;
    let mut page = browser.open(&pages.url.replace("http://", &format!("http://ops:{}@", pages.token))).await;
    page.until_shows("#summary", "2 workers, 64 of 64 partitions owned").await;
    page.until("document.querySelectorAll('#workers tbody tr').length === 2").await;
    page.until("document.querySelectorAll('#workers path').length === 2").await;
    page.until("document.querySelectorAll('#map button[data-state=serving]').length === 64").await;
    page.until("document.querySelector('#events path').getAttribute('d').includes('L')").await;

    step("the rooms of a partition");
    page.click(&format!("#map button[data-key='{partition}']")).await;
    page.until_shows("#rooms", room.as_str()).await;
    page.until_shows("#rooms", "active").await;
    page.evaluate("document.querySelector('details').open = true").await;
    page.until("document.querySelectorAll('#partitions tbody tr').length === 64").await;
    everybody_can_use(&mut page, "fleet").await;

    step("the partition is moved to the other worker");
    let before = owner(&pages, partition).await;
    page.evaluate(&format!(
        "document.querySelector('#move-to').value = \
         [...document.querySelectorAll('#move-to option')].map(o => o.value).find(v => v && v !== '{before}')"
    ))
    .await;
    page.click("#move-button").await;
    until("it to be owned by the other", async || ![&before, ""].contains(&owner(&pages, partition).await.as_str()))
        .await;
    page.until_shows("#changes", &format!(" {partition}: {before} → ")).await;
    ann.client().send(room.as_str(), "there").await.unwrap();

    step("a worker is drained, and takes part again");
    page.evaluate("window.confirm = () => true").await;
    page.click("#workers tbody tr:first-child button").await;
    page.until_shows("#workers tbody tr:first-child", "drained").await;
    page.until("document.querySelector('#workers tbody tr').cells[2].textContent === '0'").await;
    page.click("#workers tbody tr:first-child button").await;
    page.until("/^[1-9]/.test(document.querySelector('#workers tbody tr').cells[2].textContent)").await;

    step("a worker is killed");
    second.kill9().await;
    page.until_shows("#changes", "(gone)").await;
    page.until_shows("#summary", "1 workers, 64 of 64 partitions owned").await;
    ann.client().send(room.as_str(), "taken over").await.unwrap();
    ann.finish().await;
}

#[tokio::test]
async fn nobody_sees_or_changes_anything_without_the_token_and_bad_requests_are_told_why() {
    let nats = NatsServer::start().await;
    let pages = OperatorPages::start(&nats).await;
    step("no token, or another one");
    let guess = format!("Bearer {}x", pages.token);
    for headers in [vec![], vec![("Authorization", guess.as_str())], vec![("Authorization", "Basic b3BzOm9wcw==")]] {
        for (method, path) in [
            ("GET", "/"),
            ("GET", "/fleet"),
            ("GET", "/fleet.js"),
            ("GET", "/partitions/1/rooms"),
            ("POST", "/drain"),
            ("POST", "/move"),
        ] {
            let answer = request(method, &pages.url, path, &headers, "{}").await.unwrap();
            assert_eq!(answer.status, 401, "{method} {path} {headers:?}: {}", answer.body);
            assert!(answer.head.to_lowercase().contains("www-authenticate: basic"), "{}", answer.head);
        }
    }
    step("there is no fleet");
    until("it to be told", async || fleet(&pages).await["failure"].is_string()).await;
    let (status, answer) = api("POST", &pages.url, "/move", &pages.token, r#"{"partition":1,"worker":"n"}"#).await;
    assert_eq!((status, answer["error"].is_string()), (503, true), "{answer}");

    step("what a page of another origin can send");
    let authorization = format!("Bearer {}", pages.token);
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "text/plain")];
    let answer = request("POST", &pages.url, "/move", &headers, r#"{"partition":1}"#).await.unwrap();
    assert_eq!(answer.status, 415, "{}", answer.body);
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    for (body, status) in [
        (r#"{"partition":1,"worker":"n","force":true}"#.to_owned(), 422),
        (r#"{"partition":70000}"#.to_owned(), 422),
        ("{".to_owned(), 400),
        (json!({"partition": 1, "worker": "n".repeat(5_000)}).to_string(), 413),
    ] {
        let answer = request("POST", &pages.url, "/move", &headers, &body).await.unwrap();
        assert_eq!(answer.status, status, "{body:.80}: {}", answer.body);
    }

    step("many who say nothing");
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(TcpStream::connect(pages.url.trim_start_matches("http://")).await.unwrap());
    }
    let asking = get(&pages.url, "/", &[]);
    assert!(timeout(Duration::from_secs(1), asking).await.is_err(), "more are served than may be");
    // Those before are let go, and the next are served.
    let mut rest = Vec::new();
    within(Duration::from_secs(30), "who says nothing is let go", silent[0].read_to_end(&mut rest)).await.unwrap();
    drop(silent);
    assert_eq!(get(&pages.url, "/", &[]).await.unwrap().status, 401);
}
