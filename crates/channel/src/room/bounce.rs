//! Bounces: which events of a range a member wants to be pushed.

use sendpi_model::{Event, Millis, Notify, UserId};

use super::{AnswerAddress, Room};
use crate::pending_pushes::PendingId;

/// A bounce: no device of a user confirmed a range of events that were dispatched to a node for the user.
#[derive(Debug, Clone)]
pub(crate) struct Bounce {
    /// The request that is confirmed. `None` for a bounce of the worker's own.
    pub(crate) to: Option<AnswerAddress>,
    /// Set for a bounce of the worker's own.
    pub(crate) own: Option<OwnBounce>,
    /// The user.
    pub(crate) user: UserId,
    /// The seq of the first event.
    pub(crate) first: u64,
    /// The seq of the last event.
    pub(crate) last: u64,
}

/// What is special about a bounce of the worker's own.
#[derive(Debug, Clone)]
pub(crate) struct OwnBounce {
    /// Under what it is pending.
    pub(crate) pending: PendingId,
    /// The ranges, first and last seq, of which the user was pushed everything before a crash.
    pub(crate) pushed: Vec<(u64, u64)>,
}

/// What a member wants to be pushed.
#[derive(Debug, Clone)]
pub(crate) struct PushWish {
    user: UserId,
    notify: Notify,
    muted_until: Option<Millis>,
    /// The seq with which the user joined. Nothing before it is pushed.
    joined: u64,
}

impl PushWish {
    fn wants(&self, event: &Event) -> bool {
        let asked = match self.notify {
            Notify::All => true,
            Notify::Mentions => event.mentions().is_some_and(|mentions| mentions.include(&self.user)),
            Notify::None => false,
        };
        let muted = self.muted_until.is_some_and(|until| event.head.at < until);
        event.kind.is_counted() && !event.is_message_of(&self.user) && event.head.seq > self.joined && !muted && asked
    }
}

/// What a member wants of a range of events: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// How many events the member wants.
    pub(crate) count: u64,
    /// The newest event that the member wants.
    pub(crate) newest: Event,
    /// The time of the oldest event that the member wants.
    pub(crate) at: Millis,
}

impl WantedRange {
    /// Adds a range of other events, with what lies between both.
    pub(crate) fn join(&mut self, other: Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.count += other.count;
        self.at = self.at.min(other.at);
        if other.newest.head.seq > self.newest.head.seq {
            self.newest = other.newest;
        }
    }
}

/// Looks for what a member wants of a bounced range, newest event first.
#[derive(Debug, Clone)]
pub(crate) struct BounceScan {
    pub(crate) bounce: Bounce,
    wish: PushWish,
    pub(crate) wanted: Option<WantedRange>,
}

impl BounceScan {
    /// Looks at an event, which is older than those that were looked at before.
    pub(crate) fn look(&mut self, event: &Event) {
        let seq = event.head.seq;
        let mut pushed = self.bounce.own.iter().flat_map(|own| &own.pushed);
        let is_pushed = pushed.any(|(first, last)| (*first..=*last).contains(&seq));
        if seq < self.bounce.first || seq > self.bounce.last || is_pushed || !self.wish.wants(event) {
            return;
        }
        match &mut self.wanted {
            Some(wanted) => (wanted.first, wanted.count, wanted.at) = (seq, wanted.count + 1, event.head.at),
            None => {
                self.wanted =
                    Some(WantedRange { first: seq, last: seq, count: 1, newest: event.clone(), at: event.head.at });
            }
        }
    }
}

/// What becomes of a bounce.
#[derive(Debug)]
pub(crate) enum BounceOutcome {
    /// The user is in L1 again, is not a member any more, or wants nothing of the range.
    NoPush(Bounce),
    /// The user is to be pushed this.
    Push(Bounce, WantedRange),
    /// The range begins before the tail, so the timeline has to be read.
    Read(BounceScan),
}

impl Room {
    /// Decides what becomes of a bounce, as far as the tail shows it.
    pub(crate) fn bounced(&self, bounce: Bounce) -> BounceOutcome {
        let member = self.members.get(&bounce.user).filter(|_| !self.audience.contains(&bounce.user));
        let Some(member) = member else { return BounceOutcome::NoPush(bounce) };
        let wish = PushWish {
            user: bounce.user.clone(),
            notify: member.notify,
            muted_until: member.muted_until,
            joined: member.joined.seq,
        };
        let mut scan = BounceScan { bounce, wish, wanted: None };
        let first = scan.bounce.first.max(member.joined.seq + 1);
        if first < self.tail.first_seq() && self.tail.first_seq() > 1 && first <= self.head.seq {
            return BounceOutcome::Read(scan);
        }
        self.tail.from(first).rev().for_each(|event| scan.look(event));
        self.scanned(scan)
    }

    /// Decides what becomes of a bounce after its whole range was looked at.
    pub(crate) fn scanned(&self, scan: BounceScan) -> BounceOutcome {
        match scan.wanted {
            Some(wanted) if !self.audience.contains(&scan.bounce.user) => BounceOutcome::Push(scan.bounce, wanted),
            _ => BounceOutcome::NoPush(scan.bounce),
        }
    }
}
