//! What the nodes of one user tell each other when the user signs in: each node that presence names is asked to end
//! the older sessions of the same device, for the read markers that moved there a moment ago, and how many sessions
//! the user has there. If they are too many on all nodes together, the one that has been silent longest is ended.
//!
//! *Why exactly one session of a device remains:* take two sessions of a device on two nodes. The one with the higher
//! stamp wrote the presence key of its node later. When it reads presence after that, it finds the key of the other
//! node, if that node still has the user, and asks it until it answers. No clock decides, and nothing that may be lost.
//!
//! *Why no session too many is ended:* a node is told how many sessions it may keep, not how many to end, so that two
//! who ask for the same, or one who asks twice, end one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use sendpi_bus::subject::{self, NodeSubject};
use sendpi_bus::{Revision, Subscription};
use sendpi_model::server_frame::MarkerFrame;
use sendpi_model::{DeviceId, NodeId, UserId, encode_json, limits};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::context::NodeContext;
use crate::keys::SessionKey;
use crate::state::devices::OpenSessions;

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
    /// How many sessions the user may keep there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<usize>,
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
    /// How many open sessions the user has there.
    #[serde(default)]
    sessions: usize,
    /// For how long the one of them has been silent that has been so longest, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    silent_ms: Option<u64>,
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
    let mut others: HashMap<NodeId, OpenSessions> = HashMap::new();
    let mut are_counts_new = false;
    loop {
        let stamped = node.state.lock().stamped(session);
        let Some((device, stamp)) = stamped else { return };
        if let Some(online) = node.presence.read(vec![user.clone()]).await {
            let named = online.into_values().flatten().map(|(other, _)| other);
            let named: HashSet<NodeId> = named.filter(|other| other != node.bus.node()).collect();
            others.retain(|other, _| named.contains(other));
            let question = SignInQuestion { v: VERSION, user: user.clone(), device, stamp, keep: None };
            let open = named.iter().filter(|other| !others.contains_key(*other));
            let asks = open.map(|other| async { (other.clone(), ask(&node, session, other, &question).await) });
            let answers = futures_util::future::join_all(asks).await;
            others.extend(answers.into_iter().filter_map(|(other, sessions)| Some((other, sessions?))));
            if others.len() == named.len() {
                let elsewhere: usize = others.values().map(|sessions| sessions.count).sum();
                if !is_too_many(&node, session, &user, elsewhere) {
                    return;
                }
                // What the first node answered may have changed while others were asked.
                if !std::mem::replace(&mut are_counts_new, true) {
                    others.clear();
                    continue;
                }
                let Some((other, keep)) = end_most_silent(&node, session, &user, &others) else { return };
                let question = SignInQuestion { keep: Some(keep), ..question };
                if let Some(sessions) = ask(&node, session, &other, &question).await {
                    others.insert(other, sessions);
                    continue;
                }
            }
        }
        sleep(PAUSE).await;
    }
}

/// Returns whether the user has too many sessions, and it is for this session to end one. If the user has opened a
/// further one here, it is for that.
fn is_too_many(node: &NodeContext, session: SessionKey, user: &UserId, elsewhere: usize) -> bool {
    let state = node.state.lock();
    let here = state.open_sessions(user, Some(session));
    here.count + elsewhere > limits::USER_SESSIONS && state.is_newest(session)
}

/// Ends the session of the user that has been silent longest if it is on this node. If it is on another, returns that
/// node, and how many it may keep. Goes on until they are no longer too many.
fn end_most_silent(
    node: &Arc<NodeContext>,
    session: SessionKey,
    user: &UserId,
    others: &HashMap<NodeId, OpenSessions>,
) -> Option<(NodeId, usize)> {
    let elsewhere: usize = others.values().map(|sessions| sessions.count).sum();
    let silent = others.iter().filter_map(|(other, sessions)| Some((sessions.heard?, other, sessions.count)));
    let silent = silent.min();
    while is_too_many(node, session, user, elsewhere) {
        let here = node.state.lock().open_sessions(user, Some(session));
        match (here.heard, silent) {
            (None, None) => return None,
            (Some(heard), Some((other, ..))) if heard < other => {}
            (Some(_), None) => {}
            (_, Some((_, other, count))) => return Some((other.clone(), count.saturating_sub(1))),
        }
        node.with(|state, effects| state.keep_sessions_of(user, here.count - 1, Some(session), effects));
    }
    None
}

/// Asks one node. Returns the sessions of the user there. `None` if it must be asked again.
async fn ask(
    node: &Arc<NodeContext>,
    session: SessionKey,
    other: &NodeId,
    question: &SignInQuestion,
) -> Option<OpenSessions> {
    let subject = subject::node(other, NodeSubject::SignOut);
    let answer = match node.bus.request(subject, Bytes::from(encode_json(question))).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%error, node = %other, "a node of a user did not answer a sign-in; it is asked again");
            return None;
        }
    };
    let answer: SignInAnswer = match serde_json::from_slice(answer.payload()) {
        Ok(answer) => answer,
        Err(error) => {
            tracing::warn!(%error, node = %other, "an answer to a sign-in is unreadable");
            return Some(OpenSessions::default());
        }
    };
    node.hear_markers(&question.user, &answer.markers);
    let heard = answer.silent_ms.and_then(|silent| Instant::now().checked_sub(Duration::from_millis(silent)));
    let sessions = Some(OpenSessions { count: answer.sessions, heard });
    let Some(newer) = answer.newer else { return sessions };
    match node.node_key.refresh().await {
        Some(now) if now >= newer => {
            node.with(|state, effects| state.replaced(session, effects));
            sessions
        }
        // The bucket was made anew, so that its revisions began again: this session is the newer one.
        Some(_) => {
            node.with(|state, effects| state.stamp(session, newer + 1, effects));
            None
        }
        None => None,
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
        let SignInQuestion { user, device, stamp, keep, .. } = question;
        let (newer, sessions) = node.with(|state, effects| {
            let newer = device.and_then(|device| state.signed_in_elsewhere(&user, &device, stamp, effects));
            if let Some(keep) = keep {
                state.keep_sessions_of(&user, keep, None, effects);
            }
            (newer, state.open_sessions(&user, None))
        });
        let answer = SignInAnswer {
            v: VERSION,
            newer,
            markers: node.markers.moved_lately(&user),
            sessions: sessions.count,
            silent_ms: sessions.heard.map(|heard| heard.elapsed().as_millis() as u64),
        };
        if let Err(error) = node.bus.publish(reply.to_owned(), encode_json(&answer).into()).await {
            tracing::debug!(%error, "could not answer a question about a sign-in; it comes again");
        }
    }
}
