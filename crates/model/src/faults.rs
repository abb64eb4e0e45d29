//! Faults that test builds can switch on: mutants, which break one promise on purpose; failures of the bus; fail
//! points, at which the process ends as if it had been killed; and freeze points, at which it stops until it is told
//! to go on.
//!
//! Without the feature `faults` they are constants, and nothing of them is left in the program.

/// A promise that a test build can break, which shows that a test would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// An activation reads presence first, and writes its order rows 200 ms later.
    BarrierOff,
    /// Nodes do not answer links, and workers do not resend link messages.
    LinkAnswersOff,
    /// The fence is passed without a read.
    FenceOff,
    /// A nonce that the tail does not know counts as new.
    NonceLookupOff,
    /// A new owner dispatches nothing again.
    RedispatchOff,
    /// Nodes do not bounce events.
    BounceOff,
    /// What a given-up node did not settle is forgotten.
    DeadNodeBounceOff,
    /// A given-up node is not offered a new link.
    OfferOff,
    /// An activation reads nobody's presence.
    PresenceReadOff,
    /// An activation writes no order rows.
    OrderRowsOff,
    /// New members are not added to L1.
    NewcomersOff,
    /// Events are dispatched to only one node of an audience.
    OneNodeOnly,
    /// Events cause no pushes to L2.
    PushOff,
    /// Typing is not dispatched.
    TypingOff,
    /// A page of a timeline says that nothing follows.
    MoreOff,
    /// The write of a batch counts as done at once, but begins 200 ms later.
    AnswerBeforeStore,
    /// The tail finds no nonce.
    NonceOff,
    /// Typing takes a seq.
    TypingCounted,
    /// A flow resends nothing.
    FlowResendOff,
    /// A node delivers events only to the first session of each user.
    OneDeviceOnly,
    /// A resume replays nothing.
    ReplayOff,
    /// Live events are not held back during a replay.
    HoldOff,
    /// A session's outbound queue has no limit.
    OutboxUnbounded,
    /// A new frame goes to the front of a session's outbound queue.
    OutboxReversed,
    /// A drain closes sessions without saying when to reconnect.
    ByeOff,
    /// A node reads only the first 16 items of a link message.
    LongMessagesCut,
    /// A session may stay silent forever.
    SilenceForgiven,
    /// A session continues after its token has expired.
    ExpiryForgiven,
    /// A device may have several sessions.
    SameDeviceStays,
    /// Read markers are neither stored nor sent to other devices.
    MarkersOff,
    /// A page of rooms begins with the last room of the previous page.
    PageRepeats,
    /// Events push every member who wants a push, also who is online.
    PushEverybody,
    /// A resume leaves each room that is behind to the client, and says so.
    ReplayTruncated,
    /// The heads of rooms are not compared.
    HeadsOff,
    /// A node ignores that its own key was lost.
    OwnKeyOff,
    /// A node whose log of unconfirmed events is full goes on.
    OverrunOff,
    /// A bucket or stream that is lost is not made anew.
    LostStreamsOff,
    /// Keys of users who are not there are not purged.
    StraysOff,
    /// Silence counts also while nobody can be heard.
    HearingOff,
    /// A new owner does not look at rooms whose time is ahead of its clock.
    FutureRoomsOff,
    /// A second signal changes nothing.
    SecondSignalOff,
    /// Who was kicked or banned still gets live events.
    KickedHear,
    /// Who is banned may join again.
    BansOff,
    /// Edits and deletions leave the stored message as it was.
    RevisionsOff,
    /// Members are pushed what they chose not to be pushed.
    NotifyOff,
    /// Tokens that were revoked sign in.
    RevokedForgiven,
    /// A sign-out ends the sessions of one node.
    SignOutHere,
    /// A system event that comes again is another one.
    IngestIdsOff,
    /// A bad system event is dropped.
    IngestLettersOff,
    /// Each push job is a notification of its own.
    CollapseOff,
    /// What was read is pushed.
    ReadPushed,
    /// A notification that the webhook does not take is dropped.
    PushRetriesOff,
    /// A push job that comes again is another one.
    JobsCountTwice,
    /// Nobody is held to a rate.
    RatesOff,
    /// The newest epoch that began at or before a seq owns it, whether or not the chain of starts leads there.
    StartsChainOff,
}

/// A failure of the bus that a test build can simulate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusFault {
    /// The next message of a link is lost. This happens once, because it empties the file.
    LoseLinkMessage,
    /// Nodes do not answer links as long as the file contains this name.
    MuteNodes,
}

/// A point at which a test build can end the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailPoint {
    /// A batch is in the store, and its fence has not been read.
    AfterStore,
    /// The fence is passed, and nothing has been dispatched.
    AfterFence,
    /// Events are sent on the links, and nothing has been answered.
    AfterDispatch,
    /// Answers are sent on the links, and no push job has been published.
    AfterAnswer,
    /// The jobs of a push are in the push stream, and the push still counts as pending.
    AfterPush,
}

/// A point at which a test build can freeze the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreezePoint {
    /// A batch with events is made, and nothing of it is written.
    BeforeBatch,
    /// A room is read, and its start is not written.
    BeforeStart,
}

#[cfg(feature = "faults")]
mod on {
    use std::process::Command;
    use std::sync::OnceLock;

    use crate::RoomId;

    /// Returns whether the environment variable `SENDPI_MUTANT` names this mutant.
    #[must_use]
    pub fn mutant(which: super::Mutant) -> bool {
        static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
        let chosen = CHOSEN.get_or_init(|| std::env::var("SENDPI_MUTANT").ok());
        chosen.as_ref().is_some_and(|name| *name == format!("{which:?}"))
    }

    /// Returns the path in `SENDPI_FAIL_POINT_FILE` if that file contains the name of this fault. A test writes the
    /// file when everything that must happen before is done.
    fn armed(which: &dyn std::fmt::Debug) -> Option<&'static str> {
        static FILE: OnceLock<Option<String>> = OnceLock::new();
        let file = FILE.get_or_init(|| std::env::var("SENDPI_FAIL_POINT_FILE").ok()).as_deref()?;
        std::fs::read_to_string(file).is_ok_and(|name| name.trim() == format!("{which:?}")).then_some(file)
    }

    /// Returns whether this fail point is armed, for a caller that has something to do before the process ends.
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

    /// Freezes the process until the signal `CONT`, once, if the file names this point and this room, such as
    /// `BeforeStart =c:7`.
    pub fn freeze_point(which: super::FreezePoint, room: &RoomId) {
        let file = armed(&format_args!("{which:?} {room}"));
        if file.is_some_and(|file| std::fs::write(file, "").is_ok()) {
            let stop = format!("kill -s STOP {}", std::process::id());
            let _stopped = Command::new("sh").args(["-c", &stop]).status();
        }
    }

    /// Returns whether to simulate this failure of the bus.
    #[must_use]
    pub fn bus_fault(which: super::BusFault) -> bool {
        let Some(file) = armed(&which) else { return false };
        which != super::BusFault::LoseLinkMessage || std::fs::write(file, "").is_ok()
    }
}

#[cfg(not(feature = "faults"))]
mod off {
    /// Returns `false`, because this build has no mutants.
    #[must_use]
    #[inline(always)]
    pub const fn mutant(_: super::Mutant) -> bool {
        false
    }

    /// Returns `false`, because this build has no fail points.
    #[must_use]
    #[inline(always)]
    pub const fn fail_point_armed(_: super::FailPoint) -> bool {
        false
    }

    /// Returns `false`, because this build simulates no failures.
    #[must_use]
    #[inline(always)]
    pub const fn bus_fault(_: super::BusFault) -> bool {
        false
    }

    /// Does nothing, because this build has no fail points.
    #[inline(always)]
    pub const fn fail_point(_: super::FailPoint) {}

    /// Does nothing, because this build has no freeze points.
    #[inline(always)]
    pub const fn freeze_point(_: super::FreezePoint, _: &crate::RoomId) {}
}

#[cfg(not(feature = "faults"))]
pub use off::{bus_fault, fail_point, fail_point_armed, freeze_point, mutant};
#[cfg(feature = "faults")]
pub use on::{bus_fault, fail_point, fail_point_armed, freeze_point, mutant};
