//! A batch: everything that waited at a room and was decided in one go, with what is to be written, read and done
//! for it.

use std::sync::Arc;

use bytes::Bytes;
use sendpi_model::flow::{FlowRequest, Requester};
use sendpi_model::link::AudienceReason;
use sendpi_model::server_frame::OpFrame;
use sendpi_model::{Event, Head, Mentions, Role, RoomId, RoomInfo, UserId, Verb, limits};
use sendpi_store::{EpochChain, Row, Stamp};

use super::{AnswerAddress, Bounce, PageRequest};

/// A step to carry out once a batch is in the store and behind the fence. The order of the steps counts.
#[derive(Debug)]
pub(crate) enum BatchStep {
    /// Dispatch the event to L1 and push it to L2.
    Event(Event),
    /// Dispatch to L1, for a new owner, an event of an earlier one, which stands for all from `first` on. Who does not
    /// come back is bounced them later.
    Again { event: Event, first: Head },
    /// Dispatch an ephemeral event to L1.
    Typing(Bytes),
    /// These users became members. Add those who are online to L1.
    Joined(Vec<(UserId, RoomInfo)>),
    /// These users are not members any more. Once no node passes events on to them, answer.
    Left { users: Vec<UserId>, reason: AudienceReason, then: Option<(AnswerAddress, Bytes)> },
    /// Add the user to L1, then answer.
    Attach { to: AnswerAddress, user: UserId, signin: u64, frame: Bytes },
    /// Remove the user from L1, then answer.
    Detach { to: AnswerAddress, user: UserId, signin: u64 },
    /// Answer.
    Answer { to: AnswerAddress, frame: Bytes },
    /// Push to a user what no device of the user confirmed, then answer.
    Bounce(Bounce),
}

/// What a user asked of a room. It changes nothing, and holds up no batch: it is read after the batch was dispatched,
/// on a task of its own.
#[derive(Debug)]
pub(crate) struct RoomRead {
    pub(crate) to: AnswerAddress,
    pub(crate) room: RoomId,
    pub(crate) user: UserId,
    /// Whether a service asks as itself.
    pub(crate) is_service: bool,
    pub(crate) kind: ReadKind,
}

/// What is read.
#[derive(Debug)]
pub(crate) enum ReadKind {
    /// A page of the timeline, up to the seq that is dispatched by then.
    Page { page: PageRequest, chain: Arc<EpochChain>, dispatched: u64 },
    /// The count at this seq, which is before the head of that time.
    Mark { seq: u64, chain: Arc<EpochChain>, head: Head },
    /// A page of the members, with who of them is online. `listed` is the seq of the room, the members of the page and
    /// the one after them, as of the dispatch of the batch: later, the next batch may be in memory and not be stored.
    Members { cursor: Option<UserId>, limit: usize, listed: Option<(u64, Vec<(UserId, Role)>)> },
    /// The room as the user sees it, which is not in the live table.
    Peek,
    /// Nothing: a user whose last session ended is in no audience of a room that is not in the live table.
    Detach,
}

impl ReadKind {
    /// Returns the most bytes of the answer.
    pub(crate) fn most_bytes(&self) -> usize {
        match self {
            Self::Page { .. } => limits::PAGE_BYTES,
            Self::Members { limit, .. } => limit * MEMBER_ENTRY_BYTES,
            Self::Mark { .. } | Self::Peek | Self::Detach => REQUEST_BYTES * 4,
        }
    }
}

/// Everything that waited at a room, admitted.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The stamp of the rows that must be in the store before the events.
    pub(crate) unfenced: Stamp,
    /// The rows that must be in the store before the events: what new members need to find the room.
    pub(crate) before: Vec<Row>,
    /// The new members, whose presence is read after `before` is written.
    pub(crate) newcomers: Vec<UserId>,
    /// The rows of the events.
    pub(crate) events: Vec<Row>,
    /// The rows that follow the fence.
    pub(crate) after: Vec<Row>,
    /// Whether the fence is passed once more behind them, because no event tells a new owner of them.
    pub(crate) fences_rows: bool,
    /// Whether the room is deleted by it.
    pub(crate) deletes_room: bool,
    /// What is read for users after the batch is dispatched.
    pub(crate) asked: Vec<RoomRead>,
    /// The steps to carry out after all that.
    pub(crate) steps: Vec<BatchStep>,
}

impl Batch {
    /// Returns whether the batch only writes events. Such batches of many rooms share one store job.
    pub(crate) fn is_plain(&self) -> bool {
        self.before.is_empty() && self.newcomers.is_empty() && self.after.is_empty()
    }

    /// Returns who becomes a member by its steps.
    pub(crate) fn joining(&self) -> impl Iterator<Item = &UserId> {
        let joined = self.steps.iter().filter_map(|step| match step {
            BatchStep::Joined(users) => Some(users),
            _ => None,
        });
        joined.flatten().map(|(user, _)| user)
    }

    pub(super) fn answer(&mut self, to: Option<AnswerAddress>, frame: &impl OpFrame) {
        if let Some(to) = to {
            self.steps.push(BatchStep::Answer { to, frame: frame.to_frame().into() });
        }
    }

    pub(super) fn ask(&mut self, to: Option<AnswerAddress>, room: &RoomId, who: Requester<'_>, kind: ReadKind) {
        let (room, user, is_service) = (room.clone(), who.id().clone(), matches!(who, Requester::Service(_)));
        self.asked.extend(to.map(|to| RoomRead { to, room, user, is_service, kind }));
    }
}

/// What every request costs, in bytes: its ids, and the row or the answer around its text.
const REQUEST_BYTES: usize = 512;
/// What a user who becomes a member, or ceases to be one, costs in rows, in bytes.
const MEMBER_BYTES: usize = 1024;
/// The most bytes of a user in a page of members.
const MEMBER_ENTRY_BYTES: usize = 200;

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
        Verb::Join { .. }
        | Verb::Leave { .. }
        | Verb::Kick { .. }
        | Verb::Ban { .. }
        | Verb::Unban { .. }
        | Verb::Role { .. }
        | Verb::Notify { .. }
        | Verb::Delete { .. } => MEMBER_BYTES,
        Verb::DeleteRoom { .. } => limits::ROOM_MEMBERS * MEMBER_BYTES,
        // The body is in the event and in the row of the message.
        Verb::Edit { body, .. } => MEMBER_BYTES + 2 * body.get().len(),
        Verb::Change { name, .. } => MEMBER_BYTES + name.as_ref().map_or(0, String::len),
        _ => 0,
    };
    REQUEST_BYTES + text
}
