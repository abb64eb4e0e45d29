//! Reading and writing the fields of verbs, each with its rule.

use serde::Serialize;

use super::{Mentions, Verb};
use crate::{Access, Fields, Millis, Nonce, Refusal, RoomKind, UserId, limits};

pub(super) fn create(fields: &Fields<'_>, nonce: Nonce) -> Result<Verb, Refusal> {
    let kind = fields.optional("kind")?.unwrap_or_default();
    if kind == RoomKind::Inbox {
        return Err(Refusal::field("kind", "must be group or direct"));
    }
    let name: String = fields.optional("name")?.unwrap_or_default();
    if name.is_empty() && kind == RoomKind::Group {
        return Err(Refusal::field("name", "must not be empty"));
    }
    check_length(&name)?;
    let members = users(fields, "members", false)?;
    if kind == RoomKind::Direct && members.len() != 1 {
        return Err(Refusal::field("members", "must name exactly one other user in a direct room"));
    }
    let access = fields.optional("access")?.unwrap_or_default();
    if kind == RoomKind::Direct && access == Access::Open {
        return Err(Refusal::field("access", "must be invite in a direct room"));
    }
    Ok(Verb::Create { name, kind, access, members, retention_days: retention(fields)?, nonce })
}

fn retention(fields: &Fields<'_>) -> Result<Option<u16>, Refusal> {
    let days: Option<u16> = fields.optional("retention_days")?;
    if days.is_some_and(|days| days > limits::RETENTION_DAYS) {
        return Err(Refusal::field("retention_days", format!("must be from 0 to {}", limits::RETENTION_DAYS)));
    }
    Ok(days)
}

fn check_length(name: &str) -> Result<(), Refusal> {
    if name.len() > limits::NAME_BYTES {
        return Err(Refusal::too_large("name", format!("{} bytes", limits::NAME_BYTES)));
    }
    Ok(())
}

pub(super) fn change(fields: &Fields<'_>) -> Result<Verb, Refusal> {
    let (name, access): (Option<String>, Option<Access>) = (fields.optional("name")?, fields.optional("access")?);
    let retention_days = retention(fields)?;
    match name.as_deref() {
        Some("") => return Err(Refusal::field("name", "must not be empty")),
        Some(name) => check_length(name)?,
        None if access.is_none() && retention_days.is_none() => {
            return Err(Refusal::field("name", "is required, or access, or retention_days"));
        }
        None => {}
    }
    Ok(Verb::Change { name, access, retention_days, nonce: nonce(fields) })
}

pub(super) fn role(fields: &Fields<'_>) -> Result<Verb, Refusal> {
    Ok(Verb::Role { user: fields.required("user")?, role: fields.required("role")?, nonce: nonce(fields) })
}

pub(super) fn notify(fields: &Fields<'_>) -> Result<Verb, Refusal> {
    let notify = fields.optional("notify")?;
    let muted_until = read_seq(fields, "muted_until")?.map(Millis);
    let muted_until = fields.has("muted_until").then_some(muted_until);
    if notify.is_none() && muted_until.is_none() {
        return Err(Refusal::field("notify", "is required, or muted_until"));
    }
    Ok(Verb::Notify { notify, muted_until })
}

/// Reads the nonce of a request for which clients choose none. What a client sends under this name is a field that
/// it does not have, and must not refuse the request.
pub(super) fn nonce(fields: &Fields<'_>) -> Option<Nonce> {
    fields.optional("nonce").ok().flatten()
}

pub(super) fn marker(fields: &Fields<'_>) -> Result<Verb, Refusal> {
    let seq = read_seq(fields, "seq")?.ok_or_else(|| Refusal::field("seq", "is required"))?;
    Ok(Verb::Read { seq })
}

pub(super) fn users(fields: &Fields<'_>, name: &str, required: bool) -> Result<Vec<UserId>, Refusal> {
    let mut users: Vec<UserId> = fields.optional(name)?.unwrap_or_default();
    if required && users.is_empty() {
        return Err(Refusal::field(name, "must name at least one user"));
    }
    if users.len() > limits::USERS_PER_REQUEST {
        return Err(Refusal::too_large(name, format!("{} users", limits::USERS_PER_REQUEST)));
    }
    users.sort();
    users.dedup();
    Ok(users)
}

pub(super) fn send(fields: &Fields<'_>) -> Result<Verb, Refusal> {
    let body = fields.raw("body").ok_or_else(|| Refusal::field("body", "is required"))?;
    let mentions = fields.optional::<Mentions>("mentions")?;
    if let Some(Mentions::Users(users)) = &mentions {
        if users.len() > limits::MENTIONS {
            return Err(Refusal::too_large("mentions", format!("{} users", limits::MENTIONS)));
        }
        for user in users {
            UserId::parse(user).map_err(|rule| Refusal::field("mentions", rule))?;
        }
    }
    let (nonce, retry) = (fields.optional("nonce")?, read_seq(fields, "retry")?);
    Ok(Verb::Send { body: body.to_owned(), nonce, retry, mentions })
}

pub(super) fn edit(fields: &Fields<'_>) -> Result<Verb, Refusal> {
    let body = fields.raw("body").ok_or_else(|| Refusal::field("body", "is required"))?.to_owned();
    Ok(Verb::Edit { target: target(fields)?, body, nonce: nonce(fields) })
}

pub(super) fn react(fields: &Fields<'_>) -> Result<Verb, Refusal> {
    let (target, emoji) = (target(fields)?, fields.required("emoji")?);
    Ok(Verb::React { target, emoji, remove: fields.optional("remove")?.unwrap_or(false), nonce: nonce(fields) })
}

/// Reads the seq of the event that a request is about.
pub(super) fn target(fields: &Fields<'_>) -> Result<u64, Refusal> {
    read_seq(fields, "ref")?.ok_or_else(|| Refusal::field("ref", "is required"))
}

pub(super) fn history(fields: &Fields<'_>) -> Result<Verb, Refusal> {
    let (before, after) = (read_seq(fields, "before")?, read_seq(fields, "after")?);
    if before.is_some() && after.is_some() {
        return Err(Refusal::field("before", "must not come together with after"));
    }
    Ok(Verb::History { before, after, limit: read_limit(fields, limits::PAGE_MESSAGES)? })
}

pub(super) fn members(fields: &Fields<'_>) -> Result<Verb, Refusal> {
    Ok(Verb::Members { cursor: fields.optional("cursor")?, limit: read_limit(fields, limits::PAGE_MEMBERS)? })
}

pub(super) fn bounce(fields: &Fields<'_>) -> Result<Verb, Refusal> {
    let (first, last) = (fields.required("first")?, fields.required("last")?);
    if first > last {
        return Err(Refusal::field("first", "must not be above last"));
    }
    Ok(Verb::Bounce { first, last })
}

/// Reads an integer of the protocol.
fn read_seq(fields: &Fields<'_>, name: &str) -> Result<Option<u64>, Refusal> {
    let seq: Option<u64> = fields.optional(name)?;
    if seq.is_some_and(|seq| seq >= limits::INTEGERS) {
        return Err(Refusal::field(name, "must be below 2^53"));
    }
    Ok(seq)
}

fn read_limit(fields: &Fields<'_>, most: usize) -> Result<u32, Refusal> {
    let limit = fields.optional("limit")?.unwrap_or(50);
    if limit == 0 || limit as usize > most {
        return Err(Refusal::field("limit", format!("must be from 1 to {most}")));
    }
    Ok(limit)
}

/// Writes a verb under the field names by which it is read.
impl Serialize for Verb {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        let mut op = |op: &str| map.serialize_entry("op", op);
        match self {
            Self::Create { name, kind, access, members, retention_days, nonce } => {
                op("create")?;
                map.serialize_entry("name", name)?;
                map.serialize_entry("kind", kind)?;
                map.serialize_entry("access", access)?;
                map.serialize_entry("members", members)?;
                if retention_days.is_some() {
                    map.serialize_entry("retention_days", retention_days)?;
                }
                map.serialize_entry("nonce", nonce)?;
            }
            Self::Invite { users, .. } => {
                op("invite")?;
                map.serialize_entry("users", users)?;
            }
            Self::Join { .. } => op("join")?,
            Self::Leave { .. } => op("leave")?,
            Self::Kick { user, .. } => {
                op("kick")?;
                map.serialize_entry("user", user)?;
            }
            Self::Ban { user, .. } => {
                op("ban")?;
                map.serialize_entry("user", user)?;
            }
            Self::Unban { user, .. } => {
                op("unban")?;
                map.serialize_entry("user", user)?;
            }
            Self::DeleteRoom { .. } => op("delete_room")?,
            Self::Change { name, access, retention_days, .. } => {
                op("change")?;
                if name.is_some() {
                    map.serialize_entry("name", name)?;
                }
                if access.is_some() {
                    map.serialize_entry("access", access)?;
                }
                if retention_days.is_some() {
                    map.serialize_entry("retention_days", retention_days)?;
                }
            }
            Self::Role { user, role, .. } => {
                op("role")?;
                map.serialize_entry("user", user)?;
                map.serialize_entry("role", role)?;
            }
            Self::Notify { notify, muted_until } => {
                op("notify")?;
                if notify.is_some() {
                    map.serialize_entry("notify", notify)?;
                }
                if let Some(muted_until) = muted_until {
                    map.serialize_entry("muted_until", muted_until)?;
                }
            }
            Self::Send { body, nonce, retry, mentions } => {
                op("send")?;
                map.serialize_entry("nonce", nonce)?;
                if retry.is_some() {
                    map.serialize_entry("retry", retry)?;
                }
                if mentions.is_some() {
                    map.serialize_entry("mentions", mentions)?;
                }
                map.serialize_entry("body", body)?;
            }
            Self::Edit { target, body, .. } => {
                op("edit")?;
                map.serialize_entry("ref", target)?;
                map.serialize_entry("body", body)?;
            }
            Self::Delete { target, .. } => {
                op("delete")?;
                map.serialize_entry("ref", target)?;
            }
            Self::Forget { target } => {
                op("forget")?;
                map.serialize_entry("ref", target)?;
            }
            Self::React { target, emoji, remove, .. } => {
                op("react")?;
                map.serialize_entry("ref", target)?;
                map.serialize_entry("emoji", emoji)?;
                if *remove {
                    map.serialize_entry("remove", remove)?;
                }
            }
            Self::Typing => op("typing")?,
            Self::Read { seq } => {
                op("read")?;
                map.serialize_entry("seq", seq)?;
            }
            Self::History { before, after, limit } => {
                op("history")?;
                map.serialize_entry("before", before)?;
                map.serialize_entry("after", after)?;
                map.serialize_entry("limit", limit)?;
            }
            Self::Members { cursor, limit } => {
                op("members")?;
                map.serialize_entry("cursor", cursor)?;
                map.serialize_entry("limit", limit)?;
            }
            Self::Attach { signin } => {
                op("attach")?;
                map.serialize_entry("signin", signin)?;
            }
            Self::Detach { signin } => {
                op("detach")?;
                map.serialize_entry("signin", signin)?;
            }
            Self::Peek => op("peek")?,
            Self::Heads { rooms } => {
                op("heads")?;
                map.serialize_entry("rooms", rooms)?;
            }
            Self::Bounce { first, last } => {
                op("bounce")?;
                map.serialize_entry("first", first)?;
                map.serialize_entry("last", last)?;
            }
        }
        if let Some(nonce) = self.session_nonce() {
            map.serialize_entry("nonce", nonce)?;
        }
        map.end()
    }
}
