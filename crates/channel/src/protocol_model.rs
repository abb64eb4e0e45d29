//! The model of the protocol, whose states are all tried. What is pure in the program is the same here: which rows
//! count ([`sendpi_store::EpochChain`]) and which fence lets an owner pass ([`crate::tenure::Tenure`]).
//!
//! - `ownership`: claims, crashes, frozen owners that go on, and late writes of the store.
//! - `sign_in`: a sign-in against the activation of a channel, its eviction, and the death of a node.

mod ownership;
mod sign_in;

use stateright::{Checker, Model};

use self::ownership::Ownership;
use self::sign_in::SignIn;

/// One thing that the protocol demands, left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Broken {
    /// What was written is answered without a look at the fence.
    NoFenceCheck,
    /// The look at the fence begins before the write is complete.
    FenceReadTooEarly,
    /// The tail is read before the fence is raised.
    TailBeforeFence,
    /// The tail is read before the starts.
    TailBeforeStarts,
    /// A start counts although the newest one does not continue it.
    StartsWithoutChain,
    /// A new owner does not hand out again what an earlier one may not have.
    NoHandingOutAgain,
    /// An attach is answered without a look at the fence.
    AttachWithoutFence,
    /// Presence is read from whatever copy answers.
    NoBarrier,
    /// Presence is read before the channel is in the live table.
    PresenceBeforeLive,
    /// The order row is written behind the barrier.
    OrderRowAfterBarrier,
}

/// Returns the names of what does not hold of a model, and of what it never reaches.
fn violated<M: Model + Send + Sync + 'static>(model: M) -> Vec<&'static str>
where
    M::State: Clone + std::fmt::Debug + std::hash::Hash + Send + Sync + PartialEq,
    M::Action: Clone + std::fmt::Debug + PartialEq,
{
    let names: Vec<&'static str> = model.properties().iter().map(|property| property.name).collect();
    let checker = model.checker().spawn_bfs().join();
    assert!(checker.is_done() && checker.unique_state_count() > 10_000, "{}", checker.unique_state_count());
    let found = checker.discoveries();
    let is_violated =
        |name: &&str| found.contains_key(*name) != [ownership::REACHED, sign_in::CAME_BACK].contains(name);
    names.into_iter().filter(is_violated).collect()
}

#[test]
fn nothing_acknowledged_is_lost_or_contradicted_whoever_owns_the_room() {
    assert_eq!(violated(Ownership(None)), Vec::<&str>::new());
}

#[test]
fn each_part_of_the_protocol_of_ownership_is_needed() {
    for (broken, what) in [
        (Broken::NoFenceCheck, ownership::NO_CONTRADICTION),
        (Broken::FenceReadTooEarly, ownership::NO_CONTRADICTION),
        (Broken::TailBeforeFence, ownership::IN_THE_TIMELINE),
        (Broken::StartsWithoutChain, ownership::IN_THE_TIMELINE),
        (Broken::NoHandingOutAgain, ownership::HANDED_OUT),
        (Broken::AttachWithoutFence, ownership::NEVER_BACK),
    ] {
        let violated = violated(Ownership(Some(broken)));
        assert!(violated.contains(&what), "{broken:?} violates only {violated:?}");
    }
}

#[test]
fn who_signs_in_has_every_event_and_who_is_away_gets_a_push() {
    assert_eq!(violated(SignIn(None)), Vec::<&str>::new());
}

#[test]
fn each_part_of_the_protocol_of_signing_in_is_needed() {
    for broken in [Broken::NoBarrier, Broken::PresenceBeforeLive, Broken::OrderRowAfterBarrier] {
        assert_eq!(violated(SignIn(Some(broken))), [sign_in::UP_HAS_ALL], "{broken:?}");
    }
}

/// A row that a tail read too early misses was stored after the fence was raised, so that nobody was told of it, and
/// a start that it misses continues no row that counts. The order of the two reads is kept all the same: it costs
/// nothing.
#[test]
fn the_order_of_tail_and_starts_alone_makes_no_difference() {
    assert_eq!(violated(Ownership(Some(Broken::TailBeforeStarts))), Vec::<&str>::new());
}
