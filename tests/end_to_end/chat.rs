//! `sendpi chat` in a pseudo-terminal.

use std::process::Stdio;
use std::time::Duration;

use sendpi_tests::{ChatTerminal, Proxy, Recording, Sendpi, TlsProxy, sendpi_binary, step, within};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

async fn lobby(server: &Sendpi) -> Recording {
    let bob = Recording::connect(server, "bob", "phone").await;
    let fields = json!({"name": "lobby", "room": "lobby", "members": ["ann"]});
    bob.client().create_with(fields).await.unwrap();
    bob.client().send("lobby", "hello ann").await.unwrap();
    bob
}

#[tokio::test]
async fn a_user_at_a_terminal_chats_with_history_rooms_and_completion() {
    let server = Sendpi::start().await;
    let bob = lobby(&server).await;
    let mut ann = ChatTerminal::start(server.url(), "--as ann --room lobby");
    ann.until_shows("bob: hello ann").await;
    ann.until_shows("signed in as ann").await;
    step("both talk, and a text that would control the terminal does not");
    ann.enter("hi bob").await;
    let said = bob.until_text("lobby", "hi bob").await.seq.unwrap();
    ann.until_shows("ann: hi bob").await;
    bob.client().send("lobby", "\u{1b}[2Jgone").await.unwrap();
    ann.until_shows("bob: \u{fffd}[2Jgone").await;

    step("she makes a room, and comes back with the name completed");
    ann.enter("/create second").await;
    ann.until_shows("ann joined").await;
    bob.client().send("lobby", "are you there").await.unwrap();
    ann.until_shows("[lobby] bob: are you there").await;
    ann.enter("/room lo\t").await;
    ann.enter("/members").await;
    ann.until_shows("bob (online)").await;
    step("the arrow brings back what was typed before");
    ann.enter("yes, I am").await;
    bob.until_text("lobby", "yes, I am").await;
    ann.enter("\u{1b}[A").await;
    bob.until_event("lobby", "the line once more", |event| {
        event.text() == Some("yes, I am") && event.seq > Some(said + 3)
    })
    .await;

    step("edits, reactions and mistakes");
    ann.enter(&format!("/edit {said} hi Bob")).await;
    ann.until_shows(&format!("ann changed {said}: hi Bob")).await;
    ann.enter(&format!("/react {said} 👍")).await;
    ann.until_shows(&format!("ann reacted to {said}: 👍")).await;
    ann.enter("/what").await;
    ann.until_shows("there is no command /what").await;
    ann.enter("/invite carl").await;
    ann.until_shows("only an admin may invite").await;
    ann.enter("/quit").await;
    assert!(ann.ended().await);
    bob.finish().await;
}

#[tokio::test]
async fn a_terminal_that_lost_its_connection_comes_back_and_misses_nothing() {
    let server = Sendpi::start().await;
    let bob = lobby(&server).await;
    let proxy = Proxy::start(server.url()).await;
    let mut ann = ChatTerminal::start(proxy.url(), "--as ann --room lobby");
    ann.until_shows("signed in as ann").await;
    step("the connection breaks, and both write");
    proxy.cut();
    ann.until_shows("not connected").await;
    ann.enter("from the dark").await;
    bob.client().send("lobby", "while you were away").await.unwrap();
    step("it comes back by itself");
    proxy.mend();
    bob.until_text("lobby", "from the dark").await;
    ann.until_shows("ann: from the dark").await;
    ann.until_shows("bob: while you were away").await;
    bob.client().send("lobby", "after").await.unwrap();
    ann.until_shows("bob: after").await;
    assert_eq!((ann.count("bob: while you were away"), ann.count("ann: from the dark")), (1, 1));
    ann.enter("/quit").await;
    assert!(ann.ended().await);
    bob.finish().await;
}

#[tokio::test]
async fn it_speaks_tls_and_trusts_only_whom_the_machine_trusts() {
    let server = Sendpi::start().await;
    let bob = lobby(&server).await;
    let proxy = TlsProxy::start(server.url()).await;
    let chat = async |trusts: bool, who: &[&str]| {
        let mut chat = Command::new(sendpi_binary());
        chat.args(["chat", "--room", "lobby", "--url", &proxy.url()]).args(who);
        if trusts {
            chat.env("SSL_CERT_FILE", proxy.certificate());
        }
        let mut chat = chat.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        chat.stdin.take().unwrap().write_all(format!("{who:?}\n").as_bytes()).await.unwrap();
        within(Duration::from_secs(30), "it ends", chat.wait_with_output()).await.unwrap()
    };
    let token = server.token("ann").await;
    for who in [["--as", "ann"], ["--token", &token]] {
        let output = chat(true, &who).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        bob.until_text("lobby", &format!("{who:?}")).await;
        let output = chat(false, &who).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("certificate"), "{said}");
    }
    bob.finish().await;
}

#[tokio::test]
async fn what_comes_from_a_pipe_is_sent_before_the_end() {
    let server = Sendpi::start().await;
    let bob = lobby(&server).await;
    let mut chat = Command::new(sendpi_binary());
    chat.args(["chat", "--as", "ann", "--room", "lobby", "--url", server.url()]);
    let mut chat = chat.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut input = chat.stdin.take().unwrap();
    input.write_all(b"first from a pipe\nsecond from a pipe\n").await.unwrap();
    drop(input);
    assert!(within(Duration::from_secs(20), "it ends", chat.wait()).await.unwrap().success());
    bob.until_text("lobby", "second from a pipe").await;
    bob.finish().await;
    step("where there is no Sendpi it says so");
    let output = Sendpi::run(&["chat", "--as", "ann", "--url", "http://127.0.0.1:9"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("is sendpi dev running there?"), "{said}");
}
