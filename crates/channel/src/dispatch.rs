//! What a batch does once it is in the store and behind the fence: events go to L1 over the links and to L2 as push
//! jobs, and answers go back to the nodes.

use std::sync::Arc;

use bytes::Bytes;
use sendpi_bus::link::LinkEvent;
use sendpi_bus::presence::Online;
use sendpi_model::faults::{FailPoint, Mutant, fail_point_armed, mutant};
use sendpi_model::link::{AudienceAdded, AudienceReason, AudienceRemoved};
use sendpi_model::server_frame::OkAnswer;
use sendpi_model::{Event, Head, Millis, Partition, UserId, encode_json};

use crate::outbound_links::{OutboundLinks, Removals};
use crate::pending_pushes::PendingId;
use crate::room::{AnswerAddress, BatchStep, Bounce, BounceOutcome, BounceScan, Room, WantedRange};

/// A push that is to be made: a range of a room's events to some users.
#[derive(Debug)]
pub(crate) struct PushOrder {
    pub(crate) users: Arc<[UserId]>,
    pub(crate) range: WantedRange,
    /// The requests that are answered once the push is kept, which confirms a bounce.
    pub(crate) then: Option<AnswerAddress>,
    /// Under what it is pending already.
    pub(crate) pending: Option<PendingId>,
}

/// What came of a batch, apart from what the links carry.
#[derive(Debug, Default)]
pub(crate) struct DispatchOutcome {
    /// The pushes that are to be made.
    pub(crate) pushes: Vec<PushOrder>,
    /// The heads of the events, for the idle clock.
    pub(crate) heads: Vec<Head>,
    /// The worker's own bounces that need no push.
    pub(crate) not_pending: Vec<PendingId>,
    /// The bounces for which the timeline has to be read.
    pub(crate) scans: Vec<BounceScan>,
}

impl DispatchOutcome {
    /// Adds what becomes of a bounce. One that needs no push is confirmed at once.
    pub(crate) fn bounced(&mut self, outcome: BounceOutcome, links: &mut OutboundLinks) {
        match outcome {
            BounceOutcome::NoPush(Bounce { to, own, .. }) => {
                self.not_pending.extend(own.map(|own| own.pending));
                if let Some(to) = to {
                    links.answer(&to, &OkAnswer::default());
                }
            }
            BounceOutcome::Push(Bounce { to, own, user, .. }, range) => {
                let pending = own.map(|own| own.pending);
                self.pushes.push(PushOrder { users: [user].into(), range, then: to, pending });
            }
            BounceOutcome::Read(scan) => self.scans.push(scan),
        }
    }
}

/// Carries out `steps` in their order.
pub(crate) fn dispatch(
    room: &mut Room,
    partition: Partition,
    steps: Vec<BatchStep>,
    online: &Online,
    links: &mut OutboundLinks,
) -> DispatchOutcome {
    let mut done = DispatchOutcome::default();
    for step in steps {
        match step {
            BatchStep::Event(event) => {
                dispatch_event(room, partition, &event, None, links, &mut done);
                order_pushes(room, &event, &mut done);
            }
            BatchStep::Again { event, first } => {
                dispatch_event(room, partition, &event, Some(first), links, &mut done);
            }
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
            BatchStep::Left { users, reason, then } => {
                let mut removals = Removals::default();
                for user in users {
                    for node in room.detach_everywhere(&user) {
                        let removed = AudienceRemoved { room: room.id.clone(), user: user.clone(), reason };
                        removals.add(&node, links.removed(&node, removed));
                    }
                }
                if let Some((to, frame)) = then {
                    links.answer_after(to, frame, removals);
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
            BatchStep::Bounce(bounce) => done.bounced(room.bounced(bounce), links),
        }
    }
    room.tail.trim(room.dispatched);
    done
}

/// Dispatches an event to L1. `stands_for` is the head of the first event that it stands for, if there are others.
fn dispatch_event(
    room: &mut Room,
    partition: Partition,
    event: &Event,
    stands_for: Option<Head>,
    links: &mut OutboundLinks,
    done: &mut DispatchOutcome,
) {
    let head = event.head;
    let Head { seq: first, at, .. } = stands_for.unwrap_or(head);
    let event = LinkEvent { partition, room: &room.id, first, seq: head.seq, at, frame: &event.frame };
    let nodes = if mutant(Mutant::OneNodeOnly) { 1 } else { usize::MAX };
    for node in room.audience.nodes().take(nodes) {
        links.event(node, &event);
    }
    room.dispatched = room.dispatched.max(head.seq);
    done.heads.push(head);
}

fn order_pushes(room: &mut Room, event: &Event, done: &mut DispatchOutcome) {
    if mutant(Mutant::PushOff) {
        return;
    }
    let head = event.head;
    for users in room.wants_push(event) {
        let range = WantedRange { first: head.seq, last: head.seq, count: 1, newest: event.clone(), at: head.at };
        done.pushes.push(PushOrder { users, range, then: None, pending: None });
    }
}

/// Dispatches an ephemeral event to L1.
pub(crate) fn dispatch_typing(room: &Room, partition: Partition, frame: &Bytes, links: &mut OutboundLinks) {
    let typing = LinkEvent { partition, room: &room.id, first: 0, seq: 0, at: Millis(0), frame };
    for node in room.audience.nodes().filter(|_| !mutant(Mutant::TypingOff)) {
        links.event(node, &typing);
    }
}
