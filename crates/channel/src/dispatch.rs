//! What a batch does once it is in the store and behind the fence: events go to L1 over the links and to L2 as push
//! jobs, and answers go back to the nodes.

use bytes::Bytes;
use sendpi_bus::presence::Online;
use sendpi_model::faults::{FailPoint, Mutant, fail_point_armed, mutant};
use sendpi_model::link::{AudienceAdded, AudienceReason, AudienceRemoved};
use sendpi_model::server_frame::OkAnswer;
use sendpi_model::{Event, Partition, Refusal, UserId, encode_json};

use crate::outbound_links::OutboundLinks;
use crate::room::{AnswerAddress, BatchStep, Bounce, Room};

/// The result of a read from the store.
#[derive(Debug)]
pub(crate) enum ReadResult {
    /// The event that was asked for, if it exists.
    Event(Option<Event>),
    /// The store did not answer.
    Unavailable,
}

/// A pending push: one event to some users in L2.
#[derive(Debug)]
pub(crate) struct PendingPush {
    pub(crate) partition: Partition,
    pub(crate) room: sendpi_model::RoomId,
    pub(crate) event: Event,
    pub(crate) users: Vec<UserId>,
    /// The request that is answered once the push is kept, which confirms a bounce.
    pub(crate) then: Option<AnswerAddress>,
    /// Whether it is counted as pending already.
    pub(crate) is_pending: bool,
}

/// What came of a batch, apart from what the links carry.
#[derive(Debug, Default)]
pub(crate) struct DispatchOutcome {
    /// The pushes that are pending from now on.
    pub(crate) pushes: Vec<PendingPush>,
    /// The heads of the events, for the idle clock.
    pub(crate) heads: Vec<sendpi_model::Head>,
    /// The times of the events of the worker's own bounces that need no push.
    pub(crate) not_pending: Vec<sendpi_model::Millis>,
    /// The worker's own bounces whose event could not be read. They are tried again.
    pub(crate) again: Vec<Bounce>,
}

/// Carries out `steps` in their order.
pub(crate) fn dispatch(
    room: &mut Room,
    partition: Partition,
    steps: Vec<BatchStep>,
    reads: &[ReadResult],
    online: &Online,
    links: &mut OutboundLinks,
) -> DispatchOutcome {
    let mut done = DispatchOutcome::default();
    for step in steps {
        match step {
            BatchStep::Event(event) => dispatch_event(room, partition, event, links, &mut done),
            BatchStep::Typing(frame) => dispatch_typing(room, partition, &frame, links),
            BatchStep::Joined(_) if mutant(Mutant::NewcomersOff) => {}
            BatchStep::Joined(users) => {
                for (user, info) in users {
                    let info = Bytes::from(encode_json(&info));
                    for (node, signin) in online.get(&user).into_iter().flatten() {
                        if room.attach(&user, node, *signin) {
                            let reason = AudienceReason::Joined;
                            let (id, seq) = (room.id.clone(), room.dispatched);
                            links.added(
                                node,
                                AudienceAdded { room: id, user: user.clone(), reason, seq, info: info.clone() },
                            );
                        }
                    }
                }
            }
            BatchStep::Left(users, reason) => {
                for user in users {
                    for node in room.detach_everywhere(&user) {
                        links.removed(&node, AudienceRemoved { room: room.id.clone(), user: user.clone(), reason });
                    }
                }
            }
            BatchStep::Attach { to, user, signin, frame } => {
                room.attach(&user, &to.node, signin);
                // It is sent even if the user was in L1 already, because the node may have lost it. It is not sent
                // for a user who has left in the meantime.
                if room.members.contains_key(&user) {
                    let (id, seq, info) = (room.id.clone(), room.dispatched, Bytes::new());
                    links
                        .added(&to.node, AudienceAdded { room: id, user, reason: AudienceReason::Presence, seq, info });
                }
                links.answer_frame(&to, frame);
            }
            BatchStep::Detach { to, user, signin } => {
                if room.detach(&user, &to.node, signin) {
                    let removed = AudienceRemoved { room: room.id.clone(), user, reason: AudienceReason::Presence };
                    links.removed(&to.node, removed);
                }
                links.answer(&to, &OkAnswer::default());
            }
            BatchStep::Answer { to, frame } => {
                // A test ends the process between the events and the answers, so the answers must not be in the
                // message with the events.
                if !fail_point_armed(FailPoint::AfterDispatch) {
                    links.answer_frame(&to, frame);
                }
            }
            BatchStep::Bounce(bounce) => dispatch_bounce(room, partition, bounce, reads, links, &mut done),
        }
    }
    room.tail.trim(room.dispatched);
    done
}

fn dispatch_event(
    room: &mut Room,
    partition: Partition,
    event: Event,
    links: &mut OutboundLinks,
    done: &mut DispatchOutcome,
) {
    let head = event.head;
    let nodes = if mutant(Mutant::OneNodeOnly) { 1 } else { usize::MAX };
    for node in room.audience.nodes().take(nodes) {
        links.event(node, partition, &room.id, head.seq, head.at, &event.frame);
    }
    room.dispatched = room.dispatched.max(head.seq);
    done.heads.push(head);
    let users = room.wants_push(&event);
    if !users.is_empty() && !mutant(Mutant::PushOff) {
        done.pushes.push(PendingPush { partition, room: room.id.clone(), event, users, then: None, is_pending: false });
    }
}

/// Dispatches an ephemeral event to L1.
pub(crate) fn dispatch_typing(room: &Room, partition: Partition, frame: &Bytes, links: &mut OutboundLinks) {
    for node in room.audience.nodes().filter(|_| !mutant(Mutant::TypingOff)) {
        links.event(node, partition, &room.id, 0, sendpi_model::Millis(0), frame);
    }
}

fn unavailable() -> Refusal {
    Refusal::unavailable("the store did not answer", 1000)
}

fn dispatch_bounce(
    room: &Room,
    partition: Partition,
    bounce: Bounce,
    reads: &[ReadResult],
    links: &mut OutboundLinks,
    done: &mut DispatchOutcome,
) {
    let event = match (&bounce.event, bounce.read.and_then(|read| reads.get(read))) {
        (Some(event), _) => Some(event.clone()),
        (None, Some(ReadResult::Event(event))) => event.clone(),
        (None, _) => {
            match bounce.to {
                Some(to) => links.answer(&to, &unavailable()),
                None => done.again.push(bounce),
            }
            return;
        }
    };
    let Bounce { to, pending_at, user, .. } = bounce;
    match event.filter(|event| room.wants_bounced(&user, event)) {
        Some(event) => {
            let is_pending = pending_at.is_some();
            done.pushes.push(PendingPush {
                partition,
                room: room.id.clone(),
                event,
                users: vec![user],
                then: to,
                is_pending,
            });
        }
        None => {
            done.not_pending.extend(pending_at);
            if let Some(to) = to {
                links.answer(&to, &OkAnswer::default());
            }
        }
    }
}
