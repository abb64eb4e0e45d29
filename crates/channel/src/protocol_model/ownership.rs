//! The model of ownership: two workers, one room, claims that nobody ordered, crashes, frozen owners that go on, and
//! writes that are done long after everybody gave them up.

use std::collections::BTreeSet;

use sendpi_model::Partition;
use sendpi_store::{EpochChain, Start};
use stateright::{Model, Property};

use super::Broken;
use crate::tenure::Tenure;

pub(super) const IN_THE_TIMELINE: &str = "what was answered or dispatched is in the timeline, at its seq";
pub(super) const NO_CONTRADICTION: &str = "no two answers contradict each other";
pub(super) const NEVER_BACK: &str = "a reader's head never goes back";
pub(super) const HANDED_OUT: &str = "what was answered is dispatched by the owner or the next one";
pub(super) const REACHED: &str = "all messages are answered under the last epoch";

/// The highest epoch that is claimed.
const EPOCHS: u64 = 3;
/// The messages that a client sends, each until it has an answer.
const MESSAGES: u8 = 2;
const WORKERS: usize = 2;

/// The protocol as it is, or without one of its parts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ownership(pub(super) Option<Broken>);

type Seq = u64;
/// The epochs that began, each with its first seq and the epoch that it continues.
type Starts = BTreeSet<(u64, Seq, Option<u64>)>;
/// A seq and a message.
type Place = (Seq, u8);

/// A write that may be done at any time, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum LateWrite {
    Fence(u64),
    Start { epoch: u64, next_seq: Seq, continues: Option<u64> },
    Row { epoch: u64, seq: Seq, message: u8 },
}

/// How an event is told: to its sender, or to everybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Telling {
    Answer,
    Dispatch,
}

/// What an owner knows of the room.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct OwnedRoom {
    epoch: u64,
    /// The events from the first one on.
    events: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum OwnerPhase {
    Idle,
    /// It waits for its write of the fence.
    RaisesFence {
        epoch: u64,
        tail: Option<Vec<(u64, Place)>>,
    },
    ReadsStarts {
        epoch: u64,
        tail: Option<Vec<(u64, Place)>>,
    },
    ReadsTail {
        epoch: u64,
        starts: Starts,
    },
    /// It waits for its write of the start.
    Begins {
        room: OwnedRoom,
    },
    Serves {
        room: OwnedRoom,
    },
    /// It waits for its write of the next event. `early` is the fence that was read meanwhile.
    Writes {
        room: OwnedRoom,
        message: u8,
        early: Option<u64>,
    },
    /// The event is stored and behind the fence. It is answered and dispatched one after the other.
    Tells {
        room: OwnedRoom,
        message: u8,
        untold: BTreeSet<Telling>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct OwnershipState {
    lease: u64,
    fence: u64,
    starts: Starts,
    rows: BTreeSet<(u64, Place)>,
    flying: BTreeSet<LateWrite>,
    workers: [OwnerPhase; WORKERS],
    answered: BTreeSet<Place>,
    dispatched: BTreeSet<Place>,
    /// The highest head that a reader was told.
    seen: Seq,
    went_back: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum OwnershipStep {
    Claim(usize),
    Crash(usize),
    /// A worker does its next step.
    Step(usize),
    Request(usize, u8),
    Attach(usize),
    Tell(usize, Telling),
    EarlyFenceRead(usize),
    Done(LateWrite),
}

impl OwnershipState {
    fn raw_tail(&self) -> Vec<(u64, Place)> {
        self.rows.iter().copied().collect()
    }

    fn passes(&self, epoch: u64) -> bool {
        Self::passes_at(epoch, self.fence)
    }

    fn passes_at(epoch: u64, fence: u64) -> bool {
        let tenure = |epoch| Tenure { partition: Partition(0), epoch, claim: epoch };
        tenure(epoch).passes(&tenure(fence).fence())
    }

    fn tell(&mut self, head: Seq) {
        self.went_back |= head < self.seen;
        self.seen = self.seen.max(head);
    }
}

/// Returns starts as the store has them.
fn rows_of(starts: &Starts) -> Vec<Start> {
    let row = |(epoch, next_seq, continues): &(u64, Seq, Option<u64>)| Start {
        epoch: *epoch,
        next_seq: *next_seq,
        continues: *continues,
    };
    starts.iter().map(row).collect()
}

impl Ownership {
    fn is(&self, broken: Broken) -> bool {
        self.0 == Some(broken)
    }

    /// Returns the epoch whose row counts at each seq.
    fn epoch_of(&self, starts: &Starts, seq: Seq) -> Option<u64> {
        if self.is(Broken::StartsWithoutChain) {
            let before = starts.iter().filter(|(_, next_seq, _)| *next_seq <= seq);
            return before.map(|(epoch, ..)| *epoch).max();
        }
        EpochChain::of(&rows_of(starts)).epoch_of(seq)
    }

    /// Returns the events of a tail that count, up to the first hole.
    fn valid(&self, starts: &Starts, tail: &[(u64, Place)]) -> Vec<u8> {
        let at = |seq: Seq| {
            let epoch = self.epoch_of(starts, seq);
            tail.iter().find(|(of, (at, _))| Some(*of) == epoch && *at == seq).map(|(_, (_, message))| *message)
        };
        (1..).map_while(at).collect()
    }

    fn opened(&self, world: &mut OwnershipState, worker: usize, epoch: u64, starts: &Starts, tail: &[(u64, Place)]) {
        let events = self.valid(starts, tail);
        let chain = EpochChain::of(&rows_of(starts));
        let room = OwnedRoom { epoch, events };
        if !chain.has(epoch) {
            let next_seq = room.events.len() as u64 + 1;
            let continues = chain.continued_at(next_seq);
            world.flying.insert(LateWrite::Start { epoch, next_seq, continues });
        }
        world.workers[worker] = OwnerPhase::Begins { room };
    }
}

impl Model for Ownership {
    type State = OwnershipState;
    type Action = OwnershipStep;

    fn init_states(&self) -> Vec<OwnershipState> {
        vec![OwnershipState {
            lease: 0,
            fence: 0,
            starts: BTreeSet::new(),
            rows: BTreeSet::new(),
            flying: BTreeSet::new(),
            workers: [OwnerPhase::Idle, OwnerPhase::Idle],
            answered: BTreeSet::new(),
            dispatched: BTreeSet::new(),
            seen: 0,
            went_back: false,
        }]
    }

    fn actions(&self, world: &OwnershipState, actions: &mut Vec<OwnershipStep>) {
        for (n, worker) in world.workers.iter().enumerate() {
            match worker {
                OwnerPhase::Idle => {
                    if world.lease < EPOCHS {
                        actions.push(OwnershipStep::Claim(n));
                    }
                    continue;
                }
                OwnerPhase::RaisesFence { epoch, .. } => {
                    if !world.flying.contains(&LateWrite::Fence(*epoch)) {
                        actions.push(OwnershipStep::Step(n));
                    }
                }
                OwnerPhase::ReadsStarts { .. } | OwnerPhase::ReadsTail { .. } => actions.push(OwnershipStep::Step(n)),
                OwnerPhase::Begins { room } => {
                    let is_flying =
                        |write: &LateWrite| matches!(write, LateWrite::Start { epoch, .. } if *epoch == room.epoch);
                    if !world.flying.iter().any(is_flying) {
                        actions.push(OwnershipStep::Step(n));
                    }
                }
                OwnerPhase::Serves { .. } => {
                    actions.extend((0..MESSAGES).map(|message| OwnershipStep::Request(n, message)));
                    actions.push(OwnershipStep::Attach(n));
                }
                OwnerPhase::Writes { room, message, early } => {
                    let row =
                        LateWrite::Row { epoch: room.epoch, seq: room.events.len() as u64 + 1, message: *message };
                    if early.is_none() && self.is(Broken::FenceReadTooEarly) {
                        actions.push(OwnershipStep::EarlyFenceRead(n));
                    } else if !world.flying.contains(&row) {
                        actions.push(OwnershipStep::Step(n));
                    }
                }
                OwnerPhase::Tells { untold, .. } => {
                    actions.extend(untold.iter().map(|telling| OwnershipStep::Tell(n, *telling)));
                }
            }
            actions.push(OwnershipStep::Crash(n));
        }
        actions.extend(world.flying.iter().copied().map(OwnershipStep::Done));
    }

    fn next_state(&self, last: &OwnershipState, action: OwnershipStep) -> Option<OwnershipState> {
        let mut world = last.clone();
        match action {
            OwnershipStep::Claim(n) => {
                world.lease += 1;
                let tail = self.is(Broken::TailBeforeFence).then(|| world.raw_tail());
                world.flying.insert(LateWrite::Fence(world.lease));
                world.workers[n] = OwnerPhase::RaisesFence { epoch: world.lease, tail };
            }
            OwnershipStep::Crash(n) => world.workers[n] = OwnerPhase::Idle,
            OwnershipStep::Done(write) => {
                world.flying.remove(&write);
                match write {
                    LateWrite::Fence(epoch) => world.fence = world.fence.max(epoch),
                    LateWrite::Start { epoch, next_seq, continues } => {
                        world.starts.insert((epoch, next_seq, continues));
                    }
                    LateWrite::Row { epoch, seq, message } => {
                        world.rows.insert((epoch, (seq, message)));
                    }
                }
            }
            OwnershipStep::EarlyFenceRead(n) => {
                let fence = world.fence;
                if let OwnerPhase::Writes { early, .. } = &mut world.workers[n] {
                    *early = Some(fence);
                }
            }
            OwnershipStep::Request(n, message) => {
                let OwnerPhase::Serves { room } = world.workers[n].clone() else { return None };
                if let Some(at) = room.events.iter().position(|known| *known == message) {
                    // A repeat is answered with the first one's result, behind the fence.
                    if !self.is(Broken::NoFenceCheck) && !world.passes(room.epoch) {
                        world.workers[n] = OwnerPhase::Idle;
                    } else {
                        let seq = at as u64 + 1;
                        world.answered.insert((seq, message));
                        world.seen = world.seen.max(seq);
                    }
                } else {
                    let seq = room.events.len() as u64 + 1;
                    world.flying.insert(LateWrite::Row { epoch: room.epoch, seq, message });
                    world.workers[n] = OwnerPhase::Writes { room, message, early: None };
                }
            }
            OwnershipStep::Attach(n) => {
                let OwnerPhase::Serves { room } = &last.workers[n] else { return None };
                if !self.is(Broken::AttachWithoutFence) && !world.passes(room.epoch) {
                    world.workers[n] = OwnerPhase::Idle;
                } else {
                    world.tell(room.events.len() as u64);
                }
            }
            OwnershipStep::Tell(n, telling) => {
                let OwnerPhase::Tells { room, message, untold } = &mut world.workers[n] else { return None };
                untold.remove(&telling);
                let event = (room.events.len() as u64, *message);
                world.seen = world.seen.max(event.0);
                match telling {
                    Telling::Answer => world.answered.insert(event),
                    Telling::Dispatch => world.dispatched.insert(event),
                };
                if untold.is_empty() {
                    world.workers[n] = OwnerPhase::Serves { room: room.clone() };
                }
            }
            OwnershipStep::Step(n) => match last.workers[n].clone() {
                OwnerPhase::RaisesFence { epoch, tail } => {
                    world.workers[n] =
                        if world.passes(epoch) { OwnerPhase::ReadsStarts { epoch, tail } } else { OwnerPhase::Idle };
                }
                OwnerPhase::ReadsStarts { epoch, tail } => {
                    if self.is(Broken::TailBeforeStarts) && tail.is_none() {
                        world.workers[n] = OwnerPhase::ReadsStarts { epoch, tail: Some(world.raw_tail()) };
                    } else if let Some(tail) = tail {
                        let starts = world.starts.clone();
                        self.opened(&mut world, n, epoch, &starts, &tail);
                    } else {
                        world.workers[n] = OwnerPhase::ReadsTail { epoch, starts: world.starts.clone() };
                    }
                }
                OwnerPhase::ReadsTail { epoch, starts } => {
                    let tail = world.raw_tail();
                    self.opened(&mut world, n, epoch, &starts, &tail);
                }
                OwnerPhase::Begins { room } => {
                    if !world.passes(room.epoch) {
                        world.workers[n] = OwnerPhase::Idle;
                    } else {
                        if !self.is(Broken::NoHandingOutAgain) {
                            let events = room.events.iter().enumerate().map(|(at, message)| (at as u64 + 1, *message));
                            world.dispatched.extend(events);
                        }
                        world.seen = world.seen.max(room.events.len() as u64);
                        world.workers[n] = OwnerPhase::Serves { room };
                    }
                }
                OwnerPhase::Writes { mut room, message, early } => {
                    let fence = early.unwrap_or(world.fence);
                    if self.is(Broken::NoFenceCheck) || OwnershipState::passes_at(room.epoch, fence) {
                        room.events.push(message);
                        world.workers[n] = OwnerPhase::Tells {
                            room,
                            message,
                            untold: BTreeSet::from([Telling::Answer, Telling::Dispatch]),
                        };
                    } else {
                        world.workers[n] = OwnerPhase::Idle;
                    }
                }
                _ => return None,
            },
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(IN_THE_TIMELINE, |model: &Self, world: &OwnershipState| {
                let events = model.valid(&world.starts, &world.raw_tail());
                let is_there = |(seq, message): &Place| events.get(*seq as usize - 1) == Some(message);
                world.answered.iter().chain(&world.dispatched).all(is_there)
            }),
            Property::always(NO_CONTRADICTION, |_, world: &OwnershipState| {
                let told: Vec<&Place> = world.answered.union(&world.dispatched).collect();
                told.iter().all(|one| told.iter().all(|other| (one.0 == other.0) == (one.1 == other.1)))
            }),
            Property::always(NEVER_BACK, |_, world: &OwnershipState| !world.went_back),
            Property::always(HANDED_OUT, |_, world: &OwnershipState| {
                let is_last = |epoch: u64| epoch == world.fence && epoch == world.lease;
                let serves = |worker: &OwnerPhase| matches!(worker, OwnerPhase::Serves { room } if is_last(room.epoch));
                !world.workers.iter().any(serves) || world.answered.is_subset(&world.dispatched)
            }),
            Property::sometimes(REACHED, |_, world: &OwnershipState| {
                world.answered.len() == usize::from(MESSAGES) && world.fence == EPOCHS
            }),
        ]
    }
}
