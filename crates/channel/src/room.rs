//! The pure core of one room: what it decides, without tokio and without a store.
//!
//! The executor feeds it requests and the results of store jobs, and carries out the [`Batch`] that comes back.

mod audience;
mod batch;
mod bounce;
mod change;
mod decide;
mod idle;
mod info;
mod last_message;
mod leaving;
mod lookup;
mod members;
mod membership;
mod offline;
mod open;
mod page;
mod pushed;
mod retention;
mod revise;
mod rows;
mod tail;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::flow::FlowRequest;
use sendpi_model::rights;
use sendpi_model::{Event, Head, Mark, Millis, NodeId, Notify, Partition, Refusal, Role, RoomId, RoomKind, UserId};
use sendpi_store::{EpochChain, RoomRow, Stamp};

pub(crate) use audience::Audience;
pub(crate) use batch::{Batch, BatchStep, ReadKind, RoomRead, request_weight};
pub(crate) use bounce::{Bounce, BounceOutcome, BounceScan, OwnBounce, WantedRange};
pub(crate) use idle::IdleClock;
pub use idle::IdleConfig;
pub(crate) use info::info_of_rows;
use info::is_open;
pub(crate) use lookup::{Found, Lookup, Lookups, Wanted, add_lookups};
#[cfg(test)]
pub(crate) use lookup::{NonceResult, Reach};
pub(crate) use members::members_answer;
use offline::Offline;
pub(crate) use open::{StoredRoom, cut_at_hole, is_settled, tail_from};
pub(crate) use page::{PageRequest, page_frame};
pub(crate) use pushed::PushedLog;
pub(crate) use revise::TargetEvent;
pub(crate) use rows::order_row;
pub(crate) use tail::Tail;

use self::last_message::LastMessage;

/// A member, as the room knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomMember {
    pub(crate) role: Role,
    pub(crate) joined: Mark,
    pub(crate) joined_at: Millis,
    /// The member's own last message in the tail, which has moved the member's read marker.
    pub(crate) spoke: Mark,
    pub(crate) notify: Notify,
    pub(crate) muted_until: Option<Millis>,
    /// The stamp of the member's row, which follows the membership event that made the member as it is.
    pub(crate) stamp: Stamp,
}

impl RoomMember {
    /// Returns how far the member has read at least.
    pub(crate) fn marker(&self) -> Mark {
        self.joined.max(self.spoke)
    }
}

/// One open room.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) id: RoomId,
    /// The epoch under which it was opened.
    pub(crate) epoch: u64,
    /// `None` if the room was never created.
    pub(crate) row: Option<RoomRow>,
    pub(crate) members: BTreeMap<UserId, RoomMember>,
    /// The end of the timeline, including what the batch under way will add.
    pub(crate) head: Head,
    /// The seq of the last event that was dispatched.
    pub(crate) dispatched: u64,
    pub(crate) tail: Tail,
    last: Option<LastMessage>,
    /// L1: the members who are online.
    pub(crate) audience: Audience,
    /// L2: the members who are offline.
    offline: Offline,
    /// Which rows of the timeline count.
    pub(crate) chain: Arc<EpochChain>,
    /// The members whose rows a crash took. They are written with the head.
    healed: Vec<UserId>,
    /// Whether the channel is active: presence was read, and the audience is kept current.
    pub(crate) active: bool,
    /// When the write of the order rows that are confirmed was first issued.
    pub(crate) rows_at: Option<Millis>,
    /// The users who are about to join, and whether they may be in one more room.
    counted: HashMap<UserId, bool>,
    /// The users who are banned.
    banned: BTreeSet<UserId>,
    /// Messages that waiting requests are about and that are no longer in the tail, by seq.
    targets: HashMap<u64, TargetEvent>,
    /// The messages whose bodies were removed lately because of their authors, and by which seq. A look-up that was
    /// under way at that time does not know it.
    forgotten: VecDeque<(u64, u64)>,
    /// How many days events are kept if the room does not say. 0 is for ever.
    pub(crate) retention_default: u16,
}

impl Room {
    /// Returns the member. A user who is not a member is refused, and hears of the room only if it is open.
    pub(crate) fn member(&self, user: &UserId) -> Result<&RoomMember, Refusal> {
        self.members.get(user).ok_or_else(|| rights::not_a_member(&self.id, self.is_open()))
    }

    /// Returns whether anybody may join.
    fn is_open(&self) -> bool {
        self.row.as_ref().is_some_and(is_open)
    }

    /// Returns whether members may come and go.
    pub(crate) fn is_group(&self) -> bool {
        self.row.as_ref().is_none_or(|row| row.kind == RoomKind::Group)
    }

    /// Adds a user on a node to L1. Returns `true` if the user was not in L1 on that node before. Only members are
    /// added.
    pub(crate) fn attach(&mut self, user: &UserId, node: &NodeId, signin: u64) -> bool {
        // The member's own id is shared, because rooms are many.
        let Some((user, _)) = self.members.get_key_value(user) else { return false };
        self.offline.remove(user);
        self.audience.add(user, node, signin)
    }

    /// Removes a user on a node from L1, unless a later sign-in has attached. Returns `true` if the user was removed.
    pub(crate) fn detach(&mut self, user: &UserId, node: &NodeId, signin: u64) -> bool {
        let removed = self.audience.remove(user, node, signin);
        self.update_l2(user);
        removed
    }

    /// Removes a user who is not a member any more from L1. Returns the nodes where the user was.
    pub(crate) fn detach_everywhere(&mut self, user: &UserId) -> Vec<NodeId> {
        let nodes = self.audience.remove_user(user);
        self.update_l2(user);
        nodes
    }

    /// Removes all users on a node from L1.
    pub(crate) fn detach_node(&mut self, node: &NodeId) {
        for user in self.audience.remove_node(node) {
            self.update_l2(&user);
        }
    }

    /// Makes the channel active. From now on, L1 and L2 are kept current.
    pub(crate) fn activate(&mut self, rows_at: Option<Millis>) {
        self.active = true;
        self.rows_at = rows_at.or(self.rows_at);
        self.rebuild_l2();
    }

    fn update_l2(&mut self, user: &UserId) {
        if self.members.contains_key(user) && !self.audience.contains(user) {
            self.offline.insert(user);
        } else {
            self.offline.remove(user);
        }
    }

    fn rebuild_l2(&mut self) {
        self.offline.replace(self.members.keys().filter(|user| !self.audience.contains(user)).cloned());
    }

    /// Returns whether a durable event may be dispatched now, which needs order rows that are confirmed and young
    /// enough.
    pub(crate) fn has_fresh_rows(&self, now: Millis, age: Duration) -> bool {
        self.active && self.rows_at.is_some_and(|at| now.since(at) < age)
    }

    /// Returns whether a batch that is in the store must wait for new order rows, because it has events and the rows
    /// grew too old while it was written.
    pub(crate) fn needs_new_rows(&self, steps: &[BatchStep], now: Millis, age: Duration) -> bool {
        !self.has_fresh_rows(now, age) && steps.iter().any(|step| matches!(step, BatchStep::Event(_)))
    }

    /// Returns the members in L2 who want a push for `event`, in lists that events share.
    pub(crate) fn wants_push(&mut self, event: &Event) -> Vec<Arc<[UserId]>> {
        if mutant(Mutant::PushEverybody) && event.kind.is_counted() {
            return vec![self.members.keys().filter(|user| **user != event.from).cloned().collect()];
        }
        self.offline.who_wants(event, &self.members)
    }
}

/// Where an answer goes: the flow of a node to a partition, and the request's number in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnswerAddress {
    pub(crate) node: NodeId,
    pub(crate) partition: Partition,
    pub(crate) n: u64,
}

/// A queued request of a room. It has no `to` if it is typing or one of the worker's own bounces.
#[derive(Debug)]
pub(crate) struct QueuedRequest {
    pub(crate) to: Option<AnswerAddress>,
    /// Set if this is a bounce of the worker's own.
    pub(crate) own: Option<OwnBounce>,
    pub(crate) request: FlowRequest,
}
