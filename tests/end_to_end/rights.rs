//! Who may do what in a room, and what follows from it.

use std::collections::BTreeMap;

use sendpi_client::ServerFrame;
use sendpi_model::{Notify, Role};
use sendpi_tests::{NatsServer, PushRecorder, Recording, Sendpi, SendpiSetup, api, step};
use serde_json::{Value, json};

/// Who asks, in the order in which they do: a stranger, somebody who is banned, a member, an admin, a service and the
/// owner.
const WHO: [&str; 6] = ["zoe", "bea", "mel", "adam", "svc", "ann"];

/// The codes of the answers to one request, in the order of [`WHO`].
type AnswersOfOne = (Value, [&'static str; 6]);

/// What each of them is told. What is allowed changes nothing that a later row needs.
fn table() -> Vec<AnswersOfOne> {
    let of = |member, admin, service, owner| ["no_such_room", "no_such_room", member, admin, service, owner];
    let all = of("ok", "ok", "ok", "ok");
    let members = of("ok", "ok", "not_a_member", "ok");
    let admins = of("forbidden", "ok", "ok", "ok");
    let owners = of("forbidden", "forbidden", "forbidden", "ok");
    let nobody = of("forbidden", "forbidden", "forbidden", "forbidden");
    vec![
        (json!({"op": "send", "body": {}}), all),
        (json!({"op": "send", "body": {}, "mentions": ["*"]}), admins),
        (json!({"op": "react", "ref": 2, "emoji": "👍"}), all),
        (json!({"op": "edit", "ref": 2, "body": {"text": "edited"}}), owners),
        (json!({"op": "edit", "ref": 3, "body": {}}), of("ok", "forbidden", "forbidden", "forbidden")),
        (json!({"op": "delete", "ref": 3}), all),
        (json!({"op": "delete", "ref": 2}), admins),
        (json!({"op": "edit", "ref": 2, "body": {}}), of("forbidden", "forbidden", "forbidden", "no_such_event")),
        (
            json!({"op": "react", "ref": 999_999, "emoji": "x"}),
            ["no_such_room", "no_such_room", "no_such_event", "no_such_event", "no_such_event", "no_such_event"],
        ),
        (json!({"op": "read", "seq": 1}), members),
        (json!({"op": "notify", "notify": "none"}), members),
        (json!({"op": "history"}), all),
        (json!({"op": "members"}), all),
        (json!({"op": "join"}), of("ok", "ok", "forbidden", "ok")),
        (json!({"op": "invite", "users": ["vic"]}), admins),
        (json!({"op": "invite", "users": ["bea"]}), nobody),
        (json!({"op": "kick", "user": "nobody"}), admins),
        (json!({"op": "kick", "user": "ann"}), nobody),
        (json!({"op": "kick", "user": "another-admin"}), owners),
        (json!({"op": "ban", "user": "eve"}), admins),
        (json!({"op": "unban", "user": "eve"}), admins),
        (json!({"op": "ban", "user": "ann"}), nobody),
        (json!({"op": "ban", "user": "a-third-admin"}), owners),
        (json!({"op": "change", "name": "other"}), admins),
        (json!({"op": "role", "user": "vic", "role": "admin"}), owners),
        (json!({"op": "role", "user": "ann", "role": "member"}), of("forbidden", "forbidden", "forbidden", "conflict")),
    ]
}

/// What ends something for the one who is allowed to, so that everybody asks it of a room of one's own.
fn endings() -> Vec<AnswersOfOne> {
    let of = |member, admin, service, owner| ["no_such_room", "no_such_room", member, admin, service, owner];
    vec![
        (json!({"op": "leave"}), of("ok", "ok", "not_a_member", "ok")),
        (json!({"op": "delete_room"}), of("forbidden", "forbidden", "forbidden", "ok")),
    ]
}

/// How somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    WebSocket,
    Http,
}

/// Everybody of the table, signed in.
struct Cast {
    server: Sendpi,
    users: Vec<Recording>,
    tokens: Vec<String>,
}

impl Cast {
    async fn new() -> Self {
        let server = Sendpi::start().await;
        let (mut users, mut tokens) = (Vec::new(), Vec::new());
        for user in WHO {
            let token = if user == "svc" { server.service_token(user).await } else { server.token(user).await };
            users.push(Recording::connect_with(server.url(), &token, user, "phone", Default::default()).await);
            tokens.push(token);
        }
        Self { server, users, tokens }
    }

    fn ann(&self) -> &sendpi_client::Client {
        self.users[5].client()
    }

    /// Makes a room with a message of the owner and one of the member.
    async fn room(&self) -> String {
        let ann = self.ann();
        let room = ann.create("lobby", &["mel", "adam", "another-admin", "a-third-admin"]).await.unwrap();
        let room = room.room.to_string();
        assert_eq!(ann.send(&room, "hello").await.unwrap().seq, 2);
        assert_eq!(self.users[2].client().send(&room, "hello, too").await.unwrap().seq, 3);
        for admin in ["adam", "another-admin", "a-third-admin"] {
            ann.change_role(&room, admin, Role::Admin).await.unwrap();
        }
        ann.request(json!({"op": "ban", "room": room, "user": "bea"})).await.unwrap();
        room
    }

    /// Asks something, and returns the code of the answer, or `ok`, and the whole answer if it is a refusal.
    async fn ask(&self, who: usize, way: Way, room: &str, request: &Value) -> (String, String) {
        let mut request = request.clone();
        request["room"] = room.into();
        if way == Way::WebSocket {
            return match self.users[who].client().request(request).await {
                Ok(_) => ("ok".to_owned(), String::new()),
                Err(error) => (code(&error), error.to_string()),
            };
        }
        let (method, path, body) = over_http(WHO[who], &request);
        let (status, answer) = api(method, self.server.url(), &path, &self.tokens[who], &body).await;
        let told = answer["code"].as_str().unwrap_or("ok").to_owned();
        assert_eq!(status, status_of(&told, &request), "{request}: {answer}");
        (told, answer["message"].as_str().unwrap_or_default().to_owned())
    }

    async fn finish(self) {
        for user in self.users {
            user.finish().await;
        }
    }
}

/// Returns the method, the path and the body that ask the same over HTTP.
fn over_http(user: &str, request: &Value) -> (&'static str, String, String) {
    let text = |name: &str| request[name].as_str().unwrap_or_default();
    let room = format!("/v1/rooms/{}", text("room").replace('=', "%3D"));
    let event = format!("{room}/events/{}", request["ref"]);
    let of = |names: &[&str]| {
        let fields = names.iter().filter(|name| !request[**name].is_null());
        let fields: serde_json::Map<_, _> = fields.map(|name| ((*name).to_owned(), request[*name].clone())).collect();
        Value::Object(fields).to_string()
    };
    let member = |user: &str| format!("{room}/members/{user}");
    match text("op") {
        "send" => ("POST", format!("{room}/events"), of(&["body", "mentions"])),
        "react" => ("PUT", format!("{event}/reactions/%F0%9F%91%8D"), String::new()),
        "edit" => ("PATCH", event, of(&["body"])),
        "delete" => ("DELETE", event, String::new()),
        "read" => ("PUT", format!("{room}/marker"), of(&["seq"])),
        "notify" => ("PUT", format!("{room}/notify"), of(&["notify", "muted_until"])),
        "history" => ("GET", format!("{room}/events"), String::new()),
        "members" => ("GET", format!("{room}/members"), String::new()),
        "join" => ("PUT", member(user), String::new()),
        "leave" => ("DELETE", member(user), String::new()),
        "invite" => ("PUT", member(request["users"][0].as_str().unwrap()), String::new()),
        "kick" => ("DELETE", member(text("user")), String::new()),
        "ban" => ("PUT", member(text("user")), json!({"banned": true}).to_string()),
        "unban" => ("PUT", member(text("user")), json!({"banned": false}).to_string()),
        "role" => ("PUT", member(text("user")), of(&["role"])),
        "change" => ("PATCH", room, of(&["name", "access"])),
        "delete_room" => ("DELETE", room, String::new()),
        op => panic!("{op} has no address"),
    }
}

fn status_of(code: &str, request: &Value) -> u16 {
    match code {
        "ok" if request["op"] == "send" => 201,
        "ok" => 200,
        "forbidden" | "not_a_member" => 403,
        "no_such_room" | "no_such_event" => 404,
        "conflict" => 409,
        code => panic!("{code} is not expected"),
    }
}

fn code(error: &sendpi_client::ClientError) -> String {
    serde_json::to_value(error.code().unwrap()).unwrap().as_str().unwrap().to_owned()
}

#[tokio::test]
async fn everybody_may_do_what_the_table_says() {
    let cast = Cast::new().await;
    for way in [Way::WebSocket, Way::Http] {
        let room = cast.room().await;
        for (request, wanted) in table() {
            let mut told = Vec::new();
            for who in 0..WHO.len() {
                // Over HTTP, to delete one's own membership is to leave.
                let is_leave = way == Way::Http && request["op"] == "kick" && request["user"] == WHO[who];
                let answer =
                    if is_leave { wanted[who].to_owned() } else { cast.ask(who, way, &room, &request).await.0 };
                told.push(answer);
            }
            assert_eq!(told, wanted, "{way:?} {request}");
        }
        for (request, wanted) in endings() {
            let mut told = Vec::new();
            for who in 0..WHO.len() {
                told.push(cast.ask(who, way, &cast.room().await, &request).await.0);
            }
            assert_eq!(told, wanted, "{way:?} {request}");
        }
        step("a room that does not exist gives strangers and the banned the same answers, word for word");
        for ((request, _), who) in table().into_iter().chain(endings()).flat_map(|row| [(row.clone(), 0), (row, 1)]) {
            let answers =
                [cast.ask(who, way, &room, &request).await, cast.ask(who, way, "there-is-none", &request).await];
            assert_eq!(answers[0], answers[1], "{way:?} {request}");
        }
        step("in an open room a stranger may join and nothing else, and who is banned may not even that");
        cast.ann().change(&room, json!({"access": "open"})).await.unwrap();
        for (request, _) in table().into_iter().chain(endings()) {
            let is_join = request["op"] == "join";
            if !is_join {
                assert_eq!(cast.ask(0, way, &room, &request).await.0, "not_a_member", "{way:?} {request}");
            }
            // Over HTTP, to make oneself a member is to join.
            let is_own = way == Way::Http && request["users"][0] == WHO[1];
            let wanted = if is_join || is_own { "forbidden" } else { "not_a_member" };
            assert_eq!(cast.ask(1, way, &room, &request).await.0, wanted, "{way:?} {request}");
        }
        assert_eq!(cast.ask(0, way, &room, &json!({"op": "join"})).await.0, "ok");
    }
    cast.finish().await;
}

#[tokio::test]
async fn a_deleted_room_is_gone_for_all_of_its_members_also_after_a_kill() {
    let mut server = Sendpi::start().await;
    let (ann, bob) =
        (Recording::connect(&server, "ann", "phone").await, Recording::connect(&server, "bob", "phone").await);
    let room =
        ann.client().create_with(json!({"name": "lobby", "room": "r", "members": ["bob", "eve"]})).await.unwrap();
    let room = room.room.to_string();
    ann.client().send(&room, "hello").await.unwrap();
    ann.client().request(json!({"op": "delete_room", "room": room})).await.unwrap();
    for user in [&ann, &bob] {
        let reason = |frame: &ServerFrame| match frame {
            ServerFrame::RoomRemoved(removed) => Some(removed.reason.clone()),
            _ => None,
        };
        assert_eq!(user.until_frame("the end of the room", reason).await, "deleted");
        let refused = user.client().send(&room, "hello?").await.unwrap_err();
        assert_eq!(refused.code(), Some(sendpi_model::Code::NoSuchRoom));
    }
    server.kill9().await;
    server.start_again().await;
    drop((ann, bob));
    for user in ["ann", "bob", "eve"] {
        let user = Recording::connect(&server, user, "phone").await;
        assert!(user.welcome().rooms.is_empty(), "{:?}", user.welcome().rooms);
        let again = user.client().create_with(json!({"name": "lobby", "room": "r"})).await.unwrap_err();
        assert_eq!(again.code(), Some(sendpi_model::Code::Conflict));
        user.finish().await;
    }
}

#[tokio::test]
async fn who_is_kicked_is_told_on_all_devices_and_gets_nothing_more() {
    let server = Sendpi::start_with(SendpiSetup { nodes: 2, ..SendpiSetup::default() }).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let token = server.token("bob").await;
    let mut bobs = Vec::new();
    for (node, device) in [(0, "phone"), (1, "laptop")] {
        bobs.push(Recording::connect_with(server.node(node), &token, "bob", device, Default::default()).await);
    }
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room.to_string();
    let seq = ann.client().send(&room, "hello").await.unwrap().seq;
    for bob in &bobs {
        bob.until_seq(&room, seq).await;
    }
    step("bob is kicked while ann sends");
    let sends = async {
        for n in 0..100 {
            ann.client().send(&room, &format!("message {n}")).await.unwrap();
        }
    };
    let kick = async { ann.client().kick(&room, "bob").await.unwrap() };
    tokio::join!(sends, kick);
    let events = ann.whole_history(&room).await.unwrap();
    let left = events.iter().find(|event| event.kind == "left").and_then(|event| event.seq).unwrap();
    for bob in &bobs {
        let reason = |frame: &ServerFrame| match frame {
            ServerFrame::RoomRemoved(removed) if removed.room.as_str() == room => Some(removed.reason.clone()),
            _ => None,
        };
        assert_eq!(bob.until_frame("the end of the room", reason).await, "kicked");
        bob.client().ping().await.unwrap();
        assert_eq!(bob.room(&room).last(), Some(left), "the last event that it gets is the kick");
        assert_eq!(
            bob.client().send(&room, "still here").await.unwrap_err().code(),
            Some(sendpi_model::Code::NoSuchRoom)
        );
    }
    step("bob is invited again and sees all of it");
    ann.client().invite(&room, &["bob"]).await.unwrap();
    let seq = ann.client().send(&room, "welcome back").await.unwrap().seq;
    bobs[0].until_seq(&room, seq).await;
    assert_eq!(bobs[0].whole_history(&room).await.unwrap().len() as u64, seq);
    ann.finish().await;
    // Bob's timelines end with the kick and begin anew, which is no violation.
    for bob in bobs {
        bob.finish().await;
    }
}

#[tokio::test]
async fn changes_of_a_room_are_there_after_a_kill() {
    let mut server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let room = ann.client().create("lobby", &["bob", "eve"]).await.unwrap().room.to_string();
    ann.client().change(&room, json!({"name": "the hall", "access": "open"})).await.unwrap();
    ann.client().change_role(&room, "bob", Role::Owner).await.unwrap();
    ann.client().kick(&room, "eve").await.unwrap();
    ann.client().choose_notify(&room, Notify::None).await.unwrap();
    step("sendpi is killed and starts again");
    server.kill9().await;
    server.start_again().await;
    drop(ann);
    let bob = Recording::connect(&server, "bob", "phone").await;
    let eve = Recording::connect(&server, "eve", "phone").await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let roles: BTreeMap<String, Role> = [&ann, &bob]
        .map(|user| {
            let info = user.welcome().rooms.iter().find(|info| info.room.as_str() == room).unwrap();
            assert_eq!((info.name.as_str(), info.members), ("the hall", 2));
            (user.user().to_owned(), info.role)
        })
        .into();
    assert_eq!(roles, [("ann".to_owned(), Role::Owner), ("bob".to_owned(), Role::Owner)].into());
    assert!(eve.welcome().rooms.is_empty());
    eve.client().join(&room).await.unwrap();
    for user in [ann, bob, eve] {
        user.finish().await;
    }
}

#[tokio::test]
async fn who_wants_no_pushes_gets_none_and_who_wants_mentions_gets_those() {
    let nats = NatsServer::start().await;
    let server = Sendpi::start_with(SendpiSetup { nats: Some(nats.url()), ..SendpiSetup::default() }).await;
    let pushes = &mut PushRecorder::start(&nats).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let room = ann.client().create("lobby", &["bob", "cleo", "dan"]).await.unwrap().room.to_string();
    step("bob wants none, cleo wants mentions, and all three go offline");
    for (user, choice) in [
        ("bob", json!({"notify": "none"})),
        ("cleo", json!({"notify": "mentions"})),
        ("dan", json!({"muted_until": 4_000_000_000_000_u64})),
    ] {
        let client = Recording::connect(&server, user, "phone").await;
        let mut request = choice;
        request["op"] = "notify".into();
        request["room"] = room.as_str().into();
        client.client().request(request).await.unwrap();
        client.finish().await;
    }
    let all_offline = async || {
        let members = ann.client().members(&room, None, 10).await.unwrap().members;
        members.iter().filter(|member| member.online).count() == 1
    };
    sendpi_tests::until("all but ann to be offline", all_offline).await;
    let plain = ann.client().send(&room, "hello").await.unwrap().seq;
    let mention = json!({"op": "send", "room": room, "body": {}, "mentions": ["bob", "cleo", "dan"]});
    let mentioned = ann.client().request(mention).await.unwrap()["seq"].as_u64().unwrap();
    pushes.until(&room, mentioned, "cleo").await;
    step("dan ends the mute");
    let dan = Recording::connect(&server, "dan", "phone").await;
    dan.client().request(json!({"op": "notify", "room": room, "muted_until": null})).await.unwrap();
    dan.finish().await;
    sendpi_tests::until("all but ann to be offline", all_offline).await;
    let last = ann.client().send(&room, "and hello again").await.unwrap().seq;
    pushes.until(&room, last, "dan").await;
    let seen = pushes.seen();
    let of = |user: &str| seen.iter().filter(|(_, _, to)| to == user).map(|(_, seq, _)| *seq).collect::<Vec<u64>>();
    assert_eq!((of("bob"), of("cleo"), of("dan")), (vec![], vec![mentioned], vec![last]), "plain: {plain}");
    ann.finish().await;
}
