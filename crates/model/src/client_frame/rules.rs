//! The rules of what clients send that hold for clients only. Stores and other nodes may have ids and names that are
//! older than a rule, so the types do not check them.

use std::borrow::Borrow;

use super::ClientOp;
use crate::characters::{is_deceptive, is_format, is_space_or_control};
use crate::{Mentions, Refusal, Verb, i_json, id, limits};

/// Checks the ids, the name and the body of a request.
///
/// # Errors
/// Returns `bad_field` or `too_large`, with the field and its rule.
pub(super) fn check(op: &ClientOp) -> Result<(), Refusal> {
    match op {
        ClientOp::Hello(hello) => {
            check_ids("device", &hello.device)?;
            check_ids("resume", hello.resume.iter().flat_map(|rooms| rooms.keys()))
        }
        ClientOp::Resume(rooms) => check_ids("rooms", rooms.keys()),
        ClientOp::Room(room, verb) => {
            check_ids("room", [room])?;
            check_verb(verb)
        }
        ClientOp::Token(_) | ClientOp::Rooms { .. } | ClientOp::Ping | ClientOp::Pong => Ok(()),
    }
}

fn check_verb(verb: &Verb) -> Result<(), Refusal> {
    match verb {
        Verb::Create { name, members, .. } => {
            check_name(name)?;
            check_ids("members", members)
        }
        Verb::Invite { users, .. } => check_ids("users", users),
        Verb::Kick { user, .. } | Verb::Ban { user, .. } | Verb::Unban { user, .. } | Verb::Role { user, .. } => {
            check_ids("user", [user])
        }
        Verb::Change { name, .. } => name.as_deref().map_or(Ok(()), check_name),
        Verb::Send { body, mentions, .. } => {
            if let Some(Mentions::Users(users)) = mentions {
                check_ids("mentions", users)?;
            }
            i_json::check_object("body", body.get())
        }
        Verb::Edit { body, .. } => i_json::check_object("body", body.get()),
        Verb::React { emoji, .. } => check_emoji(emoji),
        Verb::Members { cursor, .. } => check_ids("cursor", cursor),
        _ => Ok(()),
    }
}

fn check_ids<'a, T: Borrow<str> + 'a>(field: &str, ids: impl IntoIterator<Item = &'a T>) -> Result<(), Refusal> {
    ids.into_iter().try_for_each(|id| id::check_characters(id.borrow())).map_err(|rule| Refusal::field(field, rule))
}

/// Checks a reaction: an emoji, or another short piece of text that can be seen. Emoji are joined by format characters.
fn check_emoji(emoji: &str) -> Result<(), Refusal> {
    if emoji.is_empty() {
        return Err(Refusal::field("emoji", "must not be empty"));
    }
    if emoji.len() > limits::EMOJI_BYTES {
        return Err(Refusal::too_large("emoji", format!("{} bytes", limits::EMOJI_BYTES)));
    }
    let is_unseen = emoji.chars().all(is_format);
    if is_unseen || emoji.chars().any(|c| is_space_or_control(c) || is_deceptive(c)) {
        return Err(Refusal::field("emoji", "must be text that can be seen, without spaces or control characters"));
    }
    Ok(())
}

/// Checks the name of a room: one line of text that can be seen. A new direct room may have none.
fn check_name(name: &str) -> Result<(), Refusal> {
    let breaks_line = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if name.chars().any(|c| breaks_line(c) || is_deceptive(c)) {
        let rule = "must not contain control characters, line breaks, or characters that hide or turn text";
        return Err(Refusal::field("name", rule));
    }
    if !name.is_empty() && name.chars().all(|c| is_space_or_control(c) || is_format(c)) {
        return Err(Refusal::field("name", "must contain a character that can be seen"));
    }
    Ok(())
}
