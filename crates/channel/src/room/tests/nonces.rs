//! Nonces: a request that is sent again is the same event.

use super::*;

/// Returns the look-up that these requests need.
fn lookup<'a>(
    table: &TestRoom,
    waiting: impl IntoIterator<Item = &'a QueuedRequest>,
    known: &Lookups,
) -> Option<Lookup> {
    let mut lookup = table.room.new_lookup();
    for QueuedRequest { request, .. } in waiting {
        if let Some(reach) = table.room.lookup_reach(request, known) {
            lookup.add(&request.user, request.verb.event_nonce().unwrap(), reach);
        }
    }
    (!lookup.wanted.is_empty()).then_some(lookup)
}

/// Returns a room whose tail has dropped its first events.
fn busy_room() -> TestRoom {
    let mut table = TestRoom::new();
    for _ in 0..1_200 {
        table.run(vec![ask("ann", r#"{"op":"send","body":{}}"#)]);
    }
    assert!(table.room.tail.first_seq() > 1);
    table
}

fn send(nonce: &str, retry: Option<u64>, text: &str) -> QueuedRequest {
    let retry = retry.map_or(String::new(), |seq| format!(r#""retry":{seq},"#));
    ask("ann", &format!(r#"{{"op":"send","nonce":"{nonce}",{retry}"body":{{"text":"{text}"}}}}"#))
}

#[test]
fn a_retry_late_in_a_batch_is_found_although_the_batch_fills_the_tail() {
    let long = "x".repeat(16_000);
    for (text, before, in_batch) in [("", 998, 1_000), (long.as_str(), 198, 46)] {
        let mut table = TestRoom::new();
        table.run(vec![send("old", None, text)]);
        for n in 0..before {
            table.run(vec![send(&format!("b{n}"), None, text)]);
        }
        assert!(table.room.tail.get(2).is_some(), "the event is in the tail");
        table.told();
        let mut waiting: Vec<QueuedRequest> = (0..in_batch).map(|n| send(&format!("c{n}"), None, text)).collect();
        waiting.push(send("old", Some(1), text));
        assert_eq!(lookup(&table, &waiting, &Lookups::new()), None);
        let head = table.room.head.seq;
        table.run(waiting);
        let answers = table.answers();
        let last = answers.last().unwrap();
        assert_eq!((last["seq"].as_u64(), last["repeat"].as_bool()), (Some(2), Some(true)));
        assert_eq!(table.room.head.seq, head + in_batch);
    }
}

#[test]
fn a_nonce_is_looked_for_a_minute_further_back_than_the_nodes_clock_says() {
    let table = busy_room();
    let oldest = table.room.tail.iter().next().unwrap().head.at;
    let mut again = send("old", None, "");
    // The clock of the sender's node is half a minute ahead.
    again.request.first = Some(Millis(oldest.0 + 30_000));
    let search = lookup(&table, [&again], &Lookups::new()).unwrap();
    assert_eq!(search.reach.since, Some(Millis(oldest.0.saturating_sub(30_000))));
    again.request.first = Some(Millis(oldest.0 + 61_000));
    assert_eq!(lookup(&table, [&again], &Lookups::new()), None);
}

#[test]
fn a_nonce_that_the_tail_does_not_know_is_looked_for_back_to_the_retrys_seq() {
    let table = busy_room();
    let first = table.room.tail.first_seq();
    let retry = |seq| [send("old", Some(seq), "")];
    assert_eq!(lookup(&table, &retry(first), &Lookups::new()), None);
    let search = lookup(&table, &retry(5), &Lookups::new()).unwrap();
    assert_eq!((search.reach, search.to), (Reach { from: 6, since: None }, first - 1));
    assert!(search.reached(6, None) && !search.reached(7, None));
    assert_eq!(lookup(&table, &[send("new", None, "")], &Lookups::new()), None);
    let known = search.finish(Lookups::new(), (6, 6));
    assert_eq!(lookup(&table, &retry(5), &known), None);
    assert!(lookup(&table, &retry(4), &known).is_some());
}

#[test]
fn a_look_up_for_several_goes_back_as_far_as_the_farthest_needs() {
    let table = busy_room();
    let (by_seq, mut by_time) = (send("a", Some(5), ""), send("b", None, ""));
    let first = table.room.tail.iter().next().unwrap().head.at;
    by_time.request.first = Some(first);
    for waiting in [[&by_seq, &by_time], [&by_time, &by_seq]] {
        let search = lookup(&table, waiting, &Lookups::new()).unwrap();
        let since = first.before(sendpi_model::timing::CLOCK_SKEW);
        assert_eq!((search.reach, search.wanted.nonces.len()), (Reach { from: 6, since: Some(since) }, 2));
        // Neither the seq nor the time alone ends it.
        assert!(!search.reached(6, Some(first)) && !search.reached(7, Some(Millis(0))));
        assert!(search.reached(1, Some(first)));
    }
}

#[test]
fn a_leave_that_is_sent_again_was_done_the_first_time() {
    let mut table = TestRoom::new();
    table.run(vec![ask("bob", r#"{"op":"leave"}"#)]);
    table.answers();
    let mut again = ask("bob", r#"{"op":"leave"}"#);
    again.request.first = Some(Millis(1));
    table.run(vec![again, ask("bob", r#"{"op":"leave"}"#)]);
    let answers = table.answers();
    assert_eq!((answers[0]["op"].as_str(), answers[1]["code"].as_str()), (Some("ok"), Some("no_such_room")));
}

/// Returns a request of `who` as the session of `who` sends it, with a nonce.
fn named(who: &str, json: &str, nonce: &str) -> QueuedRequest {
    let mut asked = ask(who, json);
    asked.request.verb.set_nonce(|| sendpi_model::Nonce::parse(nonce).ok());
    asked
}

#[test]
fn a_membership_change_that_is_sent_again_does_not_undo_what_came_between() {
    let mut table = TestRoom::new();
    table.room.row.as_mut().unwrap().access = Access::Open;
    let leave = || named("bob", r#"{"op":"leave"}"#, "leave");
    let join = || named("bob", r#"{"op":"join"}"#, "join");
    let invite = || named("ann", r#"{"op":"invite","users":["zoe"]}"#, "invite");
    table.run(vec![leave(), join(), invite(), ask("zoe", r#"{"op":"leave"}"#)]);
    let done = table.room.head.seq;
    table.answers();
    // None of the answers arrived, and the flow sends everything again.
    let again = [leave(), join(), invite()].map(|mut waiting| {
        waiting.request.first = Some(Millis(1_000));
        waiting
    });
    table.run(again.into());
    let members: Vec<&str> = table.room.members.keys().map(UserId::as_str).collect();
    assert_eq!((members, table.room.head.seq), (vec!["ann", "bob", "eve"], done));
    let answers = table.answers();
    let seqs: Vec<_> = answers.iter().map(|answer| (answer["seq"].as_u64(), answer["repeat"].as_bool())).collect();
    assert_eq!(seqs, [(Some(2), Some(true)), (Some(3), Some(true)), (Some(4), Some(true))]);
}

#[test]
fn the_nonce_of_a_membership_change_is_kept_but_not_shown() {
    let mut table = TestRoom::new();
    table.run(vec![named("bob", r#"{"op":"leave"}"#, "leave")]);
    let event = table.room.tail.get(2).unwrap();
    assert_eq!(event.nonce.as_ref().map(sendpi_model::Nonce::as_str), Some("leave"));
    assert!(!std::str::from_utf8(&event.frame).unwrap().contains("nonce"));
}

#[test]
fn what_searches_one_behind_the_other_did_not_find_is_absent_in_all_that_they_looked_at() {
    let key = || (user("ann"), sendpi_model::Nonce::parse("n").unwrap());
    let absent = |from, to, since| NonceResult::Absent { from, to, since, kept: from };
    let mut known = Lookups::new();
    add_lookups(&mut known, [(key(), absent(10, 90, Some(Millis(7))))].into());
    add_lookups(&mut known, [(key(), absent(91, 120, None))].into());
    assert_eq!(known[&key()], absent(10, 120, Some(Millis(7))));
    // One that left a hole in between stands alone.
    add_lookups(&mut known, [(key(), absent(200, 210, None))].into());
    assert_eq!(known[&key()], absent(200, 210, None));
}
