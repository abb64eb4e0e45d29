//! What can be asked of a room: the verbs that clients send, and those that nodes send on their own.
//!
//! A verb is read by the same code from a client's frame and from a flow, under the same field names.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Access, Code, Fields, Nonce, Refusal, RoomKind, UserId, limits};

/// Whom a message mentions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub enum Mentions {
    /// `["*"]`: every member; for admins.
    All,
    /// Up to 50 users.
    Users(Vec<String>),
}

impl From<Vec<String>> for Mentions {
    fn from(users: Vec<String>) -> Self {
        if users.iter().any(|u| u == "*") { Self::All } else { Self::Users(users) }
    }
}

impl From<Mentions> for Vec<String> {
    fn from(mentions: Mentions) -> Self {
        match mentions {
            Mentions::All => vec!["*".to_owned()],
            Mentions::Users(users) => users,
        }
    }
}

/// One thing asked of a room by a user, or by a node on a user's behalf.
#[derive(Debug, Clone)]
pub enum Verb {
    /// Make the room. Two creations with one creator and nonce are one room.
    Create {
        /// What the room is called.
        name: String,
        /// What it is for.
        kind: RoomKind,
        /// Who may join.
        access: Access,
        /// The first members beside the creator.
        members: Vec<UserId>,
        /// The creator's name for this creation.
        nonce: Nonce,
    },
    /// Add members; for admins.
    Invite {
        /// Whom to add.
        users: Vec<UserId>,
    },
    /// Become a member of an open room.
    Join,
    /// Cease to be one.
    Leave,
    /// A message.
    Send {
        /// A JSON object, never parsed beyond the gateway.
        body: Box<RawValue>,
        /// The client's name for this send; a flow gives one where the client did not.
        nonce: Option<Nonce>,
        /// On every try but the first: the seq that the client knew at the first.
        retry: Option<u64>,
        /// Whom it mentions.
        mentions: Option<Mentions>,
    },
    /// Is typing; ephemeral, never answered.
    Typing,
    /// Has read up to `seq`; answered with the count there.
    Read {
        /// The last event read.
        seq: u64,
    },
    /// A page of the timeline, oldest first.
    History {
        /// The page ends before this seq.
        before: Option<u64>,
        /// The page begins after this seq.
        after: Option<u64>,
        /// How many messages.
        limit: u32,
    },
    /// A page of the members, by user.
    Members {
        /// The user after whom the page begins.
        cursor: Option<UserId>,
        /// How many.
        limit: u32,
    },
    /// A node asks that the user gets this room's events live. Answered with [`crate::RoomInfo`], its `live` telling whether
    /// the channel is active.
    Attach {
        /// The user's sign-in number on that node.
        signin: u64,
    },
    /// The last session of the user on that node has ended.
    Detach {
        /// The sign-in number that ended; a later attach stays.
        signin: u64,
    },
    /// The room as this user sees it, without joining its live flow.
    Peek,
    /// The heads of several rooms of the same partition; the request's own room is the first.
    Heads {
        /// The rooms.
        rooms: Vec<crate::RoomId>,
    },
    /// An event that was handed to the user's node, and that no device of the user took.
    Bounce {
        /// The event.
        seq: u64,
    },
}

impl Verb {
    /// Reads the verb `op` from its fields; `None` for an op that is none of a room's.
    ///
    /// # Errors
    /// `bad_field` or `too_large`, with the field and its rule.
    pub fn read(op: &str, fields: &Fields<'_>) -> Option<Result<Self, Refusal>> {
        Some(match op {
            "create" => read_create(fields),
            "invite" => read_users(fields, "users", true).map(|users| Self::Invite { users }),
            "join" => Ok(Self::Join),
            "leave" => Ok(Self::Leave),
            "send" => read_send(fields),
            "typing" => Ok(Self::Typing),
            "read" => read_marker(fields),
            "history" => read_history(fields),
            "members" => read_members(fields),
            "attach" => fields.required("signin").map(|signin| Self::Attach { signin }),
            "detach" => fields.required("signin").map(|signin| Self::Detach { signin }),
            "peek" => Ok(Self::Peek),
            "heads" => fields.required("rooms").map(|rooms| Self::Heads { rooms }),
            "bounce" => fields.required("seq").map(|seq| Self::Bounce { seq }),
            _ => return None,
        })
    }

    /// Whether a client may ask this; the others are said between nodes only.
    #[must_use]
    pub fn is_for_clients(&self) -> bool {
        !matches!(
            self,
            Self::Attach { .. } | Self::Detach { .. } | Self::Peek | Self::Heads { .. } | Self::Bounce { .. }
        )
    }

    /// Whether it makes a durable event.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Invite { .. } | Self::Join | Self::Leave | Self::Send { .. })
    }

    /// Whether an answer is due.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        !matches!(self, Self::Typing)
    }
}

fn read_create(fields: &Fields<'_>) -> Result<Verb, Refusal> {
    let kind = fields.optional("kind")?.unwrap_or_default();
    if kind == RoomKind::Inbox {
        return Err(Refusal::field("kind", "must be group or direct"));
    }
    let name: String = fields.optional("name")?.unwrap_or_default();
    if name.is_empty() && kind == RoomKind::Group {
        return Err(Refusal::field("name", "must not be empty"));
    }
    if name.len() > limits::NAME_BYTES {
        return Err(Refusal::too_large("name", format!("{} bytes", limits::NAME_BYTES)));
    }
    let members = read_users(fields, "members", false)?;
    if kind == RoomKind::Direct && members.len() != 1 {
        return Err(Refusal::field("members", "must name exactly one other user in a direct room"));
    }
    let access = fields.optional("access")?.unwrap_or_default();
    Ok(Verb::Create { name, kind, access, members, nonce: fields.required("nonce")? })
}

fn read_marker(fields: &Fields<'_>) -> Result<Verb, Refusal> {
    let seq = read_seq(fields, "seq")?.ok_or_else(|| Refusal::field("seq", "is required"))?;
    Ok(Verb::Read { seq })
}

fn read_users(fields: &Fields<'_>, name: &str, required: bool) -> Result<Vec<UserId>, Refusal> {
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

fn read_send(fields: &Fields<'_>) -> Result<Verb, Refusal> {
    let body = fields.raw("body").ok_or_else(|| Refusal::field("body", "is required"))?;
    check_body(body.get())?;
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

/// Checks shape, size and depth of a body, which is valid JSON already.
fn check_body(body: &str) -> Result<(), Refusal> {
    if !body.starts_with('{') {
        return Err(Refusal::field("body", "must be a JSON object"));
    }
    if body.len() > limits::BODY_BYTES {
        return Err(Refusal::too_large("body", format!("{} bytes", limits::BODY_BYTES)));
    }
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    for byte in body.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
        if depth > limits::BODY_DEPTH {
            return Err(Refusal::too_large("body", format!("{} levels deep", limits::BODY_DEPTH)));
        }
    }
    Ok(())
}

fn read_history(fields: &Fields<'_>) -> Result<Verb, Refusal> {
    let (before, after) = (read_seq(fields, "before")?, read_seq(fields, "after")?);
    if before.is_some() && after.is_some() {
        return Err(Refusal::field("before", "must not come together with after"));
    }
    Ok(Verb::History { before, after, limit: read_limit(fields, limits::PAGE_MESSAGES)? })
}

fn read_members(fields: &Fields<'_>) -> Result<Verb, Refusal> {
    Ok(Verb::Members { cursor: fields.optional("cursor")?, limit: read_limit(fields, limits::PAGE_MEMBERS)? })
}

/// The protocol's integers stay below 2^53, so that every client's JSON can hold them.
fn read_seq(fields: &Fields<'_>, name: &str) -> Result<Option<u64>, Refusal> {
    let seq: Option<u64> = fields.optional(name)?;
    if seq.is_some_and(|seq| seq >= 1 << 53) {
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

impl Serialize for Verb {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        let mut op = |op: &str| map.serialize_entry("op", op);
        match self {
            Self::Create { name, kind, access, members, nonce } => {
                op("create")?;
                map.serialize_entry("name", name)?;
                map.serialize_entry("kind", kind)?;
                map.serialize_entry("access", access)?;
                map.serialize_entry("members", members)?;
                map.serialize_entry("nonce", nonce)?;
            }
            Self::Invite { users } => {
                op("invite")?;
                map.serialize_entry("users", users)?;
            }
            Self::Join => op("join")?,
            Self::Leave => op("leave")?,
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
            Self::Bounce { seq } => {
                op("bounce")?;
                map.serialize_entry("seq", seq)?;
            }
        }
        map.end()
    }
}

/// The refusal for an op that this release does not know.
pub(crate) fn unsupported(op: &str) -> Refusal {
    let op: String = op.chars().take(64).collect();
    Refusal { field: Some("op".to_owned()), ..Refusal::new(Code::Unsupported, format!("op {op:?} is not supported")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Verb, Refusal> {
        let fields = Fields::parse(text.as_bytes()).unwrap();
        Verb::read(&fields.required::<String>("op").unwrap(), &fields).unwrap()
    }

    #[test]
    fn a_body_is_limited_in_shape_size_and_depth() {
        assert_eq!(read(r#"{"op":"send","body":[1]}"#).unwrap_err().message, "body must be a JSON object");
        let long = format!(r#"{{"op":"send","body":{{"text":"{}"}}}}"#, "x".repeat(limits::BODY_BYTES));
        assert_eq!(read(&long).unwrap_err().code, Code::TooLarge);
        let nested = |n: usize| format!(r#"{{"op":"send","body":{{"a":{}{}}}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(read(&nested(31)).is_ok());
        assert_eq!(read(&nested(32)).unwrap_err().code, Code::TooLarge);
        assert!(read(r#"{"op":"send","body":{"a":"[[[[[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}}"#).is_ok());
    }

    #[test]
    fn integers_that_json_cannot_hold_are_refused() {
        for text in
            [r#"{"op":"history","after":9007199254740992}"#, r#"{"op":"send","body":{},"retry":18446744073709551615}"#]
        {
            assert_eq!(read(text).unwrap_err().code, Code::BadField, "{text}");
        }
    }

    #[test]
    fn every_verb_comes_back_from_its_own_fields() {
        for text in [
            r#"{"op":"create","name":"n","kind":"group","access":"open","members":["a","b"],"nonce":"x"}"#,
            r#"{"op":"invite","users":["a"]}"#,
            r#"{"op":"join"}"#,
            r#"{"op":"leave"}"#,
            r#"{"op":"send","nonce":"n","retry":4,"mentions":["*"],"body":{"text":"hi"}}"#,
            r#"{"op":"typing"}"#,
            r#"{"op":"read","seq":7}"#,
            r#"{"op":"history","before":null,"after":3,"limit":10}"#,
            r#"{"op":"members","cursor":null,"limit":10}"#,
            r#"{"op":"attach","signin":3}"#,
            r#"{"op":"detach","signin":3}"#,
            r#"{"op":"peek"}"#,
            r#"{"op":"heads","rooms":["a"]}"#,
            r#"{"op":"bounce","seq":3}"#,
        ] {
            assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), text);
        }
    }
}
