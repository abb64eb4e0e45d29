//! A webhook that takes push notifications, or fails as a test wants.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::within;

/// The secret of the tests, and the bytes in it.
const SECRET: (&str, &[u8]) =
    ("whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMuLi4=", b"secret of the tests, 32 bytes...");

/// A notification that was posted.
#[derive(Debug, Clone, PartialEq)]
pub struct PostedPush {
    /// The name in its header.
    pub id: String,
    /// The body.
    pub body: Value,
    /// The status with which it was answered.
    pub status: u16,
}

/// A webhook on a port of its own.
#[derive(Debug)]
pub struct WebhookServer {
    port: u16,
    answers: Arc<Mutex<String>>,
    posted: watch::Receiver<Vec<PostedPush>>,
    keep: watch::Sender<Vec<PostedPush>>,
    task: Option<JoinHandle<()>>,
}

impl WebhookServer {
    /// Starts a webhook that takes everything.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start() -> Self {
        let (keep, posted) = watch::channel(Vec::new());
        let answers = Arc::new(Mutex::new("200 OK".to_owned()));
        let mut webhook = Self { port: 0, answers, posted, keep, task: None };
        webhook.come_back().await;
        webhook
    }

    /// Returns the arguments of `sendpi dev` that name it.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        let url = format!("http://127.0.0.1:{}/push", self.port);
        ["--webhook", &url, "--webhook-secret", SECRET.0, "--webhook-private"].map(str::to_owned).to_vec()
    }

    /// Answers with this status line from now on, with further headers if there are any.
    pub fn answer(&self, status: &str) {
        status.clone_into(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Goes away: connections are refused.
    pub async fn go_away(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Listens again on the same port.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn come_back(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await;
        let listener = listener.unwrap_or_else(|error| panic!("the webhook cannot listen: {error}"));
        self.port = listener.local_addr().map_or(0, |address| address.port());
        let (answers, keep) = (Arc::clone(&self.answers), self.keep.clone());
        self.task = Some(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answers), keep.clone()));
            }
        }));
    }

    /// Returns what was posted so far, in order.
    #[must_use]
    pub fn posted(&self) -> Vec<PostedPush> {
        self.posted.borrow().clone()
    }

    /// Returns what was taken of a user, in order.
    #[must_use]
    pub fn taken(&self, user: &str) -> Vec<Value> {
        let posted = self.posted().into_iter().filter(|posted| posted.status < 300 && posted.body["user"] == user);
        posted.map(|posted| posted.body).collect()
    }

    /// Waits until a notification was posted that fits.
    ///
    /// # Panics
    /// If it is not in time.
    pub async fn until(&self, what: &str, fits: impl Fn(&PostedPush) -> bool) -> PostedPush {
        let mut posted = self.posted.clone();
        let limit = Duration::from_secs(40);
        let waited = within(limit, what, posted.wait_for(|posted| posted.iter().any(&fits))).await;
        let found = waited.ok().and_then(|posted| posted.iter().find(|posted| fits(posted)).cloned());
        found.unwrap_or_else(|| panic!("the webhook has ended"))
    }
}

impl Drop for WebhookServer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn serve(stream: TcpStream, answers: Arc<Mutex<String>>, keep: watch::Sender<Vec<PostedPush>>) {
    let mut stream = BufReader::new(stream);
    while let Some((headers, body)) = read_request(&mut stream).await {
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        let (id, time) = (header("webhook-id").unwrap_or_default(), header("webhook-timestamp").unwrap_or_default());
        let signed = header("webhook-signature").unwrap_or_default();
        let line: String = {
            let answers: MutexGuard<'_, String> = answers.lock().unwrap_or_else(PoisonError::into_inner);
            if signed == signature(&id, &time, &body) { answers.clone() } else { "401 Unauthorized".to_owned() }
        };
        let status = line.split(' ').next().and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        keep.send_modify(|posted| posted.push(PostedPush { id, body, status }));
        let answer = format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<(Vec<(String, String)>, Vec<u8>)> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_lowercase(), value.to_owned())),
            None if line.trim_end().is_empty() => break,
            None => {}
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, n)| n.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some((headers, body))
}

fn signature(id: &str, time: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.1).unwrap_or_else(|_| unreachable!("any key makes an HMAC"));
    mac.update(format!("{id}.{time}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}
