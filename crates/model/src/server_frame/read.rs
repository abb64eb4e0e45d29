//! Reads, in one pass, an answer of the expected op or the refusal that came in its place.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Error as _, MapAccess, Visitor};

use super::OpFrame;
use crate::Refusal;
use crate::fields::Name;

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

/// Reads an answer of the op of `T`.
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
