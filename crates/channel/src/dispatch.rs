//! What a batch does once it is in the store and behind the fence: events go to L1 by the links, to L2 by push orders, answers go back.

use bytes::Bytes;
use sendpi_bus::presence::Online;
use sendpi_model::faults::{FailPoint, Mutant, fail_point_armed, mutant};
use sendpi_model::link::{Added, Reason, Removed};
use sendpi_model::{Code, Event, Partition, Refusal, UserId};

use crate::outbound_links::Links;
use crate::room::{Bounce, Room, Step, To};

/// What a read of the store came to.
#[derive(Debug)]
pub(crate) enum ReadResult {
    /// An answer, ready.
    Frame(Bytes),
    /// The event that was asked for.
    Event(Option<Event>),
    /// Who of a page of members is online.
    Online { cursor: Option<UserId>, limit: usize, online: Online },
    /// The store or presence did not answer.
    Unavailable,
}

/// A push that is owed: one event to some users of L2.
#[derive(Debug)]
pub(crate) struct PushOrder {
    pub(crate) partition: Partition,
    pub(crate) room: sendpi_model::RoomId,
    pub(crate) event: Event,
    pub(crate) users: Vec<UserId>,
    /// Answered when the push is kept: a bounce is confirmed by that.
    pub(crate) then: Option<To>,
    /// Whether it is among what is owed already.
    pub(crate) counted: bool,
}

/// What came of a batch beside what the links carry.
#[derive(Debug, Default)]
pub(crate) struct Dispatched {
    /// Pushes that are owed.
    pub(crate) pushes: Vec<PushOrder>,
    /// The events, for the idle clock.
    pub(crate) events: Vec<sendpi_model::Head>,
    /// Bounces of the worker's own that need no push: the times of their events.
    pub(crate) not_owed: Vec<sendpi_model::Millis>,
    /// Bounces of the worker's own whose event could not be read: to be tried again.
    pub(crate) again: Vec<Bounce>,
}

/// Carries out `steps` in their order.
pub(crate) fn dispatch(
    room: &mut Room,
    partition: Partition,
    steps: Vec<Step>,
    reads: &[ReadResult],
    online: &Online,
    links: &mut Links,
) -> Dispatched {
    let mut done = Dispatched::default();
    for step in steps {
        match step {
            Step::Event(event) => hand_out(room, partition, event, links, &mut done),
            Step::Typing(frame) => typing(room, partition, &frame, links),
            Step::Joined(_) if mutant(Mutant::NewcomersOff) => {}
            Step::Joined(users) => {
                for (user, info) in users {
                    let info = Bytes::from(serde_json::to_vec(&info).unwrap_or_default());
                    for (node, signin) in online.get(&user).into_iter().flatten() {
                        if room.attach(&user, node, *signin) {
                            let reason = Reason::Joined;
                            let (id, seq) = (room.id.clone(), room.dispatched);
                            links.added(node, Added { room: id, user: user.clone(), reason, seq, info: info.clone() });
                        }
                    }
                }
            }
            Step::Left(users, reason) => {
                for user in users {
                    for node in room.detach_everywhere(&user) {
                        links.removed(&node, Removed { room: room.id.clone(), user: user.clone(), reason });
                    }
                }
            }
            Step::Attach { to, user, signin, frame } => {
                room.attach(&user, &to.node, signin);
                // Told even where the user was in it already: a node that lost count gets it again. But not to one who left meanwhile.
                if room.members.contains_key(&user) {
                    let (id, seq, info) = (room.id.clone(), room.dispatched, Bytes::new());
                    links.added(&to.node, Added { room: id, user, reason: Reason::Presence, seq, info });
                }
                links.answer(&to, frame);
            }
            Step::Detach { to, user, signin } => {
                if room.detach(&user, &to.node, signin) {
                    let removed = Removed { room: room.id.clone(), user, reason: Reason::Presence };
                    links.removed(&to.node, removed);
                }
                links.answer(&to, Bytes::from_static(br#"{"op":"ok"}"#));
            }
            Step::Answer { to, frame } => {
                // A test ends the process between the two: then the answers must not be in the message with the events.
                if !fail_point_armed(FailPoint::AfterDispatch) {
                    links.answer(&to, frame);
                }
            }
            Step::Members { to, cursor, limit } => {
                let frame = room.members_frame(cursor.as_ref(), limit, |user| room.audience.contains(user));
                links.answer(&to, frame.into());
            }
            Step::Read { to, read } => answer_read(room, &to, reads.get(read), links),
            Step::Bounce(owed) => bounce(room, partition, owed, reads, links, &mut done),
        }
    }
    done
}

fn hand_out(room: &mut Room, partition: Partition, event: Event, links: &mut Links, done: &mut Dispatched) {
    let head = event.head;
    let nodes = if mutant(Mutant::OneNodeOnly) { 1 } else { usize::MAX };
    for node in room.audience.nodes().take(nodes) {
        links.event(node, partition, &room.id, head.seq, head.at, &event.frame);
    }
    room.dispatched = room.dispatched.max(head.seq);
    done.events.push(head);
    let users = room.wants_push(&event);
    if !users.is_empty() && !mutant(Mutant::PushOff) {
        done.pushes.push(PushOrder { partition, room: room.id.clone(), event, users, then: None, counted: false });
    }
}

/// Hands an ephemeral event to L1.
pub(crate) fn typing(room: &Room, partition: Partition, frame: &Bytes, links: &mut Links) {
    for node in room.audience.nodes().filter(|_| !mutant(Mutant::TypingOff)) {
        links.event(node, partition, &room.id, 0, sendpi_model::Millis(0), frame);
    }
}

fn unavailable() -> Bytes {
    Refusal::unavailable("the store did not answer", 1000).to_frame().into()
}

fn answer_read(room: &Room, to: &To, read: Option<&ReadResult>, links: &mut Links) {
    let frame = match read {
        Some(ReadResult::Frame(frame)) => frame.clone(),
        Some(ReadResult::Event(Some(event))) => crate::room::ok_frame(event.head, false).into(),
        Some(ReadResult::Event(None)) => Refusal::new(Code::NoSuchEvent, "there is no such event").to_frame().into(),
        Some(ReadResult::Online { cursor, limit, online }) => {
            room.members_frame(cursor.as_ref(), *limit, |user| online.contains_key(user)).into()
        }
        Some(ReadResult::Unavailable) | None => unavailable(),
    };
    links.answer(to, frame);
}

fn bounce(
    room: &Room,
    partition: Partition,
    bounce: Bounce,
    reads: &[ReadResult],
    links: &mut Links,
    done: &mut Dispatched,
) {
    let event = match (&bounce.event, bounce.read.and_then(|read| reads.get(read))) {
        (Some(event), _) => Some(event.clone()),
        (None, Some(ReadResult::Event(event))) => event.clone(),
        (None, _) => {
            match bounce.to {
                Some(to) => links.answer(&to, unavailable()),
                None => done.again.push(bounce),
            }
            return;
        }
    };
    let Bounce { to, owed, user, .. } = bounce;
    match event.filter(|event| room.wants_bounced(&user, event)) {
        Some(event) => {
            let counted = owed.is_some();
            done.pushes.push(PushOrder {
                partition,
                room: room.id.clone(),
                event,
                users: vec![user],
                then: to,
                counted,
            });
        }
        None => {
            done.not_owed.extend(owed);
            if let Some(to) = to {
                links.answer(&to, Bytes::from_static(br#"{"op":"ok"}"#));
            }
        }
    }
}
