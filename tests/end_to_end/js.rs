//! The JavaScript client, in Node and in a browser.

use std::time::Duration;

use sendpi_tests::{Browser, NodeProgram, Proxy, Recording, Sendpi, get, step, until};
use serde_json::json;

/// Returns the texts of the messages of a room.
async fn texts(user: &Recording, room: &str) -> Vec<String> {
    let events = user.whole_history(room).await.unwrap();
    events.iter().filter_map(|event| event.text().map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_program_gets_each_event_once_in_order_whatever_happens_to_the_server() {
    let mut server = Sendpi::start().await;
    let proxy = Proxy::start(server.url()).await;
    let mut ann = Recording::connect(&server, "ann", "phone").await;
    let room = ann.client().create_with(json!({"name": "lobby", "room": "r", "members": ["bob"]})).await.unwrap();
    let room = room.room.to_string();
    let mut bob = NodeProgram::start(&server, proxy.url(), "bob", &room, 3600).await;
    bob.until("open ").await;
    for what in ["cut", "frozen", "killed", "drained"] {
        step(format!("the server is {what}"));
        let before = bob.count("state online");
        ann.client().send(&room, &format!("before it was {what}")).await.unwrap();
        match what {
            "cut" => proxy.cut(),
            "frozen" => server.signal("STOP"),
            "killed" => server.kill9().await,
            _ => drop(server.terminate().await),
        }
        bob.tell(&format!("send while it was {what}")).await;
        match what {
            "cut" => {
                bob.until("state waiting").await;
                ann.client().send(&room, "while bob was away").await.unwrap();
                proxy.mend();
            }
            "frozen" => {
                tokio::time::sleep(Duration::from_secs(3)).await;
                server.signal("CONT");
            }
            _ => {
                server.start_again().await;
                ann.come_back(server.url()).await;
            }
        }
        bob.until(&format!("done send while it was {what}")).await;
        if what != "frozen" {
            until("bob is back", async || bob.count("state online") > before).await;
        }
        ann.client().send(&room, &format!("after it was {what}")).await.unwrap();
        bob.until("event").await;
    }
    let last = ann.client().send(&room, "the last").await.unwrap().seq;
    bob.until(&format!("event {last} ")).await;
    let history: Vec<(u64, String)> = ann
        .whole_history(&room)
        .await
        .unwrap()
        .iter()
        .map(|event| (event.seq.unwrap(), event.text().unwrap_or_default().to_owned()))
        .collect();
    assert_eq!(bob.events(), history);
    for what in ["cut", "frozen", "killed", "drained"] {
        let sent = texts(&ann, &room).await.into_iter().filter(|text| *text == format!("while it was {what}")).count();
        assert_eq!(sent, 1, "{what}");
    }
    ann.finish().await;
}

#[tokio::test]
async fn a_program_renews_its_token_again_and_again_and_typing_ends_by_itself() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let room = ann.client().create_with(json!({"name": "lobby", "room": "r", "members": ["bob"]})).await.unwrap();
    let room = room.room.to_string();
    let mut bob = NodeProgram::start(&server, server.url(), "bob", &room, 3).await;
    bob.until("open ").await;
    step("ann types, and stops");
    ann.client().typing(&room).await.unwrap();
    bob.until("typing ann.").await;
    bob.until("typing .").await;
    // Typing lasts 5 s there, so that the token was renewed meanwhile, more than once.
    ann.client().send(&room, "still there?").await.unwrap();
    bob.tell("send yes").await;
    bob.until("done send yes").await;
    ann.until_text(&room, "yes").await;
    assert_eq!((bob.count("state online"), bob.count("state waiting")), (1, 0));
    bob.tell("close").await;
    bob.until("state ended closed").await;
    ann.finish().await;
}

#[tokio::test]
async fn messages_that_are_not_answered_outlive_a_reload_of_the_page() {
    let server = Sendpi::start().await;
    let proxy = Proxy::start(server.url()).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let room = ann.client().create_with(json!({"name": "lobby", "room": "r", "members": ["bob"]})).await.unwrap();
    let room = room.room.to_string();
    let mut browser = Browser::start().await;
    let mut page = browser.open(&format!("{}/healthz", proxy.url())).await;
    let start = format!(
        r#"(async () => {{
             const {{ connect }} = await import("/v1/sendpi.js");
             const token = async () => (await fetch("/dev/token?user=bob")).text();
             window.sendpi = connect({{ url: "{}", token }});
             window.said = [];
             sendpi.on("event", (event) => said.push(event.body?.text));
             await sendpi.ready;
             window.room = await sendpi.room("r").open();
             return room.unsent.length;
           }})()"#,
        proxy.url()
    );
    assert_eq!(page.evaluate(&start).await, 0);
    page.evaluate(r#"room.send("one")"#).await;
    step("the connection breaks, and the page is reloaded with messages that wait");
    proxy.cut();
    page.evaluate(r#"for (const text of ["two", "three"]) room.send(text); 0"#).await;
    page.evaluate("new Promise((done) => sendpi.state === 'waiting' ? done() : sendpi.on('state', () => done()))")
        .await;
    // So that it is not this page that sends them once there is a connection again.
    page.evaluate("sendpi.close()").await;
    proxy.mend();
    page.reload().await;
    page.evaluate(&start).await;
    ann.until_text(&room, "three").await;
    assert_eq!(texts(&ann, &room).await, ["one", "two", "three"]);
    step("what is too large is refused, and ends nothing");
    for large in ["room.send('x'.repeat(70_000))", "room.edit(1, 'x'.repeat(70_000))"] {
        let code = page.evaluate(&format!("{large}.then(() => 'done', (error) => error.code)")).await;
        assert_eq!(code, "too_large", "{large}");
    }
    assert_eq!(page.evaluate("sendpi.state").await, "online");
    page.evaluate("(async () => { while (room.unsent.length) await new Promise((done) => setTimeout(done, 20)) })()")
        .await;
    ann.finish().await;
}

#[tokio::test]
async fn the_ten_lines_of_the_readme_reach_a_room() {
    let server = Sendpi::start().await;
    let bob = Recording::connect(&server, "bob", "phone").await;
    let (_, code) = include_str!("../../README.md").split_once("```js\n").unwrap();
    let code = code.split("```").next().unwrap();
    assert!(code.lines().filter(|line| !line.trim().is_empty()).count() <= 10, "they are ten");
    let code = json!(code.replace("http://localhost:8080", server.url()));
    let mut browser = Browser::start().await;
    let mut page = browser.open(&format!("{}/healthz", server.url())).await;
    let module = format!("import(URL.createObjectURL(new Blob([{code}], {{ type: 'text/javascript' }})))");
    page.evaluate(&format!("{module}.then(() => 1)")).await;
    let added = |frame: &sendpi_client::ServerFrame| match frame {
        sendpi_client::ServerFrame::RoomAdded { info } => Some(info.room.to_string()),
        _ => None,
    };
    let room = bob.until_frame("the room", added).await;
    bob.until_text(&room, "Hello from ten lines of JavaScript").await;
    bob.finish().await;
    step("where there is no WebSocket it says so at once");
    let without = "import('/v1/sendpi.js').then(({ connect }) => { delete globalThis.WebSocket; connect({}); })";
    let said = page.evaluate(&format!("{without}.catch((error) => error.message)")).await;
    assert!(said.as_str().is_some_and(|said| said.starts_with("there is no WebSocket here")), "{said}");
    step("the types are served beside it");
    let types = get(server.url(), "/v1/sendpi.d.ts", &[]).await.unwrap();
    assert!(types.status == 200 && types.body.contains("export function connect"));
}
