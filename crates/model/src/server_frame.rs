//! The frames that a server sends, one type for each op. The server writes the types that nodes and clients read.
//!
//! A frame is one JSON object whose first field is `op`. Only an answer to a client has another field before it,
//! the `id` of the client's frame ([`with_id`]). Events are in [`crate::Event`], which encodes each event once for
//! all recipients.

mod answer;
mod notice;
mod page;
#[cfg(test)]
mod tests;

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Error as _, MapAccess, Visitor};

pub use answer::{HeadsAnswer, OkAnswer, Pong, Resumed, ResumedRoom, Welcome, WelcomeLimits};
pub use notice::{Bye, EventFrame, MarkerFrame, Ping, RoomAdded, RoomRemoved, ServerFrame};
pub use page::{EventPage, MemberEntry, MembersPage, RoomsPage};

use crate::fields::Name;
use crate::{FrameId, Refusal, encode_json};

/// A frame whose type determines its op.
pub trait OpFrame: Serialize {
    /// The value of `op`.
    const OP: &'static str;

    /// Encodes the frame, beginning with its op.
    #[must_use]
    fn to_frame(&self) -> Vec<u8>
    where
        Self: Sized,
    {
        #[derive(Serialize)]
        struct Frame<'a, T> {
            op: &'static str,
            #[serde(flatten)]
            fields: &'a T,
        }
        encode_json(&Frame { op: Self::OP, fields: self })
    }
}

impl OpFrame for Refusal {
    const OP: &'static str = "error";
}

/// Inserts the `id` of a client's frame into its answer, which was encoded without one: `{"op":…}` becomes
/// `{"id":7,"op":…}`.
#[must_use]
pub fn with_id(answer: &[u8], id: Option<&FrameId>) -> Vec<u8> {
    let Some(id) = id else { return answer.to_vec() };
    let id = id.as_json().as_bytes();
    crate::JsonObject::with_capacity(answer.len() + id.len() + 6).encoded_field("id", id).fields_of(answer).finish()
}

/// The reason why an answer is not of the expected op.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The answer is a refusal.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The answer is of another op, or is not a frame at all. Its writer has a defect.
    #[error("the answer cannot be read")]
    Malformed(#[source] serde_json::Error),
}

/// Reads, in one pass, an answer of the op of `T`, or the refusal that came in its place.
///
/// # Errors
/// Returns [`AnswerError::Refused`] if the answer is a refusal, and [`AnswerError::Malformed`] if it cannot be read.
pub fn read_answer<'a, T: OpFrame + Deserialize<'a>>(answer: &'a [u8]) -> Result<T, AnswerError> {
    let mut deserializer = serde_json::Deserializer::from_slice(answer);
    let frame = serde::Deserializer::deserialize_map(&mut deserializer, OpFirst(PhantomData))
        .and_then(|frame| deserializer.end().map(|()| frame))
        .map_err(AnswerError::Malformed)?;
    frame.map_err(AnswerError::Refused)
}

/// Visits an object whose first field is `op`. The other fields are those of `T` or of a refusal.
struct OpFirst<T>(PhantomData<T>);

impl<'de, T: OpFrame + Deserialize<'de>> Visitor<'de> for OpFirst<T> {
    type Value = Result<T, Refusal>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the op {} or error", T::OP)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Name(op) = match map.next_key()? {
            Some(Name(name)) if name == "op" => map.next_value()?,
            _ => return Err(A::Error::custom("the first field is not op")),
        };
        let fields = MapAccessDeserializer::new(map);
        if op == T::OP {
            T::deserialize(fields).map(Ok)
        } else if op == Refusal::OP {
            Refusal::deserialize(fields).map(Err)
        } else {
            Err(A::Error::custom(format!("op is {op}")))
        }
    }
}
