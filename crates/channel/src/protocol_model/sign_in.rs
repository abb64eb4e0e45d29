//! The model of a sign-in against the activation of a channel: one member who comes and goes, a replica of presence
//! that lags without bound, order rows that age, a channel that is evicted, and what is under way to a node that has
//! the user no more.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use super::Broken;

pub(super) const UP_HAS_ALL: &str = "a user who is up has all that was dispatched, from the welcome or live";
pub(super) const AWAY_GETS_PUSH: &str = "a user who is away took each event live, or gets a push";
pub(super) const CAME_BACK: &str = "all events are dispatched to a user who came back";
/// How many events happen.
const EVENTS: u8 = 2;
/// How often the user signs in.
const SIGN_INS: u8 = 2;

/// The protocol as it is, or without one of its parts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SignIn(pub(super) Option<Broken>);

/// Where the channel is on its way to dispatch an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum ChannelPhase {
    Rests,
    WritesRows,
    GoesLive,
    /// It writes the worker's own key, whose revision is the barrier.
    SetsBarrier,
    ReadsPresence {
        barrier: u8,
    },
    Stores,
    Dispatches,
}

/// Where the user is on the way to a welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum UserPhase {
    Away,
    Lists,
    Attaches,
    Peeks,
    Up,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SignInState {
    phase: ChannelPhase,
    is_live: bool,
    /// The sign-in number of the user's entry in L1.
    l1: Option<u8>,
    rows_are_fresh: bool,
    requested: u8,
    dispatched: u8,
    evictions: u8,
    ages: u8,
    /// The revision of presence at the leader, and up to which the replica has it.
    revision: u8,
    replica: u8,
    /// The revisions at which the user's key changed, and to what.
    keys: Vec<(u8, Option<u8>)>,
    user: UserPhase,
    number: u8,
    has: BTreeSet<u8>,
    pushed: BTreeSet<u8>,
    /// The events under way, each to the node of a sign-in.
    under_way: BTreeSet<(u8, u8)>,
    /// The detaches under way to the owner.
    detaches: BTreeSet<u8>,
    /// The number of the sign-in on a node that died, until the owner gives that node up.
    dead: Option<u8>,
    deaths: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum SignInStep {
    Event,
    Channel,
    RowsAge,
    Evict,
    Replicate,
    SignsIn,
    User,
    Leaves,
    NodeDies,
    GivesNodeUp(u8),
    /// An event arrives, at the node of a sign-in.
    Deliver(u8, u8),
    Detach(u8),
}

impl SignIn {
    fn is(&self, broken: Broken) -> bool {
        self.0 == Some(broken)
    }

    /// The order of the steps before an event is stored.
    fn next(&self, phase: ChannelPhase) -> ChannelPhase {
        use ChannelPhase::{Dispatches, GoesLive, ReadsPresence, Rests, SetsBarrier, Stores, WritesRows};
        let first = if self.is(Broken::OrderRowAfterBarrier) { GoesLive } else { WritesRows };
        match phase {
            Rests if self.is(Broken::PresenceBeforeLive) => SetsBarrier,
            Rests => first,
            WritesRows if self.is(Broken::OrderRowAfterBarrier) => Stores,
            WritesRows => GoesLive,
            GoesLive if self.is(Broken::PresenceBeforeLive) => Stores,
            GoesLive if self.is(Broken::NoBarrier) => ReadsPresence { barrier: 0 },
            GoesLive => SetsBarrier,
            SetsBarrier => ReadsPresence { barrier: 0 },
            ReadsPresence { .. } if self.is(Broken::OrderRowAfterBarrier) => WritesRows,
            ReadsPresence { .. } if self.is(Broken::PresenceBeforeLive) => WritesRows,
            ReadsPresence { .. } => Stores,
            Stores => Dispatches,
            Dispatches => Rests,
        }
    }
}

impl SignInState {
    /// Returns the number that a copy of presence at this revision has of the user.
    fn key_at(&self, revision: u8) -> Option<u8> {
        self.keys.iter().rev().find(|(at, _)| *at <= revision).and_then(|(_, number)| *number)
    }

    fn put_key(&mut self, number: Option<u8>) {
        self.revision += 1;
        self.keys.push((self.revision, number));
    }

    fn is_quiet(&self) -> bool {
        self.phase == ChannelPhase::Rests && self.under_way.is_empty()
    }
}

impl Model for SignIn {
    type State = SignInState;
    type Action = SignInStep;

    fn init_states(&self) -> Vec<SignInState> {
        vec![SignInState {
            phase: ChannelPhase::Rests,
            is_live: false,
            l1: None,
            rows_are_fresh: false,
            requested: 0,
            dispatched: 0,
            evictions: 0,
            ages: 0,
            revision: 0,
            replica: 0,
            keys: Vec::new(),
            user: UserPhase::Away,
            number: 0,
            has: BTreeSet::new(),
            pushed: BTreeSet::new(),
            under_way: BTreeSet::new(),
            detaches: BTreeSet::new(),
            dead: None,
            deaths: 0,
        }]
    }

    fn actions(&self, state: &SignInState, actions: &mut Vec<SignInStep>) {
        if state.phase == ChannelPhase::Rests {
            if state.requested < EVENTS {
                actions.push(SignInStep::Event);
            }
            if state.is_live && state.is_quiet() && state.evictions < 1 {
                actions.push(SignInStep::Evict);
            }
            if state.rows_are_fresh && state.ages < 1 {
                actions.push(SignInStep::RowsAge);
            }
        } else if !matches!(state.phase, ChannelPhase::ReadsPresence { barrier } if state.replica < barrier) {
            actions.push(SignInStep::Channel);
        }
        if state.replica < state.revision {
            actions.push(SignInStep::Replicate);
        }
        match state.user {
            UserPhase::Away if state.number < SIGN_INS => actions.push(SignInStep::SignsIn),
            UserPhase::Away => {}
            UserPhase::Up => actions.push(SignInStep::Leaves),
            _ => actions.push(SignInStep::User),
        }
        if state.user != UserPhase::Away && state.deaths < 1 {
            actions.push(SignInStep::NodeDies);
        }
        actions.extend(state.dead.map(SignInStep::GivesNodeUp));
        actions.extend(state.under_way.iter().map(|(event, number)| SignInStep::Deliver(*event, *number)));
        actions.extend(state.detaches.iter().copied().map(SignInStep::Detach));
    }

    fn next_state(&self, last: &SignInState, step: SignInStep) -> Option<SignInState> {
        let mut state = last.clone();
        match step {
            SignInStep::Event => {
                state.requested += 1;
                let is_ready = state.is_live && state.rows_are_fresh;
                state.phase = if is_ready { ChannelPhase::Stores } else { self.next(ChannelPhase::Rests) };
            }
            SignInStep::Channel => {
                state.phase = self.next(last.phase);
                match last.phase {
                    ChannelPhase::WritesRows => state.rows_are_fresh = true,
                    ChannelPhase::GoesLive => state.is_live = true,
                    ChannelPhase::SetsBarrier => {
                        state.revision += 1;
                        state.phase = ChannelPhase::ReadsPresence { barrier: state.revision };
                    }
                    ChannelPhase::ReadsPresence { .. } => state.l1 = state.l1.max(last.key_at(last.replica)),
                    ChannelPhase::Dispatches => {
                        state.dispatched += 1;
                        match state.l1 {
                            Some(number) => _ = state.under_way.insert((state.dispatched, number)),
                            None => _ = state.pushed.insert(state.dispatched),
                        }
                    }
                    ChannelPhase::Stores | ChannelPhase::Rests => {}
                }
            }
            SignInStep::RowsAge => {
                state.rows_are_fresh = false;
                state.ages += 1;
            }
            SignInStep::Evict => {
                state.evictions += 1;
                state.is_live = false;
                state.l1 = None;
            }
            SignInStep::Replicate => state.replica += 1,
            SignInStep::SignsIn => {
                state.number += 1;
                state.put_key(Some(state.number));
                state.user = UserPhase::Lists;
            }
            SignInStep::User => match last.user {
                UserPhase::Lists => {
                    state.user = if state.rows_are_fresh { UserPhase::Attaches } else { UserPhase::Peeks };
                }
                UserPhase::Attaches if state.is_live => {
                    state.l1 = state.l1.max(Some(state.number));
                    state.has.extend(1..=state.dispatched);
                    state.user = UserPhase::Up;
                }
                UserPhase::Attaches => state.user = UserPhase::Peeks,
                UserPhase::Peeks => {
                    state.has.extend(1..=state.dispatched);
                    state.user = UserPhase::Up;
                }
                UserPhase::Away | UserPhase::Up => return None,
            },
            SignInStep::Leaves => {
                state.put_key(None);
                state.detaches.insert(state.number);
                state.user = UserPhase::Away;
            }
            SignInStep::NodeDies => {
                state.deaths += 1;
                state.dead = Some(state.number);
                state.user = UserPhase::Away;
            }
            SignInStep::GivesNodeUp(number) => {
                state.dead = None;
                // The keys of that node are purged, and no others.
                if state.key_at(state.revision) == Some(number) {
                    state.put_key(None);
                }
                state.l1 = state.l1.filter(|entry| *entry > number);
            }
            SignInStep::Deliver(event, number) => {
                state.under_way.remove(&(event, number));
                // Where nobody takes it any more, the node bounces it, or the worker if there is no node.
                let is_there = state.user != UserPhase::Away && state.number == number;
                let list = if is_there { &mut state.has } else { &mut state.pushed };
                list.insert(event);
            }
            SignInStep::Detach(number) => {
                state.detaches.remove(&number);
                state.l1 = state.l1.filter(|entry| *entry > number);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(UP_HAS_ALL, |_, state: &SignInState| {
                state.user != UserPhase::Up
                    || !state.is_quiet()
                    || (1..=state.dispatched).all(|event| state.has.contains(&event))
            }),
            Property::always(AWAY_GETS_PUSH, |_, state: &SignInState| {
                let is_told = |event: u8| state.has.contains(&event) || state.pushed.contains(&event);
                !state.is_quiet() || (1..=state.dispatched).all(is_told)
            }),
            Property::sometimes(CAME_BACK, |_, state: &SignInState| {
                state.user == UserPhase::Up && state.number == SIGN_INS && state.has.len() == usize::from(EVENTS)
            }),
        ]
    }
}
