//! Faults that test builds can switch on: mutants, which break one promise on purpose, and fail points, at which the process
//! ends as if it had been killed.
//!
//! Without the feature `faults` both are constants, and nothing of them is left in the program.

/// A promise that a test build can break, to show that a test would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Presence is answered as of 200 ms ago, without a barrier.
    BarrierOff,
    /// Nodes do not answer link messages' gaps, and workers do not send again.
    LinkAnswersOff,
    /// The fence is not read.
    FenceOff,
    /// A nonce that the tail does not know counts as new.
    NonceLookupOff,
    /// A new owner hands nothing out again.
    RedispatchOff,
    /// A session that ended without a word is not bounced.
    BounceOff,
    /// What a node that was given up did not settle is forgotten.
    DeadNodeBounceOff,
    /// A node that was given up is offered no new link.
    OfferOff,
    /// An activation reads nobody's presence.
    PresenceReadOff,
    /// An activation writes no order rows.
    OrderRowsOff,
    /// Who becomes a member is not put into L1.
    NewcomersOff,
    /// Events go to one node of an audience only.
    OneNodeOnly,
    /// L2 is not pushed.
    PushOff,
    /// Typing is not passed on.
    TypingOff,
    /// A page of a timeline says that nothing follows.
    MoreOff,
    /// The write of a batch counts as done at once, and is done 200 ms later.
    AnswerBeforeStore,
    /// The tail knows no nonce.
    NonceOff,
    /// Typing takes a seq.
    TypingCounted,
    /// A flow sends nothing again.
    FlowResendOff,
    /// A node hands events to the first session of each user only.
    OneDeviceOnly,
    /// A resume replays nothing.
    ReplayOff,
    /// Live events are not held back during a replay.
    HoldOff,
    /// A session's outbound queue has no limit.
    OutboxUnbounded,
    /// A session's outbound queue begins with its newest frame.
    OutboxReversed,
    /// A drain closes sessions without saying when to come back.
    ByeOff,
    /// A node takes only the first 16 items of a link message.
    LongMessagesCut,
    /// A session may be silent for ever.
    SilenceForgiven,
    /// A session outlives its token.
    ExpiryForgiven,
    /// A device may have several sessions.
    SameDeviceStays,
    /// Read markers go nowhere.
    MarkersOff,
    /// A page of rooms begins with the last room of the page before.
    PageRepeats,
}

/// A failure of the bus that a test build can play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusFault {
    /// The next message of a link is lost. Once: the file is emptied by it.
    LoseLinkMessage,
    /// Nodes do not answer links, as long as the file says so.
    MuteNodes,
}

/// Where a test build can end the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailPoint {
    /// A batch is in the store; its fence has not been read.
    AfterStore,
    /// The fence is passed; nothing has been dispatched.
    AfterFence,
    /// Events are in the links; nothing has been answered.
    AfterDispatch,
    /// Answers are on their way; push jobs are not.
    AfterAnswer,
    /// Push jobs are published; they do not count as settled yet.
    AfterPush,
}

#[cfg(feature = "faults")]
mod on {
    use std::sync::OnceLock;

    /// Whether the environment variable `SENDPI_MUTANT` names this mutant.
    #[must_use]
    pub fn mutant(which: super::Mutant) -> bool {
        static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
        let chosen = CHOSEN.get_or_init(|| std::env::var("SENDPI_MUTANT").ok());
        chosen.as_ref().is_some_and(|name| *name == format!("{which:?}"))
    }

    /// The file that `SENDPI_FAIL_POINT_FILE` names, if it holds this name: a test writes it when everything before is in place.
    fn armed(which: &dyn std::fmt::Debug) -> Option<&'static str> {
        static FILE: OnceLock<Option<String>> = OnceLock::new();
        let file = FILE.get_or_init(|| std::env::var("SENDPI_FAIL_POINT_FILE").ok()).as_deref()?;
        std::fs::read_to_string(file).is_ok_and(|name| name.trim() == format!("{which:?}")).then_some(file)
    }

    /// Whether this fail point is armed, for a place that has something to do before it ends the process.
    #[must_use]
    pub fn fail_point_armed(which: super::FailPoint) -> bool {
        armed(&which).is_some()
    }

    /// Ends the process at once if this fail point is armed.
    pub fn fail_point(which: super::FailPoint) {
        if fail_point_armed(which) {
            std::process::abort();
        }
    }

    /// Whether this failure of the bus is to be played now.
    #[must_use]
    pub fn bus_fault(which: super::BusFault) -> bool {
        let Some(file) = armed(&which) else { return false };
        which != super::BusFault::LoseLinkMessage || std::fs::write(file, "").is_ok()
    }
}

#[cfg(not(feature = "faults"))]
mod off {
    /// Always false: this build has no mutants.
    #[must_use]
    #[inline(always)]
    pub const fn mutant(_: super::Mutant) -> bool {
        false
    }

    /// Always false: this build has no fail points.
    #[must_use]
    #[inline(always)]
    pub const fn fail_point_armed(_: super::FailPoint) -> bool {
        false
    }

    /// Always false: this build plays no failures.
    #[must_use]
    #[inline(always)]
    pub const fn bus_fault(_: super::BusFault) -> bool {
        false
    }

    /// Does nothing: this build has no fail points.
    #[inline(always)]
    pub const fn fail_point(_: super::FailPoint) {}
}

#[cfg(not(feature = "faults"))]
pub use off::{bus_fault, fail_point, fail_point_armed, mutant};
#[cfg(feature = "faults")]
pub use on::{bus_fault, fail_point, fail_point_armed, mutant};
