//! Direct rooms: one for two users, whoever makes it, and for good.

use sendpi_client::{Range, ServerFrame};
use sendpi_model::{Code, Content, Event, Mark, Millis, Notify, RoomId, RoomInfo, RoomKind, UserId};
use sendpi_store::{EventRow, MemberRow, RoomOfUser, Row, Stamp};
use sendpi_tests::{Recording, Sendpi, step};
use serde_json::json;

async fn create(client: &Recording, other: &str) -> RoomInfo {
    client.client().create_with(json!({"kind": "direct", "members": [other]})).await.unwrap()
}

async fn added(client: &Recording, room: &RoomId) {
    let is_it = |frame: &ServerFrame| matches!(frame, ServerFrame::RoomAdded { info } if info.room == *room);
    client.until_frame("room_added", |frame| is_it(frame).then_some(())).await;
}

#[tokio::test]
async fn both_sides_find_one_direct_room_and_it_cannot_be_left() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let eve = Recording::connect(&server, "eve", "desk").await;
    step("ann and bob make it at the same time");
    let (anns, bobs) = tokio::join!(create(&ann, "bob"), create(&bob, "ann"));
    assert_eq!((&anns.room, anns.kind, anns.members), (&bobs.room, RoomKind::Direct, 2));
    let room = anns.room.as_str();
    let again = json!({"op": "create", "kind": "direct", "members": ["ann"]});
    let again = bob.client().request(again).await.unwrap();
    assert_eq!((&again["repeat"], &again["info"]["room"]), (&true.into(), &room.into()));
    added(&ann, &anns.room).await;
    added(&bob, &anns.room).await;

    step("neither leaves or invites, and eve does not get in");
    let code = |refused: Result<(), sendpi_client::ClientError>| refused.unwrap_err().code();
    for side in [&ann, &bob] {
        assert_eq!(code(side.client().leave(room).await), Some(Code::Forbidden));
        assert_eq!(code(side.client().invite(room, &["eve"]).await), Some(Code::Forbidden));
    }
    assert_eq!(code(eve.client().join(room).await), Some(Code::NoSuchRoom));
    step("ann and bob talk");
    ann.client().send(room, "hi bob").await.unwrap();
    bob.until_text(room, "hi bob").await;
    let page = ann.client().members(room, None, 10).await.unwrap();
    assert_eq!((page.members.len(), page.seq), (2, anns.seq + 1));
    for client in [ann, bob, eve] {
        client.finish().await;
    }
}

/// Writes what an earlier release left in the store when members of a direct room had left it.
async fn let_leave(server: &Sendpi, room: &RoomId, who: &[&str]) {
    let store = server.store().await;
    let mut row = store.room(room).await.unwrap().unwrap();
    let epoch = store.starts(room, None, 1).await.unwrap()[0].epoch;
    let users: Vec<UserId> = who.iter().map(|user| UserId::parse(user).unwrap()).collect();
    let content = Content::Left { users: &users, by: None, reason: None };
    let event = Event::next(room, row.head, Millis::now(), &users[0], None, &content);
    let (stamp, at) = (Stamp::of(event.head.seq), event.head.at);
    let left = row.members - users.len() as u32;
    (row.head, row.stamp, row.members, row.deleted) = (event.head, stamp, left, left == 0);
    let mut rows = vec![Row::Room(row), Row::Event(room.clone(), EventRow { epoch, event, expires: None })];
    for user in users {
        let (room, role, joined) = (room.clone(), None, Mark::default());
        rows.push(Row::RoomOfUser(RoomOfUser {
            user: user.clone(),
            room: room.clone(),
            stamp,
            role,
            joined,
            active_at: at,
        }));
        let (notify, muted_until) = (Notify::All, None);
        rows.push(Row::Member(MemberRow {
            room,
            user,
            stamp,
            role,
            joined,
            joined_at: at,
            notify,
            muted_until,
            banned: false,
        }));
    }
    store.write(rows).await.unwrap();
}

#[tokio::test]
async fn a_direct_room_that_its_members_had_left_in_an_earlier_release_is_used_again() {
    let mut server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let room = create(&ann, "bob").await.room;
    ann.client().send(room.as_str(), "long ago").await.unwrap();
    ann.finish().await;
    step("Sendpi stops, and both leave");
    server.terminate().await;
    let_leave(&server, &room, &["ann", "bob"]).await;
    server.start_again().await;

    step("bob makes it again");
    let ann = Recording::connect(&server, "ann", "phone").await;
    let bob = Recording::connect(&server, "bob", "laptop").await;
    assert_eq!((ann.welcome().rooms.len(), bob.welcome().rooms.len()), (0, 0));
    let again = create(&bob, "ann").await;
    assert_eq!((&again.room, again.members), (&room, 2));
    added(&ann, &room).await;
    added(&bob, &room).await;
    step("they talk, and find what they wrote");
    ann.client().send(room.as_str(), "hi again").await.unwrap();
    bob.until_text(room.as_str(), "hi again").await;
    let history = bob.history(room.as_str(), Range::Newest, 10).await.unwrap();
    let texts: Vec<_> = history.events.iter().filter_map(|event| event.text()).collect();
    assert_eq!(texts, ["long ago", "hi again"]);
    ann.finish().await;
    bob.finish().await;

    step("Sendpi stops, and ann leaves");
    server.terminate().await;
    let_leave(&server, &room, &["ann"]).await;
    server.start_again().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let bob = Recording::connect(&server, "bob", "laptop").await;
    assert_eq!(bob.welcome().rooms.iter().map(|info| (&info.room, info.members)).collect::<Vec<_>>(), [(&room, 1)]);
    step("ann makes it again, and bob sees her come");
    assert_eq!(create(&ann, "bob").await.members, 2);
    added(&ann, &room).await;
    bob.until_event(room.as_str(), "ann's return", |event| event.seq == Some(7) && event.kind == "joined").await;
    ann.finish().await;
    bob.finish().await;

    step("it is there after a restart, and its members are read without a channel");
    server.terminate().await;
    server.start_again().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    assert_eq!(ann.welcome().rooms.iter().map(|info| (&info.room, info.members)).collect::<Vec<_>>(), [(&room, 2)]);
    let page = ann.client().members(room.as_str(), None, 10).await.unwrap();
    assert_eq!((page.members.len(), page.seq), (2, 7));
    ann.finish().await;
}
