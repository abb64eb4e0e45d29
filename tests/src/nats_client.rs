//! A NATS client as a service may have any: it speaks the text protocol of NATS over TCP, and nothing else.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sendpi_bus::NatsLogin;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::within;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A connection to a NATS server.
#[derive(Debug)]
pub struct NatsClient {
    stream: BufReader<TcpStream>,
    inbox: String,
    asked: u64,
}

impl NatsClient {
    /// Connects to `nats://host:port`.
    ///
    /// # Panics
    /// If there is no server.
    pub async fn connect(url: &str) -> Self {
        Self::enter(url, None, "inbox").await
    }

    /// Connects to a server that lets in only whom it knows, as the user of this login, who gets answers on subjects
    /// that begin with `inbox`.
    ///
    /// # Panics
    /// If the server does not let it in.
    pub async fn connect_as(url: &str, login: &NatsLogin, inbox: &str) -> Self {
        Self::enter(url, Some(login), inbox).await
    }

    async fn enter(url: &str, login: Option<&NatsLogin>, inbox: &str) -> Self {
        let stream = TcpStream::connect(url.trim_start_matches("nats://")).await;
        let stream = stream.unwrap_or_else(|error| panic!("no NATS server at {url}: {error}"));
        let mut client = Self { stream: BufReader::new(stream), inbox: inbox.to_owned(), asked: 0 };
        let mut info = String::new();
        let read = client.stream.read_line(&mut info).await;
        assert!(read.is_ok(), "no NATS server at {url}");
        let info: Value = serde_json::from_str(info.trim_start_matches("INFO ")).unwrap_or_default();
        let nonce = info["nonce"].as_str().unwrap_or_default();
        let mut hello = login.map(|login| login.answer(nonce)).unwrap_or_default();
        for (name, value) in [("verbose", false), ("headers", true), ("no_responders", true)] {
            hello.insert(name.to_owned(), value.into());
        }
        client.write(&format!("CONNECT {}\r\nSUB {inbox}.* 1\r\n", Value::Object(hello))).await;
        assert_eq!(client.said().await, Vec::<String>::new(), "{login:?} is not let in");
        client
    }

    /// Publishes a message, with a reply subject if this is one, and returns whether the server lets it.
    ///
    /// # Panics
    /// If the server breaks off.
    pub async fn may_publish(&mut self, subject: &str, reply: &str, payload: &str) -> bool {
        self.write(&format!("PUB {subject} {reply} {}\r\n{payload}\r\n", payload.len())).await;
        !self.said().await.iter().any(|line| line.contains("Permissions Violation for Publish"))
    }

    /// Subscribes for a moment, and returns whether the server lets it.
    ///
    /// # Panics
    /// If the server breaks off.
    pub async fn may_subscribe(&mut self, subject: &str) -> bool {
        self.asked += 1;
        let sid = 1_000 + self.asked;
        self.write(&format!("SUB {subject} {sid}\r\nUNSUB {sid}\r\n")).await;
        !self.said().await.iter().any(|line| line.contains("Permissions Violation for Subscription"))
    }

    /// Returns the errors that the server tells until it has handled everything so far.
    async fn said(&mut self) -> Vec<String> {
        self.write("PING\r\n").await;
        let mut errors = Vec::new();
        let answered = async {
            loop {
                let mut line = String::new();
                let read = self.stream.read_line(&mut line).await;
                assert!(read.is_ok_and(|bytes| bytes > 0), "NATS closed the connection: {errors:?}");
                let words: Vec<&str> = line.split_whitespace().collect();
                match words.as_slice() {
                    ["PONG"] => return,
                    ["PING"] => self.write("PONG\r\n").await,
                    ["-ERR", ..] => errors.push(line),
                    ["MSG" | "HMSG", .., length] => drop(self.body(length).await),
                    _ => {}
                }
            }
        };
        within(LIMIT, "an answer of NATS", answered).await;
        errors
    }

    async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap_or_else(|error| panic!("NATS broke off: {error}"));
    }

    /// Publishes a message that JetStream keeps, and returns its acknowledgement. `id` is its `Nats-Msg-Id`.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn publish(&mut self, subject: &str, id: Option<&str>, payload: &str) -> Value {
        self.asked += 1;
        let headers = id.map_or_else(String::new, |id| format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n\r\n"));
        let (inbox, all) = (format!("{}.{}", self.inbox, self.asked), headers.len() + payload.len());
        if headers.is_empty() {
            self.write(&format!("PUB {subject} {inbox} {all}\r\n{payload}\r\n")).await;
        } else {
            self.write(&format!("HPUB {subject} {inbox} {} {all}\r\n{headers}{payload}\r\n", headers.len())).await;
        }
        within(LIMIT, "an answer of NATS", self.answer(&inbox)).await
    }

    /// Returns the last message that a stream keeps under a subject, as JSON. `None` if there is none.
    ///
    /// # Panics
    /// If there is no answer, or the message is not JSON.
    pub async fn last_kept(&mut self, stream: &str, subject: &str) -> Option<Value> {
        let ask = serde_json::json!({"last_by_subj": subject}).to_string();
        let answer = self.publish(&format!("$JS.API.STREAM.MSG.GET.{stream}"), None, &ask).await;
        let data = answer["message"]["data"].as_str()?;
        let bytes = STANDARD.decode(data).unwrap_or_else(|error| panic!("{subject} is not base64: {error}"));
        Some(serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{subject} holds no JSON: {error}")))
    }

    /// Reads until the answer on this inbox. Status lines in headers are answers without a body.
    async fn answer(&mut self, inbox: &str) -> Value {
        loop {
            let mut line = String::new();
            let read = self.stream.read_line(&mut line).await;
            assert!(read.is_ok_and(|bytes| bytes > 0), "NATS closed the connection");
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["PING"] => self.write("PONG\r\n").await,
                ["MSG", subject, _, length] => {
                    let (subject, body) = ((*subject).to_owned(), self.body(length).await);
                    if subject == inbox {
                        return serde_json::from_slice(&body).unwrap_or(Value::Null);
                    }
                }
                ["HMSG", _, _, head, length] => {
                    let head: usize = head.parse().unwrap_or_default();
                    let body = self.body(length).await;
                    return serde_json::from_slice(&body[head..]).unwrap_or(Value::Null);
                }
                _ => {}
            }
        }
    }

    async fn body(&mut self, length: &str) -> Vec<u8> {
        let mut body = vec![0; length.parse::<usize>().unwrap_or_default() + 2];
        self.stream.read_exact(&mut body).await.unwrap_or_else(|error| panic!("NATS broke off: {error}"));
        body.truncate(body.len() - 2);
        body
    }
}
