//! What operators ask: a test notification, and what became of an event for a user.

use bytes::Bytes;
use futures_util::StreamExt;
use sendpi_bus::about_user::{NodeSessions, ask_sessions};
use sendpi_bus::push_log::{PushLogEntry, PushOutcome, read_push_log};
use sendpi_bus::{SendError, subject};
use sendpi_model::{Event, EventKind, Mark, Millis, NodeId, Notify, RoomId, UserId, encode_json};
use sendpi_store::{MemberRow, ReadError};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::notification::{PushDevice, devices_of};
use crate::webhook::Posted;
use crate::worker::PushContext;

/// A question of an operator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum ControlRequest {
    /// Post a test notification for a user.
    Test {
        /// The user.
        user: UserId,
    },
    /// What became of an event for a user.
    Why {
        /// The room.
        room: RoomId,
        /// The seq of the event.
        seq: u64,
        /// The user.
        user: UserId,
    },
}

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum ControlAnswer {
    /// What the webhook did with the test.
    Test {
        /// Whether the webhook took it.
        taken: bool,
        /// What happened, as a sentence.
        said: String,
    },
    /// What is known of the event.
    Why(Box<Explanation>),
    /// The question could not be answered.
    Failed {
        /// Why.
        why: String,
    },
}

/// What is known of an event for a user.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Explanation {
    /// What became of it, as sentences, the most certain first.
    pub because: Vec<String>,
    /// The kind of the event.
    pub kind: Option<String>,
    /// Who sent it.
    pub from: Option<UserId>,
    /// When.
    pub at: Option<Millis>,
    /// What is pushed to the user in the room. `None` if the user is no member.
    pub notify: Option<Notify>,
    /// Until when nothing is.
    pub muted_until: Option<Millis>,
    /// Up to where the user has read.
    pub marker: Option<Mark>,
    /// The nodes on which the user is online, with up to which seq the sessions there have the room.
    pub nodes: Vec<NodeSessions>,
    /// What the push log has of it.
    pub pushes: Vec<PushLogEntry>,
}

/// Answers the questions of operators until `stop` is cancelled.
pub(crate) async fn answer(context: PushContext, stop: CancellationToken) -> Result<(), SendError> {
    let subject = subject::CONTROL_PUSH.to_owned();
    let mut questions = context.bus.queue_subscribe(subject, "push".to_owned()).await?;
    tokio::spawn(async move {
        while let Some(Some(message)) = stop.run_until_cancelled(questions.next()).await {
            let Some(reply) = message.reply().filter(|reply| subject::is_inbox(reply)) else { continue };
            let answer = match serde_json::from_slice(message.payload()) {
                Ok(ControlRequest::Test { user }) => test(&context, user).await,
                Ok(ControlRequest::Why { room, seq, user }) => why(&context, room, seq, user).await,
                Err(error) => ControlAnswer::Failed { why: format!("the question cannot be read: {error}") },
            };
            if let Err(error) = context.bus.publish(reply.to_owned(), Bytes::from(encode_json(&answer))).await {
                tracing::debug!(%error, "an operator's question could not be answered");
            }
        }
    });
    Ok(())
}

async fn test(context: &PushContext, user: UserId) -> ControlAnswer {
    #[derive(Serialize)]
    struct TestNotification<'a> {
        r#type: &'static str,
        user: &'a UserId,
        devices: &'a [PushDevice],
        at: Millis,
    }
    let failed = |why: String| ControlAnswer::Test { taken: false, said: why };
    let Some(webhook) = &context.webhook else { return failed("no webhook is configured".to_owned()) };
    let devices = match devices_of(context.store.as_ref(), &user).await {
        Ok(devices) => devices,
        Err(error) => return failed(error.to_string()),
    };
    let now = Millis::now();
    let body = encode_json(&TestNotification { r#type: "push.test", user: &user, devices: &devices, at: now });
    match webhook.post(&format!("test_{}", now.0), body.into()).await {
        Posted::Taken(status) => {
            let said = format!("the webhook answered {status}; {user} has {} devices with an address", devices.len());
            ControlAnswer::Test { taken: true, said }
        }
        Posted::Later(why, _) | Posted::Refused(why) => failed(why),
    }
}

async fn why(context: &PushContext, room: RoomId, seq: u64, user: UserId) -> ControlAnswer {
    match look(context, &room, seq, &user).await {
        Ok(explanation) => ControlAnswer::Why(Box::new(explanation)),
        Err(error) => ControlAnswer::Failed { why: error.to_string() },
    }
}

async fn look(context: &PushContext, room: &RoomId, seq: u64, user: &UserId) -> Result<Explanation, ReadError> {
    let store = context.store.as_ref();
    let rows = store.timeline(room, seq..=seq, 100, false).await?;
    let chain = store.chain(room).await?;
    let event = chain.filter(rows).into_iter().next().map(|row| row.event);
    let member = store.member(room, user).await?;
    let marker = store.read_markers(user, std::slice::from_ref(room)).await?.pop().flatten();
    let log = read_push_log(&context.bus, room, user).await.unwrap_or_default();
    let pushes: Vec<PushLogEntry> = log.into_iter().filter(|entry| (entry.first..=entry.last).contains(&seq)).collect();
    let online = context.presence.read(vec![user.clone()]).await.unwrap_or_default();
    let nodes: Vec<NodeId> = online.into_values().flatten().map(|(node, _)| node).collect();
    let nodes = ask_sessions(&context.bus, &nodes, room, user).await;
    let known =
        Known { user, seq, event: event.as_ref(), member: member.as_ref(), marker, nodes: &nodes, pushes: &pushes };
    Ok(Explanation {
        because: because(&known, Millis::now()),
        kind: event.as_ref().map(|event| kind_name(event.kind)),
        from: event.as_ref().map(|event| event.from.clone()),
        at: event.as_ref().map(|event| event.head.at),
        notify: member.as_ref().map(|member| member.notify),
        muted_until: member.as_ref().and_then(|member| member.muted_until),
        marker,
        nodes,
        pushes,
    })
}

/// What is known of an event for a user.
struct Known<'a> {
    user: &'a UserId,
    seq: u64,
    event: Option<&'a Event>,
    member: Option<&'a MemberRow>,
    marker: Option<Mark>,
    nodes: &'a [NodeSessions],
    pushes: &'a [PushLogEntry],
}

/// Returns what became of the event, as sentences.
fn because(known: &Known<'_>, now: Millis) -> Vec<String> {
    let Known { user, seq, event, member, marker, nodes, pushes } = *known;
    let Some(event) = event else { return vec![format!("there is no event {seq} in the room")] };
    let mut because = Vec::new();
    if event.is_message_of(user) {
        because.push(format!("{user} sent it"));
    }
    for node in nodes.iter().filter(|node| node.seq.is_some_and(|known| known >= seq)) {
        because.push(format!("{} open sessions of {user} on node {} have it", node.sessions, node.node));
    }
    let latest = pushes.iter().rev().take_while(|entry| entry.outcome == PushOutcome::Waiting).count();
    for entry in pushes.iter().take(pushes.len() - latest).chain(pushes.last().filter(|_| latest > 0)) {
        because.push(sentence(entry));
    }
    if marker.is_some_and(|marker| marker.seq >= seq) {
        because.push(format!("{user} has read up to event {}", marker.map_or(0, |marker| marker.seq)));
    }
    match member {
        None => because.push(format!("{user} is not a member now")),
        Some(member) if member.joined.seq >= seq => {
            because.push(format!("{user} joined with event {}, so this one is only in the history", member.joined.seq));
        }
        Some(member) => because.extend(not_pushed(member, event, now)),
    }
    if !event.kind.is_counted() {
        because.push("only messages and system events are pushed".to_owned());
    }
    if because.is_empty() {
        because.push(if nodes.is_empty() {
            "nothing is known of it: a device confirmed it, or its push is not in the log yet or not any more"
                .to_owned()
        } else {
            format!("{user} is online, and no session has confirmed it yet")
        });
    }
    because
}

fn sentence(entry: &PushLogEntry) -> String {
    let (range, detail) = (entry.last - entry.first + 1, entry.detail.as_deref().unwrap_or_default());
    let with =
        if range > 1 { format!(", together with events {} to {}", entry.first, entry.last) } else { String::new() };
    match entry.outcome {
        PushOutcome::Posted => format!("it was pushed{with}: the webhook took notification {detail}"),
        PushOutcome::Waiting => format!("its push waits: {detail}"),
        PushOutcome::Read => "it was read before its push was posted".to_owned(),
        PushOutcome::Deleted => "it was deleted before its push was posted".to_owned(),
        PushOutcome::Muted => "the room was muted when its push was to be posted".to_owned(),
        PushOutcome::NotAMember => "the user had left when its push was to be posted".to_owned(),
        PushOutcome::NoWebhook => "it was to be pushed, and no webhook is configured".to_owned(),
        PushOutcome::DeadLetter => format!("its push is a dead letter: {detail}"),
    }
}

/// Returns why a member wants no push for an event, as the member's settings are now.
fn not_pushed(member: &MemberRow, event: &Event, now: Millis) -> Option<String> {
    let user = &member.user;
    if let Some(until) = member.muted_until.filter(|until| now < *until) {
        return Some(format!("{user} has muted the room until {}", until.0));
    }
    let mentioned = || event.mentions().is_some_and(|mentions| mentions.include(user));
    match member.notify {
        Notify::None => Some(format!("{user} wants no pushes of the room")),
        Notify::Mentions if !mentioned() => Some(format!("{user} wants only mentions, and is not mentioned")),
        Notify::Mentions | Notify::All => None,
    }
}

fn kind_name(kind: EventKind) -> String {
    serde_json::to_value(kind).ok().and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default()
}
