//! Frames of clients as properties: whatever bytes come, none panics, and what is accepted can be read by every part
//! that gets it.
//!
//! Ten thousand mutated frames and as many bodies are tried, or as many as the environment variable [`CASES`] says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::HashSet;
use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use sendpi_model::flow::{FlowMessage, NumberedRequest, Requester, encode_message, encode_request};
use sendpi_model::server_frame::{EventPage, OpFrame, Pong, ServerFrame, with_id};
use sendpi_model::{
    ClientFrame, ClientOp, Code, Content, Event, FrameId, Head, Millis, NodeId, Nonce, Refusal, RoomId,
};
use sendpi_model::{UserId, Verb};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Names how many cases are tried.
const CASES: &str = "SENDPI_FRAMES";

/// A valid frame of each op.
const FRAMES: [&str; 25] = [
    r#"{"op":"hello","id":1,"token":"t","device":"phone-1","resume":{"r1":41,"r2":0},"rooms":50}"#,
    r#"{"op":"token","id":"a","token":"t"}"#,
    r#"{"op":"send","id":2,"room":"r1","body":{"text":"h\u00e9 😀","n":[2.5e3,null,{"a":true}]},"nonce":"n","retry":4}"#,
    r#"{"op":"send","id":"b","room":"r1","mentions":["bob"],"body":{"a":{"a":-0.1},"b":[[],{}]}}"#,
    r#"{"op":"typing","room":"r1"}"#,
    r#"{"op":"read","id":3,"room":"r1","seq":7}"#,
    r#"{"op":"history","id":4,"room":"r1","before":9,"limit":20}"#,
    r#"{"op":"rooms","id":5,"cursor":"7.r1","limit":10}"#,
    r#"{"op":"create","id":6,"name":"A & B","members":["bob"],"access":"open","kind":"group","room":"r","nonce":"x"}"#,
    r#"{"op":"create","id":7,"kind":"direct","members":["bob"]}"#,
    r#"{"op":"join","id":8,"room":"r1"}"#,
    r#"{"op":"invite","id":9,"room":"r1","users":["bob","eve"]}"#,
    r#"{"op":"kick","id":9,"room":"r1","user":"bob"}"#,
    r#"{"op":"ban","id":9,"room":"r1","user":"bob"}"#,
    r#"{"op":"unban","id":9,"room":"r1","user":"bob"}"#,
    r#"{"op":"delete_room","id":9,"room":"r1"}"#,
    r#"{"op":"edit","id":9,"room":"r1","ref":7,"body":{"text":"h\u00e9"}}"#,
    r#"{"op":"delete","id":9,"room":"r1","ref":7}"#,
    r#"{"op":"react","id":9,"room":"r1","ref":7,"emoji":"👍🏽","remove":true}"#,
    r#"{"op":"role","id":9,"room":"r1","user":"bob","role":"admin"}"#,
    r#"{"op":"change","id":9,"room":"r1","name":"lobby","access":"open"}"#,
    r#"{"op":"notify","id":9,"room":"r1","notify":"mentions","muted_until":null}"#,
    r#"{"op":"members","id":10,"room":"r1","cursor":"bob","limit":5}"#,
    r#"{"op":"resume","id":11,"rooms":{"r1":41}}"#,
    r#"{"op":"leave","id":12,"room":"r1","x":[{"op":"ping"},"pong"]}"#,
];

/// What is put into frames: values that some reader cannot read, and pieces of JSON.
const PIECES: [&str; 34] = [
    "1e999",
    "-1e309",
    "1.7976931348623157e308",
    "9007199254740991",
    "9007199254740992",
    "10000000000000000",
    "-1",
    "0",
    "1.5",
    "\"\\ud800\"",
    "\\ud83d",
    "\\ude00",
    "\\u0061",
    "\"a\":1,",
    "\"\\u0061\":1,",
    "\"id\":3,",
    "\"text\":\"x\",",
    "{}",
    "[]",
    "null",
    "true",
    "\"\"",
    "\"",
    "\\",
    ",",
    ":",
    "{",
    "}",
    "\u{200b}",
    "\u{fffe}",
    "\0",
    "😀",
    "{\"$serde_json::private::RawValue\":\"[]\"}",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

#[derive(Debug, Clone)]
enum Mutation {
    Flip(Index, u8),
    Cut(Index, usize),
    Insert(Index, &'static str),
    /// Replaces a value, so that the frame is often valid JSON still.
    Value(Index, &'static str),
    Duplicate(Index, usize, Index),
    Splice(Index, &'static str, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let (place, piece) = (any::<Index>, || select(&PIECES[..]));
    prop_oneof![
        1 => (place(), 0..8u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        1 => (place(), 1..20usize).prop_map(|(at, bytes)| Mutation::Cut(at, bytes)),
        1 => (place(), piece()).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        4 => (place(), piece()).prop_map(|(at, piece)| Mutation::Value(at, piece)),
        1 => (place(), 1..40usize, place()).prop_map(|(from, bytes, to)| Mutation::Duplicate(from, bytes, to)),
        1 => (place(), select(&FRAMES[..]), place()).prop_map(|(at, other, from)| Mutation::Splice(at, other, from)),
    ]
}

impl Mutation {
    fn apply(&self, text: &mut Vec<u8>) {
        let place = |at: &Index, text: &[u8]| at.index(text.len() + 1);
        match self {
            Self::Flip(at, bit) => {
                let at = at.index(text.len().max(1));
                if let Some(byte) = text.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            Self::Cut(at, bytes) => {
                let at = place(at, text);
                text.drain(at..(at + bytes).min(text.len()));
            }
            Self::Insert(at, piece) => {
                let at = place(at, text);
                text.splice(at..at, piece.bytes());
            }
            Self::Value(at, piece) => {
                let colons: Vec<usize> = (0..text.len()).filter(|at| text[*at] == b':').collect();
                if !colons.is_empty() {
                    let begin = at.get(&colons) + 1;
                    let length = text[begin..].iter().take_while(|byte| !matches!(byte, b',' | b'}')).count();
                    text.splice(begin..begin + length, piece.bytes());
                }
            }
            Self::Duplicate(from, bytes, to) => {
                let (from, to) = (place(from, text), place(to, text));
                let copy = text[from..(from + bytes).min(text.len())].to_vec();
                text.splice(to..to, copy);
            }
            Self::Splice(at, other, from) => {
                text.truncate(place(at, text));
                text.extend_from_slice(&other.as_bytes()[from.index(other.len())..]);
            }
        }
    }
}

/// A value that a strict reader reads: it stops at a name twice, half of a surrogate pair, a code point that is no
/// character, and a number beyond a double. It also stops at names that serde_json takes for its own.
struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Strict)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what every reader can read")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self, E> {
        Ok(Self)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self, E> {
        if number.is_finite() { Ok(Self) } else { Err(E::custom("a number beyond a double")) }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self, E> {
        let is_character = |c: char| !matches!(u32::from(c), 0xFDD0..=0xFDEF) && u32::from(c) % 0x1_0000 < 0xFFFE;
        if text.chars().all(is_character) { Ok(Self) } else { Err(E::custom("no character")) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(Self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            Self.visit_str::<A::Error>(&name)?;
            if name.starts_with("$serde_json::private::") || !names.insert(name) {
                return Err(A::Error::custom("a name that is reserved or comes twice"));
            }
            map.next_value::<Self>()?;
        }
        Ok(Self)
    }
}

fn is_strict(text: &[u8]) -> bool {
    serde_json::from_slice::<Strict>(text).is_ok()
}

fn parse(text: &[u8], user: Option<&UserId>) -> Result<ClientFrame, (Option<FrameId>, Refusal)> {
    ClientFrame::parse(text, user, || Nonce::parse("fresh").unwrap())
}

/// Checks that an answer carries the id of the frame, where it has one that can be repeated.
fn carries_id(text: &[u8], id: Option<&FrameId>, answer: &[u8]) {
    let answer: Value = serde_json::from_slice(&with_id(answer, id)).unwrap();
    // If a name comes twice, or a number is beyond a double, it depends on the reader which id the frame has.
    if !is_strict(text) {
        return;
    }
    let frame: Value = serde_json::from_slice(text).unwrap();
    let repeatable = match &frame["id"] {
        Value::Number(number) => number.as_i64().is_some_and(|n| n.unsigned_abs() < 1 << 53),
        Value::String(text) => text.len() <= 64,
        _ => false,
    };
    assert_eq!(answer.get("id"), frame.get("id").filter(|_| repeatable && frame.is_object()), "{frame}");
}

fn check_frame(text: &[u8]) {
    let ann = UserId::parse("ann").unwrap();
    for user in [None, Some(&ann)] {
        match parse(text, user) {
            Ok(frame) => {
                carries_id(text, frame.id.as_ref(), &Pong {}.to_frame());
                if let ClientOp::Room(room, verb) = &frame.op {
                    check_request(room, &ann, verb);
                }
            }
            Err((id, refusal)) => {
                let codes = [
                    Code::BadFrame,
                    Code::BadField,
                    Code::TooLarge,
                    Code::Unsupported,
                    Code::Unauthorized,
                    Code::Conflict,
                ];
                assert!(codes.contains(&refusal.code), "{refusal:?}");
                carries_id(text, id.as_ref(), &refusal.to_frame());
            }
        }
    }
}

/// Checks that the owner of the room reads the request as it is, and that its event can be read.
fn check_request(room: &RoomId, user: &UserId, verb: &Verb) {
    let (node, request) = (NodeId::parse("n").unwrap(), encode_request(room, Requester::User(user), verb));
    let message = encode_message(&node, 1, [NumberedRequest { n: 1, first: None, request: &request }]);
    let mut read = FlowMessage::parse(&message).unwrap().requests;
    assert_eq!(read.len(), 1);
    let read = read.remove(0).1.unwrap();
    assert_eq!(encode_request(&read.room, Requester::User(&read.user), &read.verb), request);
    if let Verb::Send { body, nonce, mentions, .. } = &read.verb {
        let content = Content::message(body, mentions.as_ref());
        let event = Event::next(room, Head::default(), Millis(1), user, nonce.as_ref(), &content);
        check_event(&event, body.get());
        assert_eq!(&event.mentions(), mentions);
    }
}

/// Checks that a strict reader, the client crate and a page can read an event, and that its body is as it was sent.
fn check_event(event: &Event, body: &str) {
    let sent: Value = serde_json::from_str(body).unwrap();
    assert!(is_strict(body.as_bytes()), "{body}");
    assert!(event.frame.ends_with(format!(r#""body":{body}}}"#).as_bytes()) || event.mentions().is_some(), "{body}");
    let ServerFrame::Event(read) = serde_json::from_slice(&event.frame).unwrap() else { panic!("{body}") };
    assert_eq!(read.body.as_ref(), Some(&sent));
    let page: Value = serde_json::from_slice(&EventPage::join(&read.room, &[&event.frame], false)).unwrap();
    assert_eq!(page["events"][0]["body"], sent);
    let shown = sent["text"].as_str().map(|text| text.chars().take(200).collect::<String>());
    assert_eq!(event.text(), shown);
}

/// A body in which names come twice, numbers are large and text is cut, more often than not.
fn body() -> impl Strategy<Value = String> {
    let name =
        select(&["a", "b", r"\u0061", "", "text", r"a\\", r"\ud83d\ude00", "😀", r"\ud83d", "$serde_json::x"][..]);
    let scalar = select(
        &[
            "1",
            "-0",
            "1e308",
            "1e309",
            "0.5e-999",
            "true",
            "null",
            "\"a\"",
            r#""\ud83d\ude00""#,
            r#""\ude00""#,
            r#""\uffff""#,
            r#""\n\"{[,:""#,
            "\"\u{1fffe}\"",
            "123456789012345678901234567890",
        ][..],
    );
    let value = scalar.prop_map(str::to_owned).prop_recursive(4, 40, 6, move |value| {
        let fields = vec((name.clone(), value.clone()), 0..12);
        prop_oneof![
            fields.prop_map(|fields| object(&fields)),
            vec(value, 0..6).prop_map(|v| format!("[{}]", v.join(",")))
        ]
    });
    let name = select(&["a", "b", "c", "text", r"\u0062"][..]);
    vec((name, value), 0..4).prop_map(|fields| object(&fields))
}

fn object(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
    format!("{{{}}}", fields.join(", "))
}

fn cases() -> ProptestConfig {
    let cases = std::env::var(CASES).map_or(10_000, |cases| cases.parse().unwrap());
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_frame_panics_and_what_is_accepted_every_part_can_read(
        frame in select(&FRAMES[..]),
        mutations in vec(mutation(), 0..5),
    ) {
        let mut text = frame.as_bytes().to_vec();
        mutations.iter().for_each(|mutation| mutation.apply(&mut text));
        check_frame(&text);
    }

    #[test]
    fn a_body_is_accepted_if_a_strict_reader_reads_it_and_only_then(body in body()) {
        let ann = UserId::parse("ann").unwrap();
        let frame = format!(r#"{{"op":"send","id":1,"room":"r","body":{body}}}"#);
        match parse(frame.as_bytes(), Some(&ann)) {
            Ok(_) => prop_assert!(is_strict(body.as_bytes())),
            Err((_, refusal)) => {
                prop_assert_eq!((refusal.code, refusal.field.as_deref()), (Code::BadField, Some("body")));
                prop_assert!(!is_strict(body.as_bytes()), "{}", refusal.message);
            }
        }
        check_frame(frame.as_bytes());
    }
}

#[test]
fn the_frames_that_are_mutated_are_valid() {
    let ann = UserId::parse("ann").unwrap();
    for frame in FRAMES {
        let user = (!frame.contains("hello")).then_some(&ann);
        assert!(parse(frame.as_bytes(), user).is_ok(), "{frame}");
    }
}
