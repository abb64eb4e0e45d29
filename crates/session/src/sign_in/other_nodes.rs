//! What the nodes of one user tell each other when the user signs in: each node that presence names is asked to end
//! the older sessions of the same device, for the read markers that moved there a moment ago, and how many sessions
//! the user has there. If they are too many on all nodes together, the one that has been silent longest is ended.
//!
//! *Why exactly one session of a device remains:* take two sessions of a device on two nodes. The one with the higher
//! stamp wrote the presence key of its node later. When it reads presence after that, it finds the key of the other
//! node, if that node still has the user, and asks it until it answers. No clock decides, and nothing that may be lost.
//!
//! *Why no session too many is ended:* only the session with the highest stamp of all ends others, one at a time, each
//! after all nodes have told again how many there are. It names the one to be ended, so that asking twice ends one.

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
use slotmap::{Key, KeyData};
use tokio::time::{Instant, sleep};

use crate::context::NodeContext;
use crate::keys::SessionKey;
use crate::state::devices::OpenSessions;

/// The version of this format.
const VERSION: u8 = 1;
/// The pause before a node that did not answer is asked again.
const PAUSE: Duration = Duration::from_millis(200);
/// The pause before the sessions of a user who has too many are counted again.
const COUNT_AGAIN: Duration = Duration::from_secs(1);

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
    /// The session there that is to be ended, because the user has too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<u64>,
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
    /// The one of them that has been silent longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    silent: Option<SilentSession>,
    /// The highest stamp of them.
    #[serde(default)]
    stamp: Revision,
}

/// A session, and for how long it has been silent.
#[derive(Debug, Serialize, Deserialize)]
struct SilentSession {
    session: u64,
    ms: u64,
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
    let mut counts: HashMap<NodeId, usize> = HashMap::new();
    loop {
        let stamped = node.state.lock().stamped(session);
        let Some((device, stamp)) = stamped else { return };
        let mut pause = PAUSE;
        if let Some(online) = node.presence.read(vec![user.clone()]).await {
            let named = online.into_values().flatten().map(|(other, _)| other);
            let named: HashSet<NodeId> = named.filter(|other| other != node.bus.node()).collect();
            counts.retain(|other, _| named.contains(other));
            let question = SignInQuestion { v: VERSION, user: user.clone(), device, stamp, end: None };
            let open = named.iter().filter(|other| !counts.contains_key(*other));
            let answers = ask_each(&node, session, open, &question).await;
            counts.extend(answers.into_iter().filter_map(|(other, there)| Some((other, there?.count))));
            if counts.len() == named.len() {
                let here = node.state.lock().open_sessions(&user, Some(session)).count;
                if here + counts.values().sum::<usize>() <= limits::USER_SESSIONS {
                    return;
                }
                // Devices that are just moving from node to node are counted twice for a moment.
                sleep(COUNT_AGAIN).await;
                if end_one_too_many(&node, session, &question, &named).await {
                    return;
                }
                pause = Duration::ZERO;
            }
        }
        sleep(pause).await;
    }
}

/// Asks several nodes at once.
async fn ask_each(
    node: &Arc<NodeContext>,
    session: SessionKey,
    others: impl Iterator<Item = &NodeId>,
    question: &SignInQuestion,
) -> Vec<(NodeId, Option<OpenSessions>)> {
    let asks = others.map(|other| async { (other.clone(), ask(node, session, other, question).await) });
    futures_util::future::join_all(asks).await
}

/// Counts the sessions of the user on all nodes again. If there are too many and this session is the newest of all,
/// ends the one that has been silent longest. Returns whether there are not too many.
async fn end_one_too_many(
    node: &Arc<NodeContext>,
    session: SessionKey,
    question: &SignInQuestion,
    named: &HashSet<NodeId>,
) -> bool {
    let mut there = Vec::new();
    for (other, sessions) in ask_each(node, session, named.iter(), question).await {
        let Some(sessions) = sessions else { return false };
        there.push((other, sessions));
    }
    let (elsewhere, stamp) =
        there.iter().fold((0, 0), |(count, stamp), (_, there)| (count + there.count, there.stamp.max(stamp)));
    let highest = stamp.max(node.state.lock().open_sessions(&question.user, Some(session)).stamp);
    if question.stamp < highest {
        // A bucket that was made anew began its revisions again. Then the older sessions have the higher stamps.
        if node.node_key.refresh().await.is_some_and(|now| now < highest) {
            node.with(|state, effects| state.stamp(session, highest + 1, effects));
        }
        return false;
    }
    let silent = there.into_iter().filter_map(|(other, sessions)| Some((sessions.silent?, other))).min();
    let is_fine = node.with(|state, effects| {
        let here = state.open_sessions(&question.user, Some(session));
        if here.count + elsewhere <= limits::USER_SESSIONS {
            return Some(true);
        }
        match (here.silent, &silent) {
            (Some((heard, _)), Some(((elsewhere, _), _))) if elsewhere <= &heard => None,
            (None, Some(_)) => None,
            (Some((_, key)), _) => {
                state.end_silent(&question.user, key, effects);
                Some(false)
            }
            (None, None) => Some(true),
        }
    });
    if let (None, Some(((_, key), other))) = (is_fine, silent) {
        let end = Some(key.data().as_ffi());
        let question =
            SignInQuestion { user: question.user.clone(), device: question.device.clone(), end, ..*question };
        ask(node, session, &other, &question).await;
    }
    is_fine.unwrap_or(false)
}

/// Asks one node. Returns the sessions of the user there. `None` if it must be asked again.
async fn ask(
    node: &Arc<NodeContext>,
    session: SessionKey,
    other: &NodeId,
    question: &SignInQuestion,
) -> Option<OpenSessions> {
    let subject = subject::node(other, NodeSubject::SignIn);
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
    let silent = answer.silent.and_then(|silent| {
        let heard = Instant::now().checked_sub(Duration::from_millis(silent.ms))?;
        Some((heard, SessionKey::from(KeyData::from_ffi(silent.session))))
    });
    let sessions = Some(OpenSessions { count: answer.sessions, silent, stamp: answer.stamp });
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
        let SignInQuestion { user, device, stamp, end, .. } = question;
        let (newer, sessions) = node.with(|state, effects| {
            let newer = device.and_then(|device| state.signed_in_elsewhere(&user, &device, stamp, effects));
            if let Some(end) = end {
                state.end_silent(&user, KeyData::from_ffi(end).into(), effects);
            }
            (newer, state.open_sessions(&user, None))
        });
        let answer = SignInAnswer {
            v: VERSION,
            newer,
            markers: node.markers.moved_lately(&user),
            sessions: sessions.count,
            silent: sessions.silent.map(|(heard, key)| SilentSession {
                session: key.data().as_ffi(),
                ms: heard.elapsed().as_millis() as u64,
            }),
            stamp: sessions.stamp,
        };
        if let Err(error) = node.bus.publish(reply.to_owned(), encode_json(&answer).into()).await {
            tracing::debug!(%error, "could not answer a question about a sign-in; it comes again");
        }
    }
}
