use super::*;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Returns everything that would be written.
fn waiting(outbox: &Outbox) -> String {
    let mut slices = [IoSlice::new(&[]); 16];
    let filled = outbox.slices(&mut slices);
    slices[..filled].iter().map(|slice| String::from_utf8_lossy(slice).into_owned()).collect()
}

#[test]
fn a_partial_write_goes_on_where_it_stopped() {
    let mut outbox = Outbox::default();
    outbox.push(bytes("abc"), FrameKind::Event, 100);
    outbox.push(bytes("def"), FrameKind::Event, 100);
    outbox.advance(4);
    assert_eq!((waiting(&outbox).as_str(), outbox.bytes()), ("ef", 2));
    outbox.advance(2);
    assert!(outbox.is_empty() && outbox.bytes() == 0);
}

#[test]
fn ephemeral_frames_are_dropped_first() {
    let mut outbox = Outbox::default();
    outbox.push(bytes("tttt"), FrameKind::Ephemeral, 10);
    outbox.push(bytes("aaaa"), FrameKind::Event, 10);
    assert_eq!(outbox.push(bytes("uuuu"), FrameKind::Ephemeral, 10), Pushed::Dropped);
    assert_eq!(outbox.push(bytes("bbbb"), FrameKind::Event, 10), Pushed::Queued);
    assert_eq!(waiting(&outbox), "aaaabbbb");
}

#[test]
fn an_ephemeral_frame_that_is_begun_is_finished() {
    let mut outbox = Outbox::default();
    outbox.push(bytes("tttt"), FrameKind::Ephemeral, 10);
    outbox.push(bytes("uuuu"), FrameKind::Ephemeral, 10);
    outbox.advance(1);
    outbox.push(bytes("aaaaaa"), FrameKind::Event, 10);
    assert_eq!(waiting(&outbox), "tttaaaaaa");
}

#[test]
fn a_full_queue_ends_the_session_after_the_frame_that_is_begun() {
    let mut outbox = Outbox::default();
    outbox.push(bytes("aaaaaa"), FrameKind::Event, 10);
    outbox.push(bytes("bbb"), FrameKind::Event, 10);
    outbox.advance(2);
    assert_eq!(outbox.push(bytes("cccc"), FrameKind::Event, 10), Pushed::TooSlow);
    assert!(waiting(&outbox).starts_with("aaaa") && waiting(&outbox).contains("reads too slowly"));
    assert_eq!(outbox.push(bytes("d"), FrameKind::Event, 10), Pushed::Dropped);
}

#[test]
fn the_last_words_are_the_frame_that_is_begun_and_the_close_frame() {
    let queue = || {
        let mut outbox = Outbox::default();
        outbox.push(bytes("xxxx"), FrameKind::Event, 100);
        outbox.push(bytes("yyyy"), FrameKind::Event, 100);
        outbox.close(CloseCode::Drain);
        outbox
    };
    let words = |outbox: &mut Outbox| String::from_utf8_lossy(&outbox.take_last_words(20)).into_owned();
    let mut outbox = queue();
    let all = words(&mut outbox);
    assert!(all.ends_with("drain") && !all.contains('x') && outbox.is_empty(), "{all}");
    let mut outbox = queue();
    outbox.advance(1);
    let all = words(&mut outbox);
    assert!(all.starts_with("xxx") && all.ends_with("drain") && !all.contains('y'), "{all}");
    let mut outbox = queue();
    outbox.advance(outbox.bytes() - 2);
    assert_eq!(words(&mut outbox), "in");
    let mut outbox = queue();
    outbox.advance(1);
    assert!(outbox.take_last_words(10).is_empty());
}

#[test]
fn a_frame_above_the_limit_is_taken_by_an_empty_queue() {
    let mut outbox = Outbox::default();
    assert_eq!(outbox.push(bytes("aaaaaaaaaaaa"), FrameKind::Event, 10), Pushed::Queued);
}

#[test]
fn answers_close_nobody_and_leave_the_events_their_room() {
    let mut outbox = Outbox::default();
    for _ in 0..3 {
        assert_eq!(outbox.push(bytes("pppppppppppp"), FrameKind::Answer, 10), Pushed::Queued);
    }
    assert_eq!(outbox.push(bytes("aaaaaa"), FrameKind::Event, 10), Pushed::Queued);
    outbox.advance(40);
    assert_eq!(outbox.push(bytes("bbbb"), FrameKind::Event, 10), Pushed::Queued);
    assert_eq!(outbox.push(bytes("ccccc"), FrameKind::Event, 10), Pushed::TooSlow);
}

#[test]
fn a_queue_is_full_of_answers_until_enough_of_them_are_written() {
    let mut outbox = Outbox::default();
    let half = Bytes::from(vec![b'p'; ANSWER_BYTES / 2]);
    outbox.push(half.clone(), FrameKind::Answer, 10);
    outbox.push(half.clone(), FrameKind::Event, ANSWER_BYTES);
    assert!(!outbox.is_full());
    outbox.push(half, FrameKind::Answer, 10);
    assert!(outbox.is_full());
    outbox.advance(1);
    assert!(!outbox.is_full());
    outbox.advance(outbox.bytes());
    assert_eq!((outbox.bytes, outbox.answers, outbox.begun), (0, 0, 0));
}

#[test]
fn a_heartbeat_tells_when_its_last_byte_is_written() {
    let mut outbox = Outbox::default();
    outbox.push(bytes("tttt"), FrameKind::Ephemeral, 100);
    outbox.push(bytes("ping"), FrameKind::Ping, 100);
    outbox.drop_ephemeral();
    assert!(!outbox.advance(3));
    assert!(outbox.advance(1));
    assert!(!outbox.advance(0));
}

#[test]
fn nothing_follows_the_close_frame() {
    let mut outbox = Outbox::default();
    outbox.close(CloseCode::Drain);
    outbox.close(CloseCode::TooSlow);
    assert_eq!(outbox.push(bytes("x"), FrameKind::Event, 10), Pushed::Dropped);
    assert!(waiting(&outbox).ends_with("drain"));
}
