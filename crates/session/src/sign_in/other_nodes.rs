//! What the nodes of one user tell each other when the user signs in: each node that presence names is asked to end
//! the older sessions of the same device, and for the read markers that moved there a moment ago.
//!
//! *Why exactly one session of a device remains:* take two sessions of a device on two nodes. The one with the higher
//! stamp wrote the presence key of its node later. When it reads presence after that, it finds the key of the other
//! node, if that node still has the user, and asks it until it answers. No clock decides, and nothing that may be lost.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use sendpi_bus::subject::{self, NodeSubject};
use sendpi_bus::{Revision, Subscription};
use sendpi_model::server_frame::MarkerFrame;
use sendpi_model::{DeviceId, NodeId, UserId, encode_json};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::context::NodeContext;
use crate::keys::SessionKey;

/// The version of this format.
const VERSION: u8 = 1;
/// The pause before a node that did not answer is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// The question to another node. A node ignores fields that it does not know.
#[derive(Debug, Serialize, Deserialize)]
struct SignInQuestion {
    v: u8,
    user: UserId,
    /// The device that signed in. `None` if the client named none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<DeviceId>,
    /// The stamp of the session.
    stamp: Revision,
}

/// The answer of another node.
#[derive(Debug, Serialize, Deserialize)]
struct SignInAnswer {
    v: u8,
    /// The stamp of a newer session of the same device, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    newer: Option<Revision>,
    /// The user's read markers that moved there lately and may not be in the store yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    markers: Vec<MarkerFrame>,
}

/// Sets the stamp of a session, and asks the user's other nodes until all have answered or the session is ending.
/// `stamp` is the revision of a write that began after the session had joined. Without one the presence key is written
/// again.
pub(crate) async fn tell(node: Arc<NodeContext>, session: SessionKey, user: UserId, stamp: Option<Revision>) {
    let stamp = match stamp {
        Some(stamp) => Some(stamp),
        None => node.keys.put_again(&user).await,
    };
    // Without a revision the user has signed out.
    let Some(stamp) = stamp else { return };
    if node.with(|state, effects| state.stamp(session, stamp, effects)) {
        ask_all(node, session, user).await;
    }
}

/// Asks the user's other nodes until all have answered or the session is ending.
pub(crate) async fn ask_all(node: Arc<NodeContext>, session: SessionKey, user: UserId) {
    let mut answered: HashSet<NodeId> = HashSet::from([node.bus.node().clone()]);
    loop {
        let stamped = node.state.lock().stamped(session);
        let Some((device, stamp)) = stamped else { return };
        if let Some(online) = node.presence.read(vec![user.clone()]).await {
            let named = online.into_values().flatten().map(|(other, _)| other);
            let open: Vec<NodeId> = named.filter(|other| !answered.contains(other)).collect();
            let question = SignInQuestion { v: VERSION, user: user.clone(), device, stamp };
            let question = Bytes::from(encode_json(&question));
            let asks = open.iter().map(|other| ask(&node, session, &user, other, question.clone()));
            let answers = futures_util::future::join_all(asks).await;
            let done = answers.iter().all(|done| *done);
            answered.extend(open.into_iter().zip(answers).filter(|(_, done)| *done).map(|(other, _)| other));
            if done {
                return;
            }
        }
        sleep(PAUSE).await;
    }
}

/// Asks one node. Returns `false` if it must be asked again.
async fn ask(node: &Arc<NodeContext>, session: SessionKey, user: &UserId, other: &NodeId, question: Bytes) -> bool {
    let answer = match node.bus.request(subject::node(other, NodeSubject::SignOut), question).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%error, node = %other, "a node of a user did not answer a sign-in; it is asked again");
            return false;
        }
    };
    let answer: SignInAnswer = match serde_json::from_slice(answer.payload()) {
        Ok(answer) => answer,
        Err(error) => {
            tracing::warn!(%error, node = %other, "an answer to a sign-in is unreadable");
            return true;
        }
    };
    node.hear_markers(user, &answer.markers);
    let Some(newer) = answer.newer else { return true };
    match node.node_key.refresh().await {
        Some(now) if now >= newer => {
            node.with(|state, effects| state.replaced(session, effects));
            true
        }
        // The bucket was made anew, so that its revisions began again: this session is the newer one.
        Some(_) => {
            node.with(|state, effects| state.stamp(session, newer + 1, effects));
            false
        }
        None => false,
    }
}

/// Answers the questions of other nodes until the node's shutdown.
pub(crate) async fn run(node: Arc<NodeContext>, mut questions: Subscription) {
    while let Some(Some(message)) = node.shutdown.run_until_cancelled(questions.next()).await {
        let Some(reply) = message.reply().filter(|reply| subject::is_inbox(reply)) else { continue };
        let question: SignInQuestion = match serde_json::from_slice(message.payload()) {
            Ok(question) => question,
            Err(error) => {
                tracing::debug!(%error, "ignored an unreadable question about a sign-in");
                continue;
            }
        };
        let SignInQuestion { user, device, stamp, .. } = question;
        let newer = device
            .and_then(|device| node.with(|state, effects| state.signed_in_elsewhere(&user, &device, stamp, effects)));
        let answer = SignInAnswer { v: VERSION, newer, markers: node.markers.moved_lately(&user) };
        if let Err(error) = node.bus.publish(reply.to_owned(), encode_json(&answer).into()).await {
            tracing::debug!(%error, "could not answer a question about a sign-in; it comes again");
        }
    }
}
