//! The format of a flow: the ordered requests of one node to one partition, as JSON with a version.
//!
//! A message is `{"v":2,"node":"…","low":3,"reqs":[{"n":3,"room":"r1","from":"ann","op":"send",…},…]}`.
//! `low` is the flow's lowest unanswered number. An owner that does not know the flow begins there. A request that
//! is resent says in `first_at` when it was first sent. `service` says that a service sends it as itself. No field
//! here may have the name of a field of a verb.

use serde::{Deserialize, Serialize};

use crate::verb::unsupported;
use crate::{Fields, JsonObject, Millis, NodeId, Refusal, RoomId, UserId, Verb, encode_json};

/// The version of this format.
pub const VERSION: u8 = 2;

/// One request of a flow.
#[derive(Debug, Clone)]
pub struct FlowRequest {
    /// The number of the request in the flow.
    pub n: u64,
    /// The room that the request is sent to.
    pub room: RoomId,
    /// The user on whose behalf it is sent, or the service.
    pub user: UserId,
    /// Whether a service sends it as itself.
    pub is_service: bool,
    /// When the request was first sent. `None` if this is the first time.
    pub first: Option<Millis>,
    /// The request itself.
    pub verb: Verb,
}

/// On whose behalf a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requester<'a> {
    /// A user.
    User(&'a UserId),
    /// A service, as itself.
    Service(&'a UserId),
}

impl<'a> Requester<'a> {
    /// Returns the id of the user or the service.
    #[must_use]
    pub fn id(self) -> &'a UserId {
        match self {
            Self::User(id) | Self::Service(id) => id,
        }
    }
}

impl FlowRequest {
    /// Returns on whose behalf the request is sent.
    #[must_use]
    pub fn requester(&self) -> Requester<'_> {
        if self.is_service { Requester::Service(&self.user) } else { Requester::User(&self.user) }
    }
}

/// Encodes a request without its number, which [`encode_message`] adds in front.
#[must_use]
pub fn encode_request(room: &RoomId, requester: Requester<'_>, verb: &Verb) -> Vec<u8> {
    #[derive(Serialize)]
    struct Unnumbered<'a> {
        room: &'a RoomId,
        from: &'a UserId,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        service: bool,
        #[serde(flatten)]
        verb: &'a Verb,
    }
    let (from, service) = match requester {
        Requester::User(user) => (user, false),
        Requester::Service(service) => (service, true),
    };
    encode_json(&Unnumbered { room, from, service, verb })
}

/// One request as a flow keeps it until it is answered.
#[derive(Debug, Clone, Copy)]
pub struct NumberedRequest<'a> {
    /// The number of the request.
    pub n: u64,
    /// When the request was first sent. `None` if this is the first time.
    pub first: Option<Millis>,
    /// The request as [`encode_request`] encoded it.
    pub request: &'a [u8],
}

/// Encodes one message of a flow.
#[must_use]
pub fn encode_message<'a>(node: &NodeId, low: u64, requests: impl IntoIterator<Item = NumberedRequest<'a>>) -> Vec<u8> {
    JsonObject::with_capacity(512)
        .field("v", &VERSION)
        .field("node", node)
        .field("low", &low)
        .object_list("reqs", requests, |object, NumberedRequest { n, first, request }| {
            let object = object.field("n", &n);
            let object = if let Some(first) = first { object.field("first_at", &first) } else { object };
            object.fields_of(request)
        })
        .finish()
}

/// One message of a flow, as the owner of the partition reads it.
#[derive(Debug)]
pub struct FlowMessage {
    /// The node whose flow this is.
    pub node: NodeId,
    /// The lowest number that was unanswered when the message was sent.
    pub low: u64,
    /// The requests, each with its number. A request that cannot be read keeps its place and its number. The number
    /// is 0 if that cannot be read either.
    pub requests: Vec<(u64, Result<FlowRequest, Refusal>)>,
}

/// The reason why a message of a flow cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// The message is not of this format.
    #[error("not a flow message: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The message is of a version that this release does not know.
    #[error("flow version {0} is not supported")]
    Version(u8),
}

impl FlowMessage {
    /// Reads a message.
    ///
    /// # Errors
    /// Returns [`FlowError`] if nothing of the message can be used.
    pub fn parse(bytes: &[u8]) -> Result<Self, FlowError> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            v: u8,
            node: NodeId,
            low: u64,
            #[serde(borrow)]
            reqs: Vec<Fields<'a>>,
        }
        let wire: Wire<'_> = serde_json::from_slice(bytes)?;
        if wire.v != VERSION {
            return Err(FlowError::Version(wire.v));
        }
        let number = |fields: &Fields<'_>| fields.required::<u64>("n").unwrap_or(0);
        let requests = wire.reqs.iter().map(|fields| (number(fields), read(fields))).collect();
        Ok(Self { node: wire.node, low: wire.low, requests })
    }
}

fn read(fields: &Fields<'_>) -> Result<FlowRequest, Refusal> {
    let op: String = fields.required("op")?;
    Ok(FlowRequest {
        n: fields.required("n")?,
        room: fields.required("room")?,
        user: fields.required("from")?,
        is_service: fields.optional("service")?.unwrap_or(false),
        first: fields.optional("first_at")?,
        verb: Verb::read(&op, fields).ok_or_else(|| unsupported(&op))??,
    })
}

/// The refusal of a whole flow, which a worker sends to the flow's reply subject. NATS itself reports no responders
/// on the same subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowRefusal {
    /// The worker does not own the partition at the moment. The flow resends all unanswered requests.
    NotOwner,
}

/// The version of [`OrphanReport`].
pub const ORPHAN_VERSION: u8 = 1;

/// The report that nobody answers for a partition. Nodes send it, and workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanReport {
    /// The version of this format.
    pub v: u8,
    /// The owner, if the sender is a worker and NATS told it for a while that nobody listens there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<NodeId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn requests_come_back_in_order_and_an_unknown_verb_keeps_its_place() {
        let (node, room) = (NodeId::parse("n1").unwrap(), RoomId::parse("r\"1").unwrap());
        let user = UserId::parse("ann").unwrap();
        let typing = encode_request(&room, Requester::User(&user), &Verb::Typing);
        let unknown = br#"{"room":"r","from":"u","op":"dance"}"#;
        let bytes = encode_message(
            &node,
            3,
            [
                NumberedRequest { n: 3, first: Some(Millis(9)), request: &typing },
                NumberedRequest { n: 4, first: None, request: unknown },
            ],
        );
        let message = FlowMessage::parse(&bytes).unwrap();
        assert_eq!((message.node, message.low), (node, 3));
        let first = message.requests[0].1.as_ref().unwrap();
        assert_eq!((first.n, &first.room, first.first), (3, &room, Some(Millis(9))));
        assert_eq!(message.requests[1].0, 4);
        assert_eq!(message.requests[1].1.as_ref().unwrap_err().code, Code::Unsupported);
    }

    #[test]
    fn no_field_of_a_verb_is_taken_for_one_of_the_flow() {
        let (node, room, user) =
            (NodeId::parse("n1").unwrap(), RoomId::parse("r").unwrap(), UserId::parse("ann").unwrap());
        for verb in [
            r#"{"op":"bounce","first":3,"last":5}"#,
            r#"{"op":"kick","user":"bob","nonce":"n"}"#,
            r#"{"op":"edit","ref":3,"body":{},"nonce":"n"}"#,
            r#"{"op":"role","user":"bob","role":"admin","nonce":"n"}"#,
        ] {
            let fields = Fields::parse(verb.as_bytes()).unwrap();
            let op: String = fields.required("op").unwrap();
            let request = encode_request(&room, Requester::User(&user), &Verb::read(&op, &fields).unwrap().unwrap());
            for first in [None, Some(Millis(1_790_000_000_000))] {
                let bytes = encode_message(&node, 1, [NumberedRequest { n: 7, first, request: &request }]);
                let mut message = FlowMessage::parse(&bytes).unwrap();
                let read = message.requests.remove(0).1.unwrap();
                assert_eq!((&read.user, read.first), (&user, first), "{verb}");
                assert_eq!(serde_json::to_string(&read.verb).unwrap(), verb);
            }
        }
    }

    #[test]
    fn another_version_is_refused_whole() {
        assert!(matches!(FlowMessage::parse(br#"{"v":1,"node":"n","low":1,"reqs":[]}"#), Err(FlowError::Version(1))));
    }
}
