//! The chat page in a real browser.

use sendpi_client::ServerFrame;
use sendpi_tests::{Browser, BrowserPage, Proxy, Recording, Sendpi, step};

async fn sign_in(browser: &mut Browser, server: &Sendpi, user: &str) -> BrowserPage {
    sign_in_at(browser, server.url(), user).await
}

async fn sign_in_at(browser: &mut Browser, url: &str, user: &str) -> BrowserPage {
    let mut page = browser.open(url).await;
    page.fill("#user", user).await;
    page.click("#sign-in-button").await;
    page.until_shows("#status", &format!("Signed in as {user}")).await;
    page
}

async fn send(page: &mut BrowserPage, text: &str) {
    page.fill("#message", text).await;
    page.click("#send-button").await;
}

/// Kills the mutant `NewcomersOff`.
#[tokio::test]
async fn two_browsers_talk_to_each_other() {
    let server = Sendpi::start().await;
    let mut browser = Browser::start().await;
    let mut ann = sign_in(&mut browser, &server, "ann").await;
    let mut bob = sign_in(&mut browser, &server, "bob").await;

    step("ann creates a room and invites bob");
    ann.fill("#room-name", "lobby").await;
    ann.click("#create-room-button").await;
    ann.until_shows("#room-title", "lobby").await;
    ann.fill("#invite-user", "bob").await;
    ann.click("#invite-button").await;
    ann.until_shows("#messages", "bob joined").await;
    step("ann sends and bob reads");
    send(&mut ann, "hello bob").await;

    bob.until_shows("#rooms", "lobby").await;
    bob.until_shows("#rooms .unread", "1").await;
    bob.click("#rooms button").await;
    bob.until_shows("#messages", "hello bob").await;
    bob.until("!document.querySelector('#rooms .unread')").await;
    step("bob answers");
    send(&mut bob, "hello ann").await;
    ann.until_shows("#messages", "hello ann").await;

    // No message stays pending once it is answered, and all messages are there after a reload.
    ann.until("!document.querySelector('#messages .pending')").await;
    step("ann reloads the page");
    ann.reload().await;
    ann.until_shows("#rooms", "lobby").await;
    ann.click("#rooms button").await;
    ann.until_shows("#messages", "hello bob").await;
    ann.until_shows("#messages", "hello ann").await;
}

/// Kills the mutant `TypingOff`.
#[tokio::test]
async fn a_page_shows_who_is_typing() {
    let server = Sendpi::start().await;
    let mut browser = Browser::start().await;
    let mut ann = sign_in(&mut browser, &server, "ann").await;
    let mut bob = sign_in(&mut browser, &server, "bob").await;
    step("ann creates a room and bob opens it");
    ann.fill("#room-name", "lobby").await;
    ann.click("#create-room-button").await;
    ann.until_shows("#room-title", "lobby").await;
    ann.fill("#invite-user", "bob").await;
    ann.click("#invite-button").await;
    bob.until_shows("#rooms", "lobby").await;
    bob.click("#rooms button").await;
    bob.until_shows("#messages", "bob joined").await;

    step("ann types");
    ann.fill("#message", "I am about to say").await;
    bob.until_shows("#typing", "ann is typing").await;
}

/// Kills the mutant `OneDeviceOnly`.
#[tokio::test]
async fn what_is_sent_on_one_page_of_a_user_shows_on_the_other() {
    let server = Sendpi::start().await;
    let mut browser = Browser::start().await;
    let mut one = sign_in(&mut browser, &server, "ann").await;
    let mut other = sign_in(&mut browser, &server, "ann").await;
    step("ann creates a room on one page and opens it on the other");
    one.fill("#room-name", "notes").await;
    one.click("#create-room-button").await;
    one.until_shows("#room-title", "notes").await;
    other.until_shows("#rooms", "notes").await;
    other.click("#rooms button").await;
    other.until_shows("#room-title", "notes").await;
    step("ann sends on the one page");
    send(&mut one, "from the one").await;
    other.until_shows("#messages", "from the one").await;
    step("ann sends on the other page");
    send(&mut other, "from the other").await;
    one.until_shows("#messages", "from the other").await;
}

/// What the page itself does after a break, whether the server replays or the page reads the history.
#[tokio::test]
async fn a_page_that_lost_its_connection_comes_back_and_misses_nothing() {
    let server = Sendpi::start().await;
    let proxy = Proxy::start(server.url()).await;
    let mut browser = Browser::start().await;
    let bob = Recording::connect(&server, "bob", "phone").await;
    let mut ann = sign_in_at(&mut browser, proxy.url(), "ann").await;
    step("ann creates a room, invites bob and sends");
    ann.fill("#room-name", "lobby").await;
    ann.click("#create-room-button").await;
    ann.until_shows("#room-title", "lobby").await;
    ann.fill("#invite-user", "bob").await;
    ann.click("#invite-button").await;
    let added = |frame: &ServerFrame| match frame {
        ServerFrame::RoomAdded { info } => Some(info.room.to_string()),
        _ => None,
    };
    let room = bob.until_frame("a room", added).await;
    send(&mut ann, "before").await;
    bob.until_text(&room, "before").await;
    ann.until("!document.querySelector('#messages .pending')").await;

    step("ann's connection breaks");
    proxy.cut();
    ann.until_shows("#status", "Not connected").await;
    step("bob sends and ann writes while she is away");
    bob.client().send(&room, "while you were away").await.unwrap();
    send(&mut ann, "from the dark").await;
    ann.until_shows("#messages .pending", "from the dark").await;

    step("ann's page comes back by itself");
    proxy.mend();
    ann.until_shows("#status", "Signed in as ann").await;
    ann.until_shows("#messages", "while you were away").await;
    bob.until_text(&room, "from the dark").await;
    ann.until("!document.querySelector('#messages .pending')").await;
    step("bob sends to the new connection");
    bob.client().send(&room, "after").await.unwrap();
    ann.until_shows("#messages", "after").await;
    let texts = ann.evaluate("[...document.querySelectorAll('#messages .text')].map((text) => text.innerText)").await;
    assert_eq!(texts, serde_json::json!(["before", "while you were away", "from the dark", "after"]));
    bob.finish().await;
}
