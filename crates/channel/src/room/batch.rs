//! A batch: everything that waited at a room and was decided in one go, with what is to be written, read and done
//! for it.

use bytes::Bytes;
use sendpi_model::link::AudienceReason;
use sendpi_model::server_frame::OpFrame;
use sendpi_model::{Event, RoomInfo, UserId};
use sendpi_store::Row;

use super::{AnswerAddress, Bounce, PageRequest};

/// A step to carry out once a batch is in the store and behind the fence. The order of the steps counts.
#[derive(Debug)]
pub(crate) enum BatchStep {
    /// Dispatch the event to L1 and push it to L2.
    Event(Event),
    /// Dispatch to L1, for a new owner, an event of an earlier one. Who does not come back is bounced it later.
    Again(Event),
    /// Dispatch an ephemeral event to L1.
    Typing(Bytes),
    /// These users became members. Add those who are online to L1.
    Joined(Vec<(UserId, RoomInfo)>),
    /// These users are not members any more.
    Left(Vec<UserId>, AudienceReason),
    /// Add the user to L1, then answer.
    Attach { to: AnswerAddress, user: UserId, signin: u64, frame: Bytes },
    /// Remove the user from L1, then answer.
    Detach { to: AnswerAddress, user: UserId, signin: u64 },
    /// Answer.
    Answer { to: AnswerAddress, frame: Bytes },
    /// Answer with a page of the members, and who of them is in L1 by then.
    Members { to: AnswerAddress, cursor: Option<UserId>, limit: usize },
    /// Answer with the result of a read from the store.
    Read { to: AnswerAddress, read: usize },
    /// Push to a user what no device of the user confirmed, then answer.
    Bounce(Bounce),
}

/// A read of a batch from the store, after the batch's rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BatchRead {
    /// A page of the timeline.
    Page(PageRequest),
    /// The event at this seq.
    Event(u64),
    /// A page of the members of an inactive room, with who of them is online.
    Members { cursor: Option<UserId>, limit: usize },
}

/// Everything that waited at a room, admitted.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The rows that must be in the store before the events: what new members need to find the room.
    pub(crate) before: Vec<Row>,
    /// The new members, whose presence is read after `before` is written.
    pub(crate) newcomers: Vec<UserId>,
    /// The rows of the events.
    pub(crate) events: Vec<Row>,
    /// The rows that follow the fence.
    pub(crate) after: Vec<Row>,
    /// The reads from the store.
    pub(crate) reads: Vec<BatchRead>,
    /// The steps to carry out after all that.
    pub(crate) steps: Vec<BatchStep>,
}

impl Batch {
    /// Returns whether the batch only writes events. Such batches of many rooms share one store job.
    pub(crate) fn is_plain(&self) -> bool {
        self.before.is_empty() && self.newcomers.is_empty() && self.after.is_empty() && self.reads.is_empty()
    }

    pub(super) fn answer(&mut self, to: Option<AnswerAddress>, frame: &impl OpFrame) {
        if let Some(to) = to {
            self.steps.push(BatchStep::Answer { to, frame: frame.to_frame().into() });
        }
    }

    pub(super) fn read(&mut self, to: Option<AnswerAddress>, read: BatchRead) {
        if let Some(to) = to {
            self.steps.push(BatchStep::Read { to, read: self.reads.len() });
            self.reads.push(read);
        }
    }
}
