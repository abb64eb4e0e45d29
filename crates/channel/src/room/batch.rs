//! A batch: everything that waited at a room and was decided in one go, with what is to be written, read and done
//! for it.

use bytes::Bytes;
use sendpi_model::flow::FlowRequest;
use sendpi_model::link::AudienceReason;
use sendpi_model::server_frame::OpFrame;
use sendpi_model::{Event, Mentions, Millis, RoomInfo, UserId, Verb};
use sendpi_store::Row;

use super::{AnswerAddress, PageRequest};

/// A step to carry out once a batch is in the store and behind the fence. The order of the steps counts.
#[derive(Debug)]
pub(crate) enum BatchStep {
    /// Dispatch the event to L1 and push it to L2.
    Event(Event),
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
    /// Push an event to a user of whom no device confirmed it, then answer.
    Bounce(Bounce),
}

/// A bounce: an event that was dispatched to a node for a user, and that no device of the user confirmed.
#[derive(Debug)]
pub(crate) struct Bounce {
    /// The request that is confirmed. `None` for a bounce of the worker's own.
    pub(crate) to: Option<AnswerAddress>,
    /// The time under which a bounce of the worker's own is pending.
    pub(crate) pending_at: Option<Millis>,
    /// The user whose devices did not confirm the event.
    pub(crate) user: UserId,
    /// The event's seq.
    pub(crate) seq: u64,
    /// The event, if the tail has it.
    pub(crate) event: Option<Event>,
    /// The read that returns the event, if the tail does not have it.
    pub(crate) read: Option<usize>,
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

/// What every request costs, in bytes: its ids, and the row or the answer around its text.
const REQUEST_BYTES: usize = 512;
/// What a user who becomes a member, or ceases to be one, costs in rows, in bytes.
const MEMBER_BYTES: usize = 1024;

/// Returns about how many bytes a request costs in the store, or in answers to nodes.
pub(crate) fn request_weight(request: &FlowRequest) -> usize {
    let text = match &request.verb {
        Verb::Send { body, mentions, .. } => {
            let mentioned = match mentions {
                Some(Mentions::Users(users)) => users.iter().map(|user| user.len() + 3).sum(),
                Some(Mentions::All) | None => 0,
            };
            body.get().len() + mentioned
        }
        Verb::Create { members, .. } => (members.len() + 1) * MEMBER_BYTES,
        Verb::Invite { users, .. } => users.len() * MEMBER_BYTES,
        Verb::Join { .. } | Verb::Leave { .. } => MEMBER_BYTES,
        _ => 0,
    };
    REQUEST_BYTES + text
}
