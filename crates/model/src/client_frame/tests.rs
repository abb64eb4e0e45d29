use super::*;

fn parse(text: &str) -> Result<ClientFrame, (Option<FrameId>, Refusal)> {
    let ann = UserId::parse("ann").unwrap();
    ClientFrame::parse(text.as_bytes(), Some(&ann), || Nonce::parse("fresh").unwrap())
}

/// Returns the code and the field of a refusal, and the id that its frame carries.
fn refused(text: &str) -> (Code, String, Option<String>) {
    let (id, refusal) = parse(text).expect_err(text);
    (refusal.code, refusal.field.unwrap_or_default(), id.map(|id| id.as_json().to_owned()))
}

fn bad(field: &str) -> (Code, String, Option<String>) {
    (Code::BadField, field.to_owned(), Some("7".to_owned()))
}

fn send(body: &str) -> String {
    format!(r#"{{"op":"send","id":7,"room":"r","body":{body}}}"#)
}

#[test]
fn a_refusal_carries_the_frames_id() {
    let (id, refusal) = parse(r#"{"id":"a","op":"read","room":"r1"}"#).unwrap_err();
    assert_eq!(id.unwrap().as_json(), "\"a\"");
    assert_eq!(refusal.field.as_deref(), Some("seq"));
}

#[test]
fn what_only_nodes_say_is_unsupported_from_a_client() {
    for op in ["attach\",\"signin\":\"1", "peek", "bounce\",\"seq\":\"1", "nonsense"] {
        let (_, refusal) = parse(&format!(r#"{{"op":"{op}","room":"r"}}"#)).unwrap_err();
        assert!(matches!(refusal.code, Code::Unsupported | Code::BadField), "{op}: {refusal:?}");
    }
}

#[test]
fn a_creation_without_an_id_is_named_by_creator_and_nonce() {
    let room = |text: &str| match parse(text).unwrap().op {
        ClientOp::Room(room, Verb::Create { .. }) => room,
        other => panic!("{other:?}"),
    };
    assert_eq!(room(r#"{"op":"create","name":"a","nonce":"n"}"#), room(r#"{"op":"create","name":"b","nonce":"n"}"#));
    assert_ne!(room(r#"{"op":"create","name":"a","nonce":"n"}"#), room(r#"{"op":"create","name":"a"}"#));
    assert_eq!(room(r#"{"op":"create","name":"a","room":"lobby"}"#).as_str(), "lobby");
    assert_eq!(room(r#"{"op":"create","kind":"direct","members":["bob"]}"#).as_str(), "=d:ann:bob");
}

#[test]
fn before_sign_in_only_hello_is_read() {
    let nonce = || Nonce::parse("x").unwrap();
    let (_, refusal) = ClientFrame::parse(br#"{"op":"ping"}"#, None, nonce).unwrap_err();
    assert_eq!(refusal.code, Code::Unauthorized);
    assert!(ClientFrame::parse(br#"{"op":"hello","device":"d"}"#, None, nonce).is_ok());
}

#[test]
fn a_device_may_be_left_out() {
    for text in [r#"{"op":"hello"}"#, r#"{"op":"hello","device":null}"#] {
        let frame = ClientFrame::parse(text.as_bytes(), None, || Nonce::parse("x").unwrap()).unwrap();
        assert!(matches!(frame.op, ClientOp::Hello(Hello { device: None, .. })), "{text}");
    }
}

#[test]
fn the_id_of_a_frame_is_a_short_text_or_an_integer_that_every_client_reads_as_the_same_number() {
    for id in ["0", "-3", "9007199254740991", "-9007199254740991", r#""""#, r#""x y""#, "null"] {
        let frame = parse(&format!(r#"{{"id":{id},"op":"ping"}}"#)).unwrap();
        assert_eq!(frame.id.as_ref().map_or("null", FrameId::as_json), id);
    }
    let long = format!("\"{}\"", "x".repeat(65));
    let deep = "[".repeat(200) + &"]".repeat(200);
    for id in [
        "9007199254740992",
        "-9007199254740992",
        "10000000000000000",
        "1e3",
        "1.5",
        "1e999",
        "true",
        "{}",
        &deep,
        r#""\ud800""#,
        &long,
    ] {
        let frame = format!(r#"{{"id":{id},"op":"ping"}}"#);
        // The answer repeats no id that its client could read as another one.
        assert_eq!(refused(&frame), (Code::BadField, "id".to_owned(), None), "{frame}");
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_with_its_field_and_the_frames_id() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    for value in ["1e999", r#""\ud800""#, &deep, "{}", "-1", "9007199254740992"] {
        for (frame, field) in [
            (r#""op":"create","name":"#, "name"),
            (r#""op":"create","name":"a","kind":"#, "kind"),
            (r#""op":"create","name":"a","members":"#, "members"),
            (r#""op":"create","name":"a","nonce":"#, "nonce"),
            (r#""op":"create","name":"a","room":"#, "room"),
            (r#""op":"send","room":"r","body":"#, "body"),
            (r#""op":"send","room":"r","body":{},"mentions":"#, "mentions"),
            (r#""op":"send","room":"r","body":{},"retry":"#, "retry"),
            (r#""op":"read","room":"r","seq":"#, "seq"),
            (r#""op":"history","room":"r","before":"#, "before"),
            (r#""op":"history","room":"r","after":"#, "after"),
            (r#""op":"history","room":"r","limit":"#, "limit"),
            (r#""op":"members","room":"r","limit":"#, "limit"),
            (r#""op":"members","room":"r","cursor":"#, "cursor"),
            (r#""op":"invite","room":"r","users":"#, "users"),
            (r#""op":"rooms","cursor":"#, "cursor"),
            (r#""op":"rooms","limit":"#, "limit"),
            (r#""op":"resume","rooms":{"r":3,"s":"#, "rooms"),
            (r#""op":"token","token":"#, "token"),
            (r#""op":"join","room":"#, "room"),
            (r#""op":"#, "op"),
        ] {
            let close = if field == "rooms" { "}" } else { "" };
            if (field, value) != ("body", "{}") {
                assert_eq!(refused(&format!(r#"{{"id":7,{frame}{value}{close}}}"#)), bad(field), "{frame}{value}");
            }
        }
    }
}

#[test]
fn an_id_that_a_client_names_holds_no_space_control_or_format_character() {
    for character in
        ["\u{20}", "\u{a0}", "\u{2028}", "\u{85}", "\u{ad}", "\u{200b}", "\u{202e}", "\u{feff}", "\u{e0041}"]
    {
        let id = format!("a{character}b");
        for (frame, field) in [
            (format!(r#""op":"create","name":"n","room":"{id}""#), "room"),
            (format!(r#""op":"create","name":"n","members":["bob","{id}"]"#), "members"),
            (format!(r#""op":"create","kind":"direct","members":["{id}"]"#), "members"),
            (format!(r#""op":"invite","room":"r","users":["{id}"]"#), "users"),
            (format!(r#""op":"send","room":"r","body":{{}},"mentions":["{id}"]"#), "mentions"),
            (format!(r#""op":"members","room":"r","cursor":"{id}""#), "cursor"),
            (format!(r#""op":"join","room":"{id}""#), "room"),
            (format!(r#""op":"resume","rooms":{{"{id}":1}}"#), "rooms"),
        ] {
            let frame = format!(r#"{{"id":7,{frame}}}"#);
            assert_eq!(refused(&frame), bad(field), "{frame:?}");
        }
        let hello = format!(r#"{{"op":"hello","device":"{id}"}}"#);
        let (_, refusal) = ClientFrame::parse(hello.as_bytes(), None, || unreachable!()).unwrap_err();
        assert_eq!(refusal.field.as_deref(), Some("device"), "{hello:?}");
    }
    for id in ["auth0|5f7c", "ann@example.org", "äß漢😀", "a\u{301}"] {
        assert!(parse(&format!(r#"{{"op":"join","room":"{id}"}}"#)).is_ok(), "{id}");
    }
}

#[test]
fn a_name_is_one_line_that_can_be_seen() {
    let create = |name: &str| format!(r#"{{"id":7,"op":"create","name":"{name}"}}"#);
    for name in
        ["", " ", "\u{200d}", "a\\nb", "a\u{2028}b", "a\\u0000", "a\u{200b}", "a\u{202e}b", "\u{2067}a", "\\ud83d"]
    {
        assert_eq!(refused(&create(name)), bad("name"), "{name:?}");
    }
    for name in ["a", "Ann & Bob", "کتاب\u{200c}خانه", "👩\u{200d}👧", "\\ud83d\\ude00"] {
        assert!(parse(&create(name)).is_ok(), "{name}");
    }
}

#[test]
fn a_body_is_limited_in_shape_size_and_depth() {
    assert_eq!(parse(&send("[1]")).unwrap_err().1.message, "body must be a JSON object");
    let text = |bytes: usize| format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes - 11));
    assert!(parse(&send(&text(limits::BODY_BYTES))).is_ok());
    assert_eq!(refused(&send(&text(limits::BODY_BYTES + 1))).0, Code::TooLarge);
    let nested = |n: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(n), "]".repeat(n));
    assert!(parse(&send(&nested(31))).is_ok());
    assert_eq!(refused(&send(&nested(32))).0, Code::TooLarge);
    assert!(parse(&send(r#"{"a":"[[[[[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}"#)).is_ok());
}

#[test]
fn a_body_that_some_reader_could_not_read_is_refused_and_any_other_passes_as_it_was_sent() {
    for body in [
        // Half a surrogate pair.
        r#"{"text":"a\ud800"}"#,
        r#"{"text":"\ud83d"}"#,
        r#"{"text":"\ude00"}"#,
        r#"{"text":"\ude00\ud83d"}"#,
        r#"{"text":"\ud83d\n"}"#,
        r#"{"a":[{"\udfff":1}]}"#,
        // Code points that are no characters.
        r#"{"a":"\uFFFE"}"#,
        "{\"a\":\"\u{fdd0}\"}",
        "{\"a\":[\"\u{1ffff}\"]}",
        // A name twice.
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"\u0061":1}"#,
        r#"{"x":[{"a":{},"b":[],"a":{}}]}"#,
        r#"{"":1,"b":{"":1},"":2}"#,
        r#"{"a\n":1,"a\u000a":1}"#,
        r#"{"0":0,"1":0,"2":0,"3":0,"4":0,"5":0,"6":0,"7":0,"8":0,"9":0,"3":0}"#,
        // Numbers beyond a double.
        r#"{"a":1e999}"#,
        r#"{"a":-1E+309}"#,
        r#"{"a":[0,1.8e308]}"#,
        // The JSON reader of our Rust client takes this name for its own.
        r#"{"a":{"$serde_json::private::RawValue":"[]"}}"#,
    ] {
        assert_eq!(refused(&send(body)), bad("body"), "{body}");
    }
    let digits = format!(r#"{{"a":{}}}"#, "9".repeat(400));
    assert_eq!(refused(&send(&digits)), bad("body"));
    for body in [
        "{}",
        r#"{ "text" : "h\u00e9 \ud83d\ude00 😀 \\ud800 \"" }"#,
        r#"{"a":1,"b":{"a":1,"b":[{"a":1},{"a":2}]},"A":2}"#,
        r#"{"a":"a","b":["a","a"],"c":":,\"a"}"#,
        r#"{"a":[1e308,-1e308,1e-999,0e999,0.1,123456789012345678901234567890,1.7976931348623157e308,-0]}"#,
        r#"{"a\\":1,"a":2,"a\\\\":3,"":[],"\u0000":null}"#,
    ] {
        let frame = parse(&send(body)).unwrap();
        assert!(matches!(frame.op, ClientOp::Room(_, Verb::Send { body: kept, .. }) if kept.get() == body), "{body}");
    }
}

#[test]
fn text_that_was_cut_in_half_an_emoji_is_refused_with_the_reason() {
    let (_, refusal) = parse(&send(r#"{"text":"see you \ud83d"}"#)).unwrap_err();
    assert_eq!(refusal.message, "body must not contain half of a surrogate pair: its text may be cut within an emoji");
}

#[test]
fn a_name_that_comes_twice_among_thousands_is_found() {
    let names = |last: usize| (0..last).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(",");
    let (unique, twice) = (format!("{{{}}}", names(1_900)), format!("{{{},\"7\":0}}", names(1_900)));
    assert!(unique.len() < limits::BODY_BYTES);
    assert!(parse(&send(&unique)).is_ok());
    assert_eq!(refused(&send(&twice)), bad("body"));
}
