use std::collections::BTreeMap;

use super::*;
use crate::{Access, Head, Mark, Millis, Notify, Role, RoomId, RoomInfo, RoomKind, UserId};

fn room(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

fn info() -> RoomInfo {
    RoomInfo {
        room: room("r"),
        name: "lobby".to_owned(),
        kind: RoomKind::Group,
        access: Access::Open,
        role: Role::Admin,
        seq: 7,
        count: 5,
        marker: Mark { seq: 2, count: 1 },
        unread: 4,
        notify: Notify::All,
        muted_until: None,
        last_at: Millis(9),
        last: None,
        members: 3,
        retention_days: None,
    }
}

/// Checks that the encoded frame is read back unchanged.
fn comes_back<T>(frame: &T)
where
    T: OpFrame + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let bytes = frame.to_frame();
    assert!(bytes.starts_with(format!(r#"{{"op":"{}""#, T::OP).as_bytes()), "{}", String::from_utf8_lossy(&bytes));
    assert_eq!(&read_answer::<T>(&bytes).unwrap(), frame);
}

#[test]
fn every_frame_is_read_as_it_was_written() {
    let head = Head { seq: 4, count: 3, at: Millis(1) };
    for ok in [
        OkAnswer::default(),
        OkAnswer::repeated(),
        OkAnswer::event(head, false),
        OkAnswer::event(head, true),
        OkAnswer::room(info(), true, false),
        OkAnswer::renewed(Millis(17)),
    ] {
        comes_back(&ok);
    }
    let resumed = [
        ("a", ResumedRoom { seq: Some(3), ..ResumedRoom::default() }),
        ("b", ResumedRoom { seq: Some(9), truncated: true, gone: false }),
        ("c", ResumedRoom { gone: true, ..ResumedRoom::default() }),
    ];
    comes_back(&Resumed { rooms: resumed.map(|(id, state)| (room(id), state)).into() });
    comes_back(&HeadsAnswer { rooms: BTreeMap::from([(room("a"), 3)]) });
    comes_back(&RoomsPage { rooms: vec![info()], next: Some("7.r".to_owned()) });
    let ann = UserId::parse("ann").unwrap();
    let member = MemberEntry { user: ann.clone(), role: Role::Owner, online: true };
    comes_back(&MembersPage { room: room("r"), seq: 7, members: vec![member], next: None });
    comes_back(&Welcome {
        user: ann,
        session: "n-1-0".to_owned(),
        now: Millis(1),
        expires_at: Millis(2),
        heartbeat_ms: 25_000,
        rooms: vec![info()],
        next: None,
        limits: WelcomeLimits::default(),
        caps: Vec::new(),
    });
    comes_back(&RoomRemoved { room: room("r"), reason: "left".to_owned() });
    comes_back(&MarkerFrame { room: room("r"), seq: 2, count: 1 });
    comes_back(&Bye::drain(300));
    comes_back(&Ping {});
    comes_back(&Pong {});
}

#[test]
fn a_page_keeps_the_bytes_of_its_events() {
    let frames: [&[u8]; 2] = [br#"{"op":"event", "seq":3}"#, br#"{"op":"event","seq":4}"#];
    let bytes = EventPage::join(&room("r\"1"), &frames, true);
    let page: EventPage<'_> = read_answer(&bytes).unwrap();
    assert_eq!((page.room, page.more), (room("r\"1"), true));
    assert_eq!(page.events.iter().map(|event| event.get().as_bytes()).collect::<Vec<_>>(), frames);
    let again = EventPage { room: room("r\"1"), events: page.events, more: true };
    assert_eq!(again.to_frame(), bytes);
}

#[test]
fn a_refusal_comes_in_place_of_any_answer() {
    let refusal = Refusal { retry_in_ms: Some(5), ..Refusal::field("seq", "must be 1") };
    let bytes = refusal.to_frame();
    assert!(matches!(read_answer::<OkAnswer>(&bytes), Err(AnswerError::Refused(read)) if read == refusal));
    assert!(matches!(read_answer::<EventPage<'_>>(&bytes), Err(AnswerError::Refused(read)) if read == refusal));
}

#[test]
fn another_op_and_what_is_not_a_frame_are_told_from_refusals() {
    for text in [r#"{"op":"page"}"#, r#"{"seq":4,"op":"ok"}"#, "{}", "[]", "", r#"{"op":"ok"} x"#] {
        assert!(matches!(read_answer::<OkAnswer>(text.as_bytes()), Err(AnswerError::Malformed(_))), "{text}");
    }
}

#[test]
fn a_client_reads_every_frame_that_comes_unasked() {
    let read = |bytes: &[u8]| serde_json::from_slice::<ServerFrame>(bytes).unwrap();
    let raw = serde_json::value::to_raw_value(&info()).unwrap();
    let added = RoomAdded { info: Some(&raw) }.to_frame();
    assert!(matches!(read(&added), ServerFrame::RoomAdded { info: read } if read == info()));
    let removed = RoomRemoved { room: room("r"), reason: "kicked".to_owned() };
    assert!(matches!(read(&removed.to_frame()), ServerFrame::RoomRemoved(read) if read == removed));
    let marker = MarkerFrame { room: room("r"), seq: 2, count: 1 };
    assert!(matches!(read(&marker.to_frame()), ServerFrame::Marker(read) if read == marker));
    assert!(matches!(read(&Bye::drain(1).to_frame()), ServerFrame::Bye(bye) if bye == Bye::drain(1)));
    assert!(matches!(read(&HeadsAnswer::default().to_frame()), ServerFrame::Heads(_)));
    let refusal = Refusal::no_such_room();
    assert!(matches!(read(&refusal.to_frame()), ServerFrame::Error(read) if read == refusal));
    assert!(matches!(read(br#"{"op":"dance"}"#), ServerFrame::Unknown));
}

#[test]
fn an_answer_takes_the_id_of_its_frame() {
    let frame = crate::ClientFrame::parse(br#"{"id":7,"op":"hello","device":"d"}"#, None, || unreachable!()).unwrap();
    assert_eq!(with_id(&Pong {}.to_frame(), frame.id.as_ref()), br#"{"id":7,"op":"pong"}"#);
    assert_eq!(with_id(&Pong {}.to_frame(), None), br#"{"op":"pong"}"#);
}
