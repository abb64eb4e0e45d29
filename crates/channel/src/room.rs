//! The pure core of one room: what it decides, without tokio and without a store.
//!
//! The executor feeds it requests and the results of store jobs, and carries out the [`Batch`] that comes back.

mod audience;
mod batch;
mod bounce;
mod change;
mod decide;
mod idle;
mod last_message;
mod leaving;
mod lookup;
mod members;
mod membership;
mod offline;
mod open;
mod page;
mod pushed;
mod revise;
mod tail;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::flow::{FlowRequest, Requester};
use sendpi_model::rights;
use sendpi_model::{
    Access, Event, Head, Mark, Millis, NodeId, Notify, Partition, Refusal, Role, RoomId, RoomInfo, RoomKind, UserId,
};
use sendpi_store::{EpochChain, MemberRow, OrderRow, RoomOfUser, RoomRow, Row};

pub(crate) use audience::Audience;
pub(crate) use batch::{Batch, BatchStep, ReadKind, RoomRead, request_weight};
pub(crate) use bounce::{Bounce, BounceOutcome, BounceScan, OwnBounce, WantedRange};
pub(crate) use idle::IdleClock;
pub use idle::IdleConfig;
pub(crate) use lookup::{Found, Lookup, Lookups, Wanted, add_lookups};
#[cfg(test)]
pub(crate) use lookup::{NonceResult, Reach};
pub(crate) use members::members_answer;
use offline::Offline;
pub(crate) use open::{StoredRoom, cut_at_hole, is_settled, tail_from};
pub(crate) use page::{PageRequest, page_frame};
pub(crate) use pushed::PushedLog;
pub(crate) use revise::TargetEvent;
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
                last: self.last.as_ref().and_then(LastMessage::preview),
                members: self.members.len() as u32,
            }
            .with_marker(None),
        )
    }

    /// Returns ROOM as a user or a service sees it. A service that is no member has the rights of an admin, and has
    /// nothing to read.
    fn info_for(&self, who: Requester<'_>) -> Option<RoomInfo> {
        match (who, self.members.get(who.id())) {
            (Requester::Service(_), None) => {
                let last = self.last.as_ref().and_then(LastMessage::preview);
                let row = RoomRow { head: self.head, last, members: self.members.len() as u32, ..self.row.clone()? };
                Some(info_for_service(&row))
            }
            _ => self.info(who.id()),
        }
    }

    /// Returns the order rows of all members, as an activation for a durable event writes them.
    pub(crate) fn order_rows(&self, at: Millis) -> Vec<Row> {
        self.members.keys().map(|user| order_row(&self.id, user, at)).collect()
    }

    /// Returns the rows that eviction writes: the head, and for each member the room's place in the list.
    pub(crate) fn head_rows(&self) -> Vec<Row> {
        let Some(row) = &self.row else { return Vec::new() };
        let of_users = self.members.iter().map(|(user, member)| self.room_of_user(user, member));
        let healed = self.healed.iter().flat_map(|user| match self.members.get(user) {
            Some(member) => vec![self.member_row(user, member)],
            None => vec![self.gone_member(user, self.head), self.gone_room(user, self.head)],
        });
        std::iter::once(self.head_row(row)).chain(of_users).chain(healed).collect()
    }

    /// Returns the room's row with its present head.
    fn head_row(&self, row: &RoomRow) -> Row {
        Row::Room(RoomRow {
            stamp: self.head.seq,
            members: self.members.len() as u32,
            head: self.head,
            last: self.last.as_ref().and_then(LastMessage::preview),
            ..row.clone()
        })
    }

    /// Returns whether the rows that eviction writes are behind the timeline. Lists of rooms show what they say.
    pub(crate) fn head_row_lags(&self) -> bool {
        let is_behind = self.row.as_ref().is_some_and(|row| row.head.seq < self.dispatched);
        (is_behind && !self.members.is_empty()) || !self.healed.is_empty()
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

    /// Returns the time that gives the room its place in a member's list.
    fn listed_at(&self, member: &RoomMember) -> Millis {
        listed_at(self.last.as_ref().map(LastMessage::at), member.joined_at)
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
            banned: false,
        })
    }
}

/// Returns the time that gives a room its place in a member's list: that of the last message, or that of the member's
/// joining if it is later. Other events move no room up.
fn listed_at(last: Option<Millis>, joined_at: Millis) -> Millis {
    last.map_or(joined_at, |last| last.max(joined_at))
}

/// Returns whether anybody may join. A direct room is never open, whatever its row says.
fn is_open(row: &RoomRow) -> bool {
    row.kind == RoomKind::Group && row.access == Access::Open && !row.deleted
}

/// Returns ROOM as a member sees it by the rows alone, which are up to date while no channel runs. Of the member's own
/// messages they tell only the last message of the room. An earlier one moved the read marker of its sender, too, where
/// it was sent.
///
/// # Errors
/// Returns the refusal of a user who is not a member.
pub(crate) fn info_of_rows(
    room: &RoomId,
    row: Option<RoomRow>,
    member: Option<MemberRow>,
    is_service: bool,
) -> Result<RoomInfo, Refusal> {
    let member = member.and_then(|row| Some((row.role?, row)));
    if let (Some(row), None, true) = (row.as_ref().filter(|row| !row.deleted), &member, is_service) {
        return Ok(info_for_service(row));
    }
    let (Some(row), Some((role, member))) = (&row, member) else {
        return Err(rights::not_a_member(room, row.as_ref().is_some_and(is_open)));
    };
    // Nothing behind the last message is counted.
    let own = row.last.as_ref().filter(|last| last.from == member.user);
    let spoke = own.map(|last| Mark { seq: last.seq, count: row.head.count }).unwrap_or_default();
    let info = RoomInfo {
        room: room.clone(),
        name: row.name.clone(),
        kind: row.kind,
        access: row.access,
        role,
        seq: row.head.seq,
        count: row.head.count,
        marker: member.joined.max(spoke),
        unread: 0,
        notify: member.notify,
        muted_until: member.muted_until,
        last_at: listed_at(row.last.as_ref().map(|last| last.at), member.joined_at),
        last: row.last.clone(),
        members: row.members,
    };
    Ok(info.with_marker(None))
}

/// Returns ROOM as a service sees it that is no member.
fn info_for_service(row: &RoomRow) -> RoomInfo {
    let head = row.head;
    RoomInfo {
        room: row.room.clone(),
        name: row.name.clone(),
        kind: row.kind,
        access: row.access,
        role: Role::Admin,
        seq: head.seq,
        count: head.count,
        marker: Mark { seq: head.seq, count: head.count },
        unread: 0,
        notify: Notify::None,
        muted_until: None,
        last_at: row.last.as_ref().map_or(head.at, |last| last.at),
        last: row.last.clone(),
        members: row.members,
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
    /// Set if this is a bounce of the worker's own.
    pub(crate) own: Option<OwnBounce>,
    pub(crate) request: FlowRequest,
}
