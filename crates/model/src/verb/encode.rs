//! Encodes a verb, under the field names by which it is read.

use serde::Serialize;

use super::Verb;

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
