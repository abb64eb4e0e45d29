//! The pure core of one room: what it decides, without tokio and without a store.
//!
//! The executor feeds it requests and the results of store jobs, and carries out the [`Batch`] that comes back.

mod audience;
mod batch;
mod decide;
mod idle;
mod lookup;
mod members;
mod membership;
mod open;
mod page;
mod tail;

#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use sendpi_model::flow::FlowRequest;
use sendpi_model::{
    Event, Head, Mark, Mentions, Millis, NodeId, Notify, Partition, Preview, Refusal, Role, RoomId, RoomInfo, UserId,
};
use sendpi_store::{EpochChain, MemberRow, OrderRow, RoomOfUser, RoomRow, Row};

pub(crate) use audience::Audience;
pub(crate) use batch::{Batch, BatchRead, BatchStep, Bounce};
pub(crate) use idle::IdleClock;
pub use idle::IdleConfig;
pub(crate) use lookup::{Lookup, Lookups};
pub(crate) use open::{StoredRoom, cut_at_hole, is_settled, tail_from};
pub(crate) use page::{PageRequest, page_frame};
pub(crate) use tail::Tail;

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
    /// The seq of the membership event that made the member as it is.
    pub(crate) stamp: u64,
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
    /// The last message, as lists of rooms show it.
    last: Option<Preview>,
    /// L1: the members who are online.
    pub(crate) audience: Audience,
    /// L2: the members who are offline.
    offline: BTreeSet<UserId>,
    /// Which rows of the timeline count.
    pub(crate) chain: EpochChain,
    /// Whether the channel is active: presence was read, and the audience is kept current.
    pub(crate) active: bool,
    /// When the write of the order rows that are confirmed was first issued.
    pub(crate) rows_at: Option<Millis>,
    /// The users who are about to join, and whether they may be in one more room.
    counted: HashMap<UserId, bool>,
}

impl Room {
    /// Returns the member. A user who is not a member is refused, and hears of the room only if it is open.
    pub(crate) fn member(&self, user: &UserId) -> Result<&RoomMember, Refusal> {
        use sendpi_model::{Access, Code};
        if let Some(member) = self.members.get(user) {
            return Ok(member);
        }
        match &self.row {
            Some(row) if row.access == Access::Open && !row.deleted => {
                Err(Refusal::new(Code::NotAMember, format!("you are not a member of {}", self.id)))
            }
            _ => Err(Refusal::no_such_room()),
        }
    }

    /// Adds a user on a node to L1. Returns `true` if the user was not in L1 on that node before. Only members are
    /// added.
    pub(crate) fn attach(&mut self, user: &UserId, node: &NodeId, signin: u64) -> bool {
        if !self.members.contains_key(user) {
            return false;
        }
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
        self.audience.remove_node(node);
        self.rebuild_l2();
    }

    /// Makes the channel active. From now on, L1 and L2 are kept current.
    pub(crate) fn activate(&mut self, rows_at: Option<Millis>) {
        self.active = true;
        self.rows_at = rows_at.or(self.rows_at);
        self.rebuild_l2();
    }

    fn update_l2(&mut self, user: &UserId) {
        if self.members.contains_key(user) && !self.audience.contains(user) {
            self.offline.insert(user.clone());
        } else {
            self.offline.remove(user);
        }
    }

    fn rebuild_l2(&mut self) {
        self.offline = self.members.keys().filter(|user| !self.audience.contains(user)).cloned().collect();
    }

    /// Returns whether a durable event may be dispatched now, which needs order rows that are confirmed and young
    /// enough.
    pub(crate) fn has_fresh_rows(&self, now: Millis, age: Duration) -> bool {
        self.active && self.rows_at.is_some_and(|at| now.since(at) < age)
    }

    /// Returns the members in L2 who want a push for `event`.
    pub(crate) fn wants_push(&self, event: &Event) -> Vec<UserId> {
        if !event.kind.is_counted() || self.offline.is_empty() {
            return Vec::new();
        }
        let mentions = OnceCell::new();
        self.offline.iter().filter(|user| self.wants(user, event, &mentions)).cloned().collect()
    }

    /// Returns whether a user wants a push for an event that no device of the user confirmed. A user who is in L1
    /// again wants none.
    pub(crate) fn wants_bounced(&self, user: &UserId, event: &Event) -> bool {
        event.kind.is_counted() && !self.audience.contains(user) && self.wants(user, event, &OnceCell::new())
    }

    fn wants(&self, user: &UserId, event: &Event, mentions: &OnceCell<Option<Mentions>>) -> bool {
        let Some(member) = self.members.get(user) else { return false };
        let muted = member.muted_until.is_some_and(|until| event.head.at < until);
        let mentioned = || match mentions.get_or_init(|| event.mentions()) {
            Some(Mentions::All) => true,
            Some(Mentions::Users(users)) => users.iter().any(|name| name == user.as_str()),
            None => false,
        };
        let asked = match member.notify {
            Notify::All => true,
            Notify::Mentions => mentioned(),
            Notify::None => false,
        };
        *user != event.from && !muted && asked
    }

    /// Returns ROOM as `user` sees it. The marker is the one at which the user joined, or the user's own last message.
    pub(crate) fn info(&self, user: &UserId) -> Option<RoomInfo> {
        let (row, member) = (self.row.as_ref()?, self.members.get(user)?);
        Some(
            RoomInfo {
                room: self.id.clone(),
                name: row.name.clone(),
                kind: row.kind,
                access: row.access,
                role: member.role,
                seq: self.head.seq,
                count: self.head.count,
                marker: member.marker(),
                unread: 0,
                notify: member.notify,
                muted_until: member.muted_until,
                last_at: self.listed_at(member),
                last: self.last.clone(),
                members: self.members.len() as u32,
            }
            .with_marker(None),
        )
    }

    /// Returns the order rows of all members, as an activation for a durable event writes them.
    pub(crate) fn order_rows(&self, at: Millis) -> Vec<Row> {
        self.members.keys().map(|user| order_row(&self.id, user, at)).collect()
    }

    /// Returns the rows that eviction writes: the head, and for each member the room's place in the list.
    pub(crate) fn head_rows(&self) -> Vec<Row> {
        let Some(row) = &self.row else { return Vec::new() };
        let row = RoomRow {
            stamp: self.head.seq,
            members: self.members.len() as u32,
            head: self.head,
            last: self.last.clone(),
            ..row.clone()
        };
        let of_users = self.members.iter().map(|(user, member)| self.room_of_user(user, member));
        std::iter::once(Row::Room(row)).chain(of_users).collect()
    }

    fn room_of_user(&self, user: &UserId, member: &RoomMember) -> Row {
        Row::RoomOfUser(RoomOfUser {
            user: user.clone(),
            room: self.id.clone(),
            stamp: self.head.seq,
            role: Some(member.role),
            joined: member.joined,
            active_at: self.listed_at(member),
        })
    }

    /// Returns the time that gives the room its place in a member's list: that of the last message, or that of the
    /// member's joining if it is later. Other events move no room up.
    fn listed_at(&self, member: &RoomMember) -> Millis {
        self.last.as_ref().map_or(member.joined_at, |last| last.at.max(member.joined_at))
    }

    fn member_row(&self, user: &UserId, member: &RoomMember) -> Row {
        Row::Member(MemberRow {
            room: self.id.clone(),
            user: user.clone(),
            stamp: member.stamp,
            role: Some(member.role),
            joined: member.joined,
            joined_at: member.joined_at,
            notify: member.notify,
            muted_until: member.muted_until,
        })
    }
}

pub(crate) fn order_row(room: &RoomId, user: &UserId, active_at: Millis) -> Row {
    Row::Order(OrderRow { user: user.clone(), active_at, room: room.clone() })
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
    /// The time of the event, if this is a pending bounce of the worker's own.
    pub(crate) pending_at: Option<Millis>,
    pub(crate) request: FlowRequest,
}
