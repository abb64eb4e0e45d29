//! Checked ids. An id is parsed once, at the edge, and is valid from then on.
//!
//! Clients and tokens may not name an id with an invisible format character ([`check_characters`]). The types allow it,
//! because stores may hold ids that are older than this rule.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::characters::{is_format, is_space_or_control};

/// The rule that a text breaks, so that it is not an id. The error text is meant for the sender of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("must not be empty")]
    Empty,
    /// The text is longer than the given number of bytes.
    #[error("must be at most {0} bytes")]
    TooLong(usize),
    /// The text contains a space, a control character or an invisible format character.
    #[error("must not contain spaces, control or invisible format characters")]
    BadCharacter,
    /// The text begins with `=`, which is reserved for ids that Sendpi derives.
    #[error("must not begin with '='")]
    Reserved,
}

/// The maximum length of an id that a client may choose, in bytes.
const CHOSEN_MAX: usize = 128;
/// The maximum length of an id that Sendpi derives, in bytes. The id of a direct room contains two encoded user ids.
const DERIVED_MAX: usize = 1024;

fn check(text: &str, max: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > max {
        return Err(IdError::TooLong(max));
    }
    if text.chars().any(is_space_or_control) {
        return Err(IdError::BadCharacter);
    }
    Ok(())
}

/// Checks the characters of an id that a client or a token names: categories Z*, Cc and Cf are refused.
pub(crate) fn check_characters(text: &str) -> Result<(), IdError> {
    if text.chars().any(|c| is_space_or_control(c) || is_format(c)) { Err(IdError::BadCharacter) } else { Ok(()) }
}

fn check_chosen(text: &str) -> Result<(), IdError> {
    if text.starts_with('=') {
        return Err(IdError::Reserved);
    }
    check(text, CHOSEN_MAX)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and returns it as an id.
            ///
            /// # Errors
            /// Returns the rule that `text` breaks.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let check: fn(&str) -> Result<(), IdError> = $check;
                check(text)?;
                Ok(Self(text.into()))
            }

            /// Returns the id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                String::schema()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(d)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// The id of a room. Sendpi derives the ids that begin with `=`: `=u:<user>` is an inbox, `=d:…` is a direct
    /// room, and `=c:…` is a room whose creator did not choose an id.
    RoomId,
    |t| check(t, DERIVED_MAX)
);
id!(
    /// The id of a user, or of a service that acts under its own name.
    UserId,
    check_chosen
);
id!(
    /// The id of one device of a user, chosen by its client.
    DeviceId,
    check_chosen
);
id!(
    /// The id of a running `sendpi` process, or of one of the contexts of `sendpi dev --nodes`. It is
    /// new at every start.
    NodeId,
    check_chosen
);
id!(
    /// A client's name for one send: the same sender and nonce mean the same event. Any text of 1 to 64 bytes is valid.
    Nonce,
    |t| match t.len() {
        0 => Err(IdError::Empty),
        1..=64 => Ok(()),
        _ => Err(IdError::TooLong(64)),
    }
);

impl UserId {
    /// Checks an id that a token or a client names. Unlike [`UserId::parse`], it refuses invisible format characters.
    ///
    /// # Errors
    /// Returns the rule that `text` breaks.
    pub fn parse_chosen(text: &str) -> Result<Self, IdError> {
        check_characters(text)?;
        Self::parse(text)
    }
}

impl NodeId {
    /// Returns the name under which a worker's own requests are answered. No node has it, because ids that begin with
    /// `=` cannot be chosen.
    #[must_use]
    pub fn own_requests() -> Self {
        Self("=own".into())
    }
}

impl DeviceId {
    /// Checks an id that a client names. Unlike [`DeviceId::parse`], it refuses invisible format characters.
    ///
    /// # Errors
    /// Returns the rule that `text` breaks.
    pub fn parse_chosen(text: &str) -> Result<Self, IdError> {
        check_characters(text)?;
        Self::parse(text)
    }
}

impl Nonce {
    /// Returns a text as a nonce, or what stands for a text that is none.
    #[must_use]
    pub fn standing_for(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|_| Self(format!("=h:{}", hex_of(&Sha256::digest(text))).into()))
    }
}

/// Returns the first 16 bytes of a hash as hexadecimal digits.
fn hex_of(hash: &[u8]) -> String {
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

impl RoomId {
    /// Checks an id that a client chose for a new room. Unlike [`RoomId::parse`], it refuses derived ids, ids
    /// that are longer than a client may choose, and invisible format characters.
    ///
    /// # Errors
    /// Returns the rule that `text` breaks.
    pub fn parse_chosen(text: &str) -> Result<Self, IdError> {
        check_chosen(text)?;
        check_characters(text)?;
        Ok(Self(text.into()))
    }

    /// Returns the inbox of `user`: the room in which services write to this user.
    #[must_use]
    pub fn inbox(user: &UserId) -> Self {
        Self(format!("=u:{user}").into())
    }

    /// Returns the user whose inbox this is. `None` if the room is not an inbox.
    #[must_use]
    pub fn inbox_owner(&self) -> Option<&str> {
        self.0.strip_prefix("=u:")
    }

    /// Returns the only direct room of two users. The order of the users does not matter.
    #[must_use]
    pub fn direct(a: &UserId, b: &UserId) -> Self {
        let (a, b) = if a <= b { (a, b) } else { (b, a) };
        let (a, b) = (crate::subject_token::encode(a.as_str()), crate::subject_token::encode(b.as_str()));
        Self(format!("=d:{a}:{b}").into())
    }

    /// Returns the room that `creator` creates with `nonce` without choosing an id. Two creations with the same
    /// creator and nonce are one room.
    #[must_use]
    pub fn created(creator: &UserId, nonce: &Nonce) -> Self {
        let mut hash = Sha256::new();
        hash.update((creator.as_str().len() as u64).to_le_bytes());
        hash.update(creator.as_str());
        hash.update(nonce.as_str());
        Self(format!("=c:{}", hex_of(&hash.finalize())).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_not_choose_a_derived_id() {
        assert_eq!(RoomId::parse_chosen("=u:ann"), Err(IdError::Reserved));
        assert_eq!(UserId::parse("=x"), Err(IdError::Reserved));
        assert!(RoomId::parse("=u:ann").is_ok());
    }

    #[test]
    fn spaces_and_length_are_refused_with_the_rule() {
        assert_eq!(UserId::parse(""), Err(IdError::Empty));
        assert_eq!(UserId::parse("a b"), Err(IdError::BadCharacter));
        assert_eq!(UserId::parse_chosen("a\u{200b}b"), Err(IdError::BadCharacter));
        assert_eq!(UserId::parse(&"x".repeat(129)), Err(IdError::TooLong(128)));
    }

    #[test]
    fn a_direct_room_is_the_same_from_both_sides_and_no_other_pair_has_it() {
        let id = |t: &str| UserId::parse(t).unwrap();
        assert_eq!(RoomId::direct(&id("a"), &id("b")), RoomId::direct(&id("b"), &id("a")));
        assert_ne!(RoomId::direct(&id("a:b"), &id("c")), RoomId::direct(&id("a"), &id("b:c")));
    }
}
