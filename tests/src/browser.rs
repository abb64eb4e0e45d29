//! A headless Chromium, driven over its DevTools protocol.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::process::{Process, in_path};
use crate::within;

const START: Duration = Duration::from_secs(60);
/// How long the browser may take for one command, including a wait inside a page.
const COMMAND: Duration = Duration::from_secs(40);
/// How long something may take to show up in a page, in milliseconds.
const SHOWN_MS: u64 = 20_000;

/// A test's own browser. Dropping it ends the process.
#[derive(Debug)]
pub struct Browser {
    devtools: DevTools,
    /// `ws://127.0.0.1:port`. Each page has its own connection there.
    base: String,
    _process: Process,
    _profile: TempDir,
}

/// One tab of the browser.
#[derive(Debug)]
pub struct BrowserPage {
    devtools: DevTools,
}

impl Browser {
    /// Starts a browser.
    ///
    /// # Panics
    /// If there is no Chromium, in which case the message says how to get one, or if it does not start.
    pub async fn start() -> Self {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let program = names.into_iter().find_map(in_path);
        let program = program.unwrap_or_else(|| panic!("there is no Chromium; run: tests/tools test"));
        let profile = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a profile folder: {error}"));
        let mut command = Command::new(program);
        command.args(["--headless=new", "--remote-debugging-port=0", "--no-first-run", "--no-proxy-server"]);
        command.args(["--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--mute-audio"]);
        // Chromium's sandbox needs rights that root in a container does not have. The pages are all from this machine.
        command.arg("--no-sandbox");
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        let mut process = Process::start("chromium", command);
        let url = process
            .printed(START, "where its DevTools listen", |lines| {
                let (_, url) = lines.iter().find_map(|line| line.split_once("DevTools listening on "))?;
                Some(url.trim().to_owned())
            })
            .await;
        let (base, _) = url.split_once("/devtools").unwrap_or((&url, ""));
        let (base, devtools) = (base.to_owned(), DevTools::connect(&url).await);
        Self { devtools, base, _process: process, _profile: profile }
    }

    /// Opens `url` in a new tab that shares nothing with the others, and waits until the page is loaded.
    ///
    /// # Panics
    /// If the page cannot be opened.
    pub async fn open(&mut self, url: &str) -> BrowserPage {
        let context = self.devtools.command("Target.createBrowserContext", json!({})).await;
        let context = context["browserContextId"].clone();
        let target = json!({"url": "about:blank", "browserContextId": context});
        let target = self.devtools.command("Target.createTarget", target).await;
        let id = target["targetId"].as_str().unwrap_or_default();
        let mut page = BrowserPage { devtools: DevTools::connect(&format!("{}/devtools/page/{id}", self.base)).await };
        page.devtools.command("Page.enable", json!({})).await;
        page.load("Page.navigate", json!({"url": url})).await;
        page
    }
}

impl BrowserPage {
    /// Reloads the page.
    ///
    /// # Panics
    /// If that fails.
    pub async fn reload(&mut self) {
        self.load("Page.reload", json!({})).await;
    }

    async fn load(&mut self, method: &str, params: Value) {
        self.devtools.events.clear();
        let answer = self.devtools.command(method, params).await;
        assert!(answer["errorText"].is_null(), "the page cannot be opened: {answer}");
        self.devtools.event("Page.loadEventFired").await;
    }

    /// Evaluates JavaScript in the page and returns its value. If the value is a promise, waits for it first.
    ///
    /// # Panics
    /// If the script throws.
    pub async fn evaluate(&mut self, script: &str) -> Value {
        let params = json!({"expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true});
        let answer = self.devtools.command("Runtime.evaluate", params).await;
        assert!(answer["exceptionDetails"].is_null(), "{script}\nthrew {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// Waits until a condition holds in the page, and returns its value. The page itself checks the condition at each
    /// change of its document.
    ///
    /// # Panics
    /// If it does not hold in time. The message contains what the page shows.
    pub async fn until(&mut self, condition: &str) -> Value {
        let script = format!(
            "new Promise((resolve, reject) => {{
               const look = () => {{ try {{ return {condition}; }} catch {{ return undefined; }} }};
               const end = (give, value) => {{ observer.disconnect(); clearTimeout(timer); give(value); }};
               const check = () => {{ const value = look(); if (value) end(resolve, value); }};
               const observer = new MutationObserver(check);
               const shown = () => new Error('the condition never held; the page shows: ' + document.body.innerText);
               const timer = setTimeout(() => end(reject, shown()), {SHOWN_MS});
               observer.observe(document, {{subtree: true, childList: true, attributes: true, characterData: true}});
               check();
             }})"
        );
        self.evaluate(&script).await
    }

    /// Waits until an element shows a text.
    ///
    /// # Panics
    /// If it does not show it in time.
    pub async fn until_shows(&mut self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        self.until(&format!("document.querySelector({selector}).innerText.includes({text})")).await;
    }

    /// Puts a text into a field as if it were typed.
    pub async fn fill(&mut self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        let script = format!(
            "(() => {{ const field = document.querySelector({selector}); field.value = {text};
                       field.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
        );
        self.evaluate(&script).await;
    }

    /// Shows the page on a screen of this width, in pixels, in dark colours or in light ones.
    pub async fn show_on(&mut self, width: u32, dark: bool) {
        let screen = json!({"width": width, "height": 780, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools.command("Emulation.setDeviceMetricsOverride", screen).await;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools.command("Emulation.setEmulatedMedia", media).await;
    }

    /// Returns what the page looks like, as a PNG in base64.
    pub async fn screenshot(&mut self) -> String {
        let answer = self.devtools.command("Page.captureScreenshot", json!({"format": "png"})).await;
        answer["data"].as_str().unwrap_or_default().to_owned()
    }

    /// Clicks an element.
    pub async fn click(&mut self, selector: &str) {
        self.evaluate(&format!("document.querySelector({}).click()", json!(selector))).await;
    }
}

/// One connection to the browser. It sends one command at a time, and events arrive between the answers.
#[derive(Debug)]
struct DevTools {
    stream: WebSocketStream<TcpStream>,
    last: u64,
    /// The methods of the events that came since this was last cleared.
    events: Vec<String>,
}

impl DevTools {
    async fn connect(url: &str) -> Self {
        let address = url.trim_start_matches("ws://").split('/').next().unwrap_or_default();
        let connecting = async {
            let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
            let connected = tokio_tungstenite::client_async(url, stream).await;
            connected.map(|(stream, _)| stream).map_err(|error| error.to_string())
        };
        let stream = within(COMMAND, "the browser's DevTools", connecting).await;
        let stream = stream.unwrap_or_else(|error| panic!("cannot connect to the browser at {url}: {error}"));
        Self { stream, last: 0, events: Vec::new() }
    }

    async fn command(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let id = self.last;
        let command = json!({"id": id, "method": method, "params": params}).to_string();
        let sent = self.stream.send(Message::text(command)).await;
        sent.unwrap_or_else(|error| panic!("cannot send to the browser: {error}"));
        let answer = within(COMMAND, method, async {
            loop {
                let mut message = self.next().await;
                if message["id"] == id {
                    return message.as_object_mut().map(std::mem::take).unwrap_or_default();
                }
            }
        })
        .await;
        assert!(!answer.contains_key("error"), "{method}: {answer:?}");
        answer.get("result").cloned().unwrap_or_default()
    }

    async fn event(&mut self, method: &str) {
        within(COMMAND, method, async {
            while !self.events.iter().any(|event| event == method) {
                self.next().await;
            }
        })
        .await;
    }

    async fn next(&mut self) -> Value {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).unwrap_or_default();
                    if let Some(method) = message["method"].as_str() {
                        self.events.push(method.to_owned());
                    }
                    return message;
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => panic!("cannot receive from the browser: {error}"),
                None => panic!("the browser closed its connection"),
            }
        }
    }
}
