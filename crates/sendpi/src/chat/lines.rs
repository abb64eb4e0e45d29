//! What is printed of rooms and events.
//!
//! Texts of others hold no control characters when they are printed: a terminal would obey them.

use sendpi_client::EventFrame;
use sendpi_model::{Millis, RoomInfo, RoomKind};

/// Returns a text without what could control a terminal or hide what follows. Lines after the first are indented.
pub(crate) fn plain(text: &str) -> String {
    let hides = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => plain.push_str("\n      "),
            '\t' => plain.push(' '),
            c if c.is_control() || hides(c) => plain.push('\u{fffd}'),
            c => plain.push(c),
        }
    }
    plain
}

/// Returns how a room is called: a direct room after the other user.
pub(crate) fn title(info: &RoomInfo, user: &str) -> String {
    let name = match info.kind {
        RoomKind::Inbox => "inbox".to_owned(),
        RoomKind::Direct => {
            let users = info.room.as_str().split(':').skip(1).filter_map(sendpi_model::subject_token::decode);
            users.into_iter().find(|name| name != user).unwrap_or_else(|| info.room.to_string())
        }
        RoomKind::Group if info.name.is_empty() => info.room.to_string(),
        RoomKind::Group => info.name.clone(),
    };
    plain(&name)
}

/// Returns the line of an event of the room that is shown. `None` if there is nothing to show.
pub(crate) fn event(event: &EventFrame) -> Option<String> {
    let seq = event.seq?;
    let from = plain(event.from.as_str());
    let text = || plain(event.text().unwrap_or("(no text)"));
    let target = event.target.unwrap_or_default();
    let users: Vec<&str> = event.users.iter().map(|user| user.as_str()).collect();
    let users = plain(&users.join(", "));
    let time = clock(event.at);
    let line = match (event.kind.as_str(), &event.by) {
        ("message" | "system", _) if event.deleted.is_some() => format!("{seq:>5} {time} {from} (deleted)"),
        ("message" | "system", _) => {
            let edited = if event.edited.is_some() { " (edited)" } else { "" };
            format!("{seq:>5} {time} {from}: {}{edited}", text())
        }
        // It is what the message shows already.
        ("edited", _) if event.edited.is_some() || event.deleted.is_some() => return None,
        ("edited", _) => format!("    * {time} {from} changed {target}: {}", text()),
        ("deleted", _) => format!("    * {time} {from} deleted {target}"),
        ("reaction", _) => {
            let emoji = plain(event.emoji.as_deref().unwrap_or_default());
            let verb = if event.remove { "took back from" } else { "reacted to" };
            format!("    * {from} {verb} {target}: {emoji}")
        }
        ("joined", Some(by)) => format!("    * {time} {users} joined, invited by {}", plain(by.as_str())),
        ("joined", None) => format!("    * {time} {users} joined"),
        ("left", _) if event.reason.as_deref() == Some("deleted") => format!("    * {time} {from} deleted the room"),
        ("left", Some(by)) => format!("    * {time} {users} was removed by {}", plain(by.as_str())),
        ("left", None) => format!("    * {time} {users} left"),
        ("changed", _) => format!("    * {time} {from} changed the room"),
        _ => return None,
    };
    Some(line)
}

/// Returns the time of day in UTC.
fn clock(at: Millis) -> String {
    let minutes = at.0 / 60_000 % (24 * 60);
    format!("{:02}:{:02}Z", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_text_of_others_controls_no_terminal() {
        assert_eq!(
            plain("a\u{1b}[2Jb\rc\u{7}\u{9b}d\u{202e}e\tf"),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}\u{fffd}d\u{fffd}e f"
        );
        assert_eq!(plain("one\ntwo"), "one\n      two");
        assert_eq!(plain("日本語 👍 é"), "日本語 👍 é");
    }

    #[test]
    fn an_event_is_a_line_of_its_kind() {
        let line = |fields: Value| {
            let mut frame =
                json!({"room": "r", "seq": 7, "count": 3, "kind": "message", "from": "ann", "at": 50_580_000});
            frame.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            event(&serde_json::from_value(frame).unwrap())
        };
        assert_eq!(line(json!({"body": {"text": "hi"}})).unwrap(), "    7 14:03Z ann: hi");
        assert_eq!(line(json!({"body": {"text": "hi"}, "edited": 9})).unwrap(), "    7 14:03Z ann: hi (edited)");
        assert_eq!(line(json!({"body": {}, "deleted": 9})).unwrap(), "    7 14:03Z ann (deleted)");
        let left = json!({"kind": "left", "users": ["bob"], "by": "ann", "reason": "kicked"});
        assert_eq!(line(left).unwrap(), "    * 14:03Z bob was removed by ann");
        assert_eq!(line(json!({"kind": "reaction", "ref": 3, "emoji": "👍"})).unwrap(), "    * ann reacted to 3: 👍");
        assert_eq!(line(json!({"kind": "something new"})), None);
    }
}
