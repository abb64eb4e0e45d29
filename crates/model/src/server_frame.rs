//! The frames that a server sends, one type for each op. The server writes the types that nodes and clients read.
//!
//! A frame is one JSON object whose first field is `op`. Only an answer to a client has another field before it,
//! the `id` of the client's frame ([`with_id`]). Events are in [`crate::Event`], which encodes each event once for
//! all recipients.

mod answer;
mod notice;
mod page;
mod read;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use answer::{HeadsAnswer, OkAnswer, Pong, Resumed, ResumedRoom, Welcome, WelcomeLimits};
pub use notice::{Bye, EventFrame, MarkerFrame, Ping, RoomAdded, RoomRemoved, ServerFrame};
pub use page::{EventPage, MemberEntry, MembersPage, RoomsPage};
pub use read::{AnswerError, read_answer};

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
