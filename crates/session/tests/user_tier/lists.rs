//! Tests of signing in, of lists of rooms and of resumes, while some rooms do not answer.

use sendpi_model::Millis;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::*;
use crate::owner::Disturbance;

fn names(list: &Value) -> Vec<&str> {
    list["rooms"].as_array().unwrap().iter().map(|room| room["room"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_does_not_answer_delays_no_sign_in_and_is_attached_later() {
    let world = World::new().await;
    for room in ["r", "silent", "unreadable"] {
        world.store.active("ann", room);
        world.store.member("ann", room, 3, Millis(3));
        world.owner.happen(room, 4);
    }
    world.owner.disturb("silent", Some(Disturbance::Silent));
    world.owner.disturb("unreadable", Some(Disturbance::Unavailable));
    let began = Instant::now();
    let (ann, welcome) = SocketlessClient::sign_in(&world.handle, "ann").await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(names(&welcome), ["r", "silent", "unreadable"]);
    let listed: Vec<(u64, &str)> = welcome["rooms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|room| (room["seq"].as_u64().unwrap(), room["name"].as_str().unwrap()))
        .collect();
    assert_eq!(listed, [(4, "n"), (3, "from its row"), (3, "from its row")]);
    let silent = &welcome["rooms"][1];
    assert_eq!((&silent["notify"], &silent["muted_until"]), (&"none".into(), &7.into()), "what she chose");
    // What the rows did not have yet comes as soon as the owner answers.
    world.owner.disturb("unreadable", None);
    let event = ann.next_of("event").await;
    assert_eq!((&event["room"], &event["seq"]), (&"unreadable".into(), &4.into()));
    world.owner.disturb("silent", None);
    let event = ann.next_of("event").await;
    assert_eq!((&event["room"], &event["seq"]), (&"silent".into(), &4.into()));
    assert_eq!(world.owner.audience("silent"), ["ann"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_room_falls_between_the_recent_and_the_other_rooms_of_a_list() {
    let world = World::new().await;
    // The recent rooms had an order row just now, and their last messages were long ago.
    for room in ["a", "b", "c"] {
        world.store.active("ann", room);
        world.store.member("ann", room, 0, Millis(0));
    }
    world.store.member("ann", "x", 0, Millis(500));
    let ann = SocketlessClient::connect(&world.handle, "ann");
    ann.hello(r#"{"op":"hello","device":"d","rooms":2}"#).await.unwrap();
    let mut page = ann.next_of("welcome").await;
    let mut listed: Vec<String> = names(&page).into_iter().map(str::to_owned).collect();
    while let Some(cursor) = page["next"].as_str() {
        ann.say(&serde_json::json!({"op": "rooms", "id": 1, "limit": 2, "cursor": cursor}).to_string());
        page = ann.next_of("rooms").await;
        listed.extend(names(&page).into_iter().map(str::to_owned));
    }
    listed.sort();
    assert_eq!(listed, ["a", "b", "c", "x"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_does_not_answer_holds_up_no_resume_and_what_a_client_has_does_not_come_again() {
    let world = World::new().await;
    for room in ["r", "silent"] {
        world.store.active("ann", room);
        world.store.member("ann", room, 1, Millis(1));
        world.owner.happen(room, 6);
    }
    world.owner.disturb("silent", Some(Disturbance::Silent));
    let began = Instant::now();
    let ann = SocketlessClient::connect(&world.handle, "ann");
    ann.hello(r#"{"op":"hello","device":"d","resume":{"r":4,"silent":5}}"#).await.unwrap();
    assert_eq!(ann.next().await["op"], "welcome");
    assert_eq!(ann.seqs(2).await, [5, 6]);
    let resumed = ann.next_of("resumed").await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let rooms = serde_json::json!({"r": {"seq": 6}, "silent": {"seq": 5, "truncated": true}});
    assert_eq!(resumed["rooms"], rooms);
    // The row of the room says that she has only seen the first event.
    world.owner.disturb("silent", None);
    let event = ann.next_of("event").await;
    assert_eq!((&event["room"], &event["seq"]), (&"silent".into(), &6.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_resume_waits_for_the_first() {
    let world = World::new().await;
    for room in ["r", "s"] {
        world.store.active("ann", room);
        world.owner.happen(room, 5);
    }
    let (ann, _) = SocketlessClient::sign_in(&world.handle, "ann").await;
    ann.say(r#"{"op":"resume","id":1,"rooms":{"r":2}}"#);
    ann.say(r#"{"op":"resume","id":2,"rooms":{"s":3}}"#);
    let mut came = Vec::new();
    let frames = async {
        while came.last() != Some(&"resumed 2".to_owned()) {
            let frame = ann.next().await;
            came.push(match frame["op"].as_str().unwrap() {
                "event" => format!("{} {}", frame["room"].as_str().unwrap(), frame["seq"]),
                op => format!("{op} {}", frame["id"]),
            });
        }
    };
    timeout(Duration::from_secs(10), frames).await.unwrap();
    assert_eq!(came, ["r 3", "r 4", "r 5", "resumed 1", "s 4", "s 5", "resumed 2"]);
}

/// Signs a user with 30 rooms in and lists them in pages of four, while two rooms move up between any two pages.
async fn pages_while_rooms_move(world: &World, seed: u64) {
    let user = format!("ann{seed}");
    let mut state = seed;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let rooms: Vec<String> = (0..30).map(|n| format!("{user}-{n}")).collect();
    let recent: Vec<bool> = rooms.iter().map(|_| random(3) == 0).collect();
    for (room, recent) in rooms.iter().zip(&recent) {
        world.store.member(&user, room, 0, Millis(random(10)));
        if *recent {
            world.store.active(&user, room);
        }
    }
    let client = SocketlessClient::connect(&world.handle, &user);
    client.hello(r#"{"op":"hello","device":"d","rooms":4}"#).await.unwrap();
    let mut page = client.next_of("welcome").await;
    let mut listed: Vec<String> = names(&page).into_iter().map(str::to_owned).collect();
    let mut moved = Vec::new();
    while let Some(cursor) = page["next"].as_str() {
        for _ in 0..2 {
            let n = random(30) as usize;
            if recent[n] {
                world.owner.happen(&rooms[n], 1);
            } else {
                world.store.touch(&user, &rooms[n], Millis::now());
            }
            moved.push(&rooms[n]);
        }
        client.say(&serde_json::json!({"op": "rooms", "id": 1, "limit": 4, "cursor": cursor}).to_string());
        page = client.next_of("rooms").await;
        listed.extend(names(&page).into_iter().map(str::to_owned));
    }
    for room in &rooms {
        let times = listed.iter().filter(|listed| *listed == room).count();
        assert!(times == 1 || (times == 0 && moved.contains(&room)), "{room} is listed {times} times, seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_hold_each_room_once_and_miss_only_what_moved_up() {
    let world = World::new().await;
    for seed in 0..20 {
        pages_while_rooms_move(&world, seed).await;
    }
}
