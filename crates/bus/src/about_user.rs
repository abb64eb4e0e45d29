//! The question to the nodes of a user: how many sessions the user has there, and up to which event of a room they
//! have.

use bytes::Bytes;
use futures_util::StreamExt;
use sendpi_model::{NodeId, RoomId, UserId, encode_json};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::subject::{self, NodeSubject};
use crate::{Bus, SendError};

/// The question.
#[derive(Debug, Serialize, Deserialize)]
struct SessionsQuestion {
    v: u8,
    user: UserId,
    room: RoomId,
}

/// The sessions of a user on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSessions {
    /// The node.
    pub node: NodeId,
    /// How many sessions there are.
    pub sessions: usize,
    /// Up to which event of the room they have. `None` if the node does not follow the room for the user.
    pub seq: Option<u64>,
}

/// Asks these nodes. One that does not answer is left out.
pub async fn ask_sessions(bus: &Bus, nodes: &[NodeId], room: &RoomId, user: &UserId) -> Vec<NodeSessions> {
    let question = Bytes::from(encode_json(&SessionsQuestion { v: 1, user: user.clone(), room: room.clone() }));
    let mut answers = Vec::new();
    for node in nodes {
        match bus.request(subject::node(node, NodeSubject::Sessions), question.clone()).await {
            Ok(answer) => answers.extend(serde_json::from_slice::<NodeSessions>(answer.payload()).ok()),
            Err(error) => tracing::debug!(%error, %node, "a node did not say what sessions it has"),
        }
    }
    answers
}

/// Answers that question for this node until `stop` is cancelled. `look` returns how many sessions the user has, and up
/// to which event of the room.
///
/// # Errors
/// [`SendError`] if the connection is closed.
pub async fn answer_sessions(
    bus: &Bus,
    stop: CancellationToken,
    look: impl Fn(&UserId, &RoomId) -> (usize, Option<u64>) + Send + 'static,
) -> Result<(), SendError> {
    let mut questions = bus.subscribe(subject::node(bus.node(), NodeSubject::Sessions)).await?;
    let bus = bus.clone();
    tokio::spawn(async move {
        while let Some(Some(message)) = stop.run_until_cancelled(questions.next()).await {
            let Some(reply) = message.reply().filter(|reply| subject::is_inbox(reply)) else { continue };
            let Ok(SessionsQuestion { user, room, .. }) = serde_json::from_slice(message.payload()) else { continue };
            let (sessions, seq) = look(&user, &room);
            let answer = encode_json(&NodeSessions { node: bus.node().clone(), sessions, seq });
            if let Err(error) = bus.publish(reply.to_owned(), answer.into()).await {
                tracing::debug!(%error, "could not say what sessions there are");
            }
        }
    });
    Ok(())
}
