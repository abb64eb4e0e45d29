//! The chat page in a real browser.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sendpi_client::ServerFrame;
use sendpi_tests::{Browser, BrowserPage, IssuerKey, Proxy, Recording, Sendpi, SendpiSetup, TokenIssuer, step, until};
use serde_json::json;

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
    // Twice, as who is impatient does.
    one.evaluate("[1, 2].forEach(() => document.querySelector('#create-room-button').click())").await;
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
    assert_eq!(one.evaluate("document.querySelectorAll('#rooms li').length").await, 1);
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
    assert_eq!(texts, json!(["before", "while you were away", "from the dark", "after"]));
    bob.finish().await;
}

/// Returns what axe finds in a page that is serious or worse.
async fn barriers(page: &mut BrowserPage) -> serde_json::Value {
    let axe = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/python/axe_playwright_python/axe.min.js");
    let axe = std::fs::read_to_string(axe).unwrap_or_else(|error| panic!("{axe}: {error}; run: tests/tools test"));
    page.evaluate(&format!("{axe}; 0")).await;
    let run = "axe.run().then(({ violations }) => violations
        .filter(({ impact }) => ['serious', 'critical'].includes(impact))
        .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`))";
    page.evaluate(run).await
}

/// Checks the page with axe in both colours, on a wide screen and on a phone.
pub(crate) async fn everybody_can_use(page: &mut BrowserPage, view: &str) {
    for (width, dark) in [(1100, false), (1100, true), (360, true), (360, false)] {
        page.show_on(width, dark).await;
        if let Ok(folder) = std::env::var("SENDPI_SCREENSHOTS") {
            let scheme = if dark { "dark" } else { "light" };
            let file = format!("{folder}/{view}-{width}-{scheme}.png");
            std::fs::write(file, BASE64_STANDARD.decode(page.screenshot().await).unwrap()).unwrap();
        }
        assert_eq!(barriers(page).await, json!([]), "{view} at {width} pixels, dark: {dark}");
        let widths =
            page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]").await;
        assert_eq!(widths[0], widths[1], "{view} at {width} pixels is wider than the screen");
    }
    page.show_on(1100, false).await;
}

#[tokio::test]
async fn a_page_shows_edits_deletions_reactions_and_history_and_a_script_stays_text() {
    let server = Sendpi::start().await;
    let bob = Recording::connect(&server, "bob", "phone").await;
    let fields = json!({"name": "lobby", "room": "lobby", "members": ["ann"]});
    bob.client().create_with(fields).await.unwrap();
    for number in 1..=120 {
        bob.client().send("lobby", &format!("line {number}")).await.unwrap();
    }
    let mut browser = Browser::start().await;
    let mut ann = browser.open(server.url()).await;
    step("the first view has no barriers");
    everybody_can_use(&mut ann, "welcome").await;
    ann.fill("#user", "ann").await;
    ann.click("#sign-in-button").await;
    step("the room is listed with its last line and what is unread");
    ann.until_shows("#rooms .last", "bob: line 120").await;
    ann.until_shows("#rooms .unread", "120").await;
    ann.click("#rooms button").await;
    ann.until_shows("#messages", "line 120").await;
    ann.until("!document.querySelector('#rooms .unread')").await;
    step("scrolling up loads what is before, whole and in order, and what was seen stays in place");
    let shown = "document.querySelectorAll('#messages .text').length";
    for more in [80, 120] {
        ann.evaluate("document.getElementById('log').scrollTop = 0").await;
        ann.until(&format!("{shown} >= {more}")).await;
    }
    let texts = ann.evaluate("[...document.querySelectorAll('#messages .text')].map((text) => text.innerText)").await;
    let expected: Vec<String> = (1..=120).map(|number| format!("line {number}")).collect();
    assert_eq!(texts, json!(expected));
    assert_ne!(ann.evaluate("document.getElementById('log').scrollTop").await, 0);

    step("a message that is a script stays text");
    let script = r#"<img src=x onerror="window.bad = 1"><script>window.bad = 1</script>"#;
    bob.client().send("lobby", script).await.unwrap();
    ann.until_shows("#messages", script).await;
    ann.evaluate("document.getElementById('log').scrollTop = 1e9").await;
    assert_eq!(ann.evaluate("window.bad ?? 'still good'").await, "still good");
    assert_eq!(ann.evaluate("document.querySelectorAll('#messages img, #messages script').length").await, 0);

    step("ann edits and deletes, and both react");
    send(&mut ann, "a mistaek").await;
    let last = bob.until_text("lobby", "a mistaek").await.seq.unwrap();
    let item = format!("#messages [data-seq='{last}']");
    ann.until(&format!("document.querySelector(\"{item}\")")).await;
    for action in ["React with 👍", "Edit"] {
        ann.click(&format!("{item} .more")).await;
        let find = format!(
            "[...document.querySelectorAll(\"{item} .actions button\")]
               .find((one) => one.ariaLabel === '{action}' || one.textContent === '{action}')"
        );
        ann.evaluate(&format!("{find}.click()")).await;
    }
    ann.until_shows("#editing", "Editing").await;
    send(&mut ann, "no mistake").await;
    ann.until_shows(&item, "no mistake").await;
    ann.until_shows(&item, "edited").await;
    ann.until_shows(&format!("{item} .reactions"), "👍 1").await;
    bob.client().request(json!({"op": "react", "room": "lobby", "ref": last, "emoji": "👍"})).await.unwrap();
    ann.until_shows(&format!("{item} .reactions"), "👍 2").await;
    let odd = json!({"op": "react", "room": "lobby", "ref": last, "emoji": "constructor"});
    bob.client().request(odd).await.unwrap();
    ann.until_shows(&format!("{item} .reactions"), "constructor 1").await;
    everybody_can_use(&mut ann, "room").await;
    step("a reload shows the same");
    ann.reload().await;
    ann.until_shows("#messages", "no mistake").await;
    ann.until_shows(&format!("{item} .reactions"), "👍 2").await;
    step("ann deletes it");
    ann.click(&format!("{item} .more")).await;
    ann.evaluate(&format!("document.querySelector(\"{item} .actions\").lastChild.click()")).await;
    ann.click("#yes").await;
    ann.until_shows(&item, "Deleted").await;
    ann.until_shows("#rooms .last", "ann: …").await;

    step("who is online, and the end");
    ann.evaluate("document.getElementById('people').open = true").await;
    ann.until_shows("#members", "bob").await;
    ann.until_shows("#people-summary", "People: 2, 2 online").await;
    everybody_can_use(&mut ann, "people").await;
    ann.click("#mute").await;
    ann.until("document.getElementById('mute').ariaPressed === 'true'").await;
    ann.click("#leave").await;
    ann.click("#yes").await;
    ann.until_shows("#no-rooms", "None yet").await;
    bob.finish().await;
}

#[tokio::test]
async fn a_page_asks_for_a_token_where_there_are_none_for_development() {
    let issuer = TokenIssuer::start(&[("e", IssuerKey::P256)]).await;
    let args = ["--jwks", issuer.address()].map(str::to_owned).to_vec();
    let server = Sendpi::start_with(SendpiSetup { args, ..SendpiSetup::default() }).await;
    until("the keys were fetched", async || issuer.fetches() > 0).await;
    let mut browser = Browser::start().await;
    let mut page = browser.open(server.url()).await;
    page.until_shows("#by-token", "Your token").await;
    page.fill("#token", "no token").await;
    page.click("#by-token button").await;
    page.until_shows("#notice", "The session has ended").await;
    page.evaluate("document.getElementById('dismiss').focus()").await;
    page.click("#dismiss").await;
    page.until("getComputedStyle(document.getElementById('notices')).display === 'none'").await;
    page.reload().await;
    page.until_shows("#by-token", "Your token").await;
    page.fill("#token", &IssuerKey::P256.sign(Some("e"), &json!({"sub": "ann", "exp": 4_000_000_000_u64}))).await;
    page.click("#by-token button").await;
    page.until_shows("#status", "Signed in as ann").await;
    page.reload().await;
    page.until_shows("#status", "Signed in as ann").await;
}
