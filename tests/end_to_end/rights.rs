//! Who may do what in a room, and what follows from it.

use std::collections::BTreeMap;

use sendpi_client::ServerFrame;
use sendpi_model::{Notify, Role};
use sendpi_tests::{NatsServer, PushRecorder, Recording, Sendpi, SendpiSetup, step};
use serde_json::{Value, json};

/// The codes of the answers to one request, for a stranger, a member, an admin and an owner.
type AnswersOfOne = (Value, [&'static str; 4]);

/// What each user is told. What is allowed changes nothing that a later row needs.
fn table() -> Vec<AnswersOfOne> {
    let all = ["no_such_room", "ok", "ok", "ok"];
    let admins = ["no_such_room", "forbidden", "ok", "ok"];
    let owners = ["no_such_room", "forbidden", "forbidden", "ok"];
    vec![
        (json!({"op": "send", "body": {}}), all),
        (json!({"op": "send", "body": {}, "mentions": ["*"]}), admins),
        (json!({"op": "read", "seq": 1}), all),
        (json!({"op": "history"}), all),
        (json!({"op": "members"}), all),
        (json!({"op": "notify", "notify": "none"}), all),
        (json!({"op": "join"}), all),
        (json!({"op": "invite", "users": ["vic"]}), admins),
        (json!({"op": "kick", "user": "nobody"}), admins),
        (json!({"op": "kick", "user": "ann"}), ["no_such_room", "forbidden", "forbidden", "forbidden"]),
        (json!({"op": "kick", "user": "another-admin"}), owners),
        (json!({"op": "change", "name": "other"}), admins),
        (json!({"op": "role", "user": "vic", "role": "admin"}), owners),
        (
            json!({"op": "role", "user": "ann", "role": "member"}),
            ["no_such_room", "forbidden", "forbidden", "conflict"],
        ),
    ]
}

fn code(answer: Result<Value, sendpi_client::ClientError>) -> String {
    match answer {
        Ok(_) => "ok".to_owned(),
        Err(error) => serde_json::to_value(error.code().unwrap()).unwrap().as_str().unwrap().to_owned(),
    }
}

#[tokio::test]
async fn everybody_may_do_what_the_table_says() {
    let server = Sendpi::start().await;
    let mut users = Vec::new();
    for user in ["zoe", "mel", "adam", "ann"] {
        users.push(Recording::connect(&server, user, "phone").await);
    }
    let ann = users[3].client();
    let room = ann.create("lobby", &["mel", "adam", "another-admin"]).await.unwrap().room.to_string();
    for admin in ["adam", "another-admin"] {
        ann.change_role(&room, admin, Role::Admin).await.unwrap();
    }
    for (request, wanted) in table() {
        let mut told = Vec::new();
        for user in &users {
            let mut request = request.clone();
            request["room"] = room.as_str().into();
            told.push(code(user.client().request(request).await));
        }
        assert_eq!(told, wanted, "{request}");
    }
    step("a room that does not exist gives a stranger the same answers, word for word");
    for (request, _) in table() {
        let mut answers = Vec::new();
        for room in [room.as_str(), "there-is-none"] {
            let mut request = request.clone();
            request["room"] = room.into();
            let refused = users[0].client().request(request).await.unwrap_err();
            answers.push(refused.to_string());
        }
        assert_eq!(answers[0], answers[1], "{request}");
    }
    step("in an open room a stranger may join, and nothing else");
    ann.change(&room, json!({"access": "open"})).await.unwrap();
    for (request, _) in table().into_iter().filter(|(request, _)| request["op"] != "join") {
        let mut request = request;
        request["room"] = room.as_str().into();
        assert_eq!(code(users[0].client().request(request.clone()).await), "not_a_member", "{request}");
    }
    users[0].client().join(&room).await.unwrap();
    for user in users {
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
