//! How users become members: a room is made, they join it, or are invited. Every change of membership is a durable
//! event.
//!
//! The user's rows are written first, so that every member finds the room. The event and the fence follow, then the
//! member's row. If a crash comes in between, opening the room mends it from the tail.

use std::sync::Arc;

use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::flow::{FlowRequest, Requester};
use sendpi_model::rights::{self, Action, Standing};
use sendpi_model::server_frame::OkAnswer;
use sendpi_model::{Access, Code, Content, Head, Millis, Nonce, Refusal, Role, RoomKind, UserId, Verb, limits};
use sendpi_store::{EpochChain, RoomRow, Row, Stamp, Start};

use super::open::new_member;
use super::{AnswerAddress, Batch, BatchStep, QueuedRequest, Room, order_row};

/// Who invites whom.
#[derive(Debug)]
pub(super) struct Invitation<'a> {
    pub(super) by: Requester<'a>,
    pub(super) users: Vec<UserId>,
    pub(super) nonce: Option<&'a Nonce>,
}

impl Room {
    pub(super) fn create(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        creator: &UserId,
        verb: Verb,
        now: Millis,
    ) -> Result<(), Refusal> {
        let Verb::Create { name, kind, access, members, retention_days, nonce } = verb else { return Ok(()) };
        if let Some(row) = self.row.as_ref().filter(|_| self.head.seq > 0) {
            if kind == RoomKind::Direct && row.kind == RoomKind::Direct {
                let missing = self.missing(creator, &members);
                self.check_rooms(&missing)?;
                self.bring_back(batch, creator, missing, now);
                batch.answer(to, &self.view(Requester::User(creator), self.active, true)?);
                return Ok(());
            }
            if !row.deleted && row.creator == *creator && row.nonce == nonce.as_str() {
                batch.answer(to, &self.view(Requester::User(creator), self.active, true)?);
                return Ok(());
            }
            return Err(Refusal {
                field: Some("room".to_owned()),
                ..Refusal::new(Code::Conflict, format!("the room id {} is taken", self.id))
            });
        }
        self.check_rooms(members.iter().chain([creator]))?;
        let row = RoomRow {
            room: self.id.clone(),
            // A creation that failed may have left a row.
            stamp: self.row.as_ref().map_or(batch.unfenced, |row| batch.unfenced.max(row.stamp.next())),
            name,
            kind,
            access,
            creator: creator.clone(),
            nonce: nonce.as_str().to_owned(),
            members: members.len() as u32 + 1,
            head: Head::default(),
            last: None,
            retention_days,
            deleted: false,
            listed: None,
        };
        self.make(batch, row, members, now);
        batch.answer(to, &self.view(Requester::User(creator), true, false)?);
        Ok(())
    }

    /// Makes the inbox of a user, who is its only member, when a service first writes to it.
    pub(super) fn make_inbox(&mut self, batch: &mut Batch, who: Requester<'_>, verb: &Verb, now: Millis) {
        let owner = self.id.inbox_owner().and_then(|owner| UserId::parse(owner).ok());
        let is_first = self.row.is_none() && matches!((who, verb), (Requester::Service(_), Verb::Send { .. }));
        let Some(owner) = owner.filter(|_| is_first) else { return };
        let row = RoomRow {
            room: self.id.clone(),
            stamp: batch.unfenced,
            name: String::new(),
            kind: RoomKind::Inbox,
            access: Access::Invite,
            creator: owner,
            nonce: String::new(),
            members: 1,
            head: Head::default(),
            last: None,
            retention_days: None,
            deleted: false,
            listed: None,
        };
        self.make(batch, row, Vec::new(), now);
    }

    /// Makes the room, with its creator and the other members.
    fn make(&mut self, batch: &mut Batch, row: RoomRow, members: Vec<UserId>, now: Millis) {
        let creator = row.creator.clone();
        batch.before.push(Row::Room(row.clone()));
        if self.chain.newest().is_none() {
            let start = Start { epoch: self.epoch, next_seq: 1, continues: None };
            self.chain = Arc::new(EpochChain::of(&[start]));
            batch.before.push(Row::Start(self.id.clone(), start));
        }
        self.row = Some(row);
        self.activate(Some(now));
        let mut users = vec![creator.clone()];
        users.extend(members.into_iter().filter(|user| *user != creator));
        self.add(batch, &creator, None, users, None, now);
        self.make_owner(batch, &creator);
    }

    /// Makes a user the owner whom this batch has just added.
    fn make_owner(&mut self, batch: &mut Batch, user: &UserId) {
        if let Some(owner) = self.members.get_mut(user) {
            owner.role = Role::Owner;
            owner.stamp = owner.stamp.next();
        }
        // The user's rows were made with those of the others. They are made again with the role.
        if let Some(owner) = self.members.get(user) {
            batch.after.extend([
                self.member_row(user, owner),
                self.room_of_user(user, owner, Stamp::of(self.head.seq).next()),
            ]);
        }
        if let Some(BatchStep::Joined(joined)) = batch.steps.last_mut() {
            joined.iter_mut().filter(|(joined, _)| joined == user).for_each(|(_, info)| info.role = Role::Owner);
        }
    }

    /// Returns the sides of this direct room that a creation would bring back. An earlier release let them leave. Empty
    /// if the room is no direct room, or does not exist yet.
    pub(crate) fn missing_sides(&self, creator: &UserId, verb: &Verb) -> Vec<UserId> {
        match (verb, &self.row) {
            (Verb::Create { members, .. }, Some(row)) if row.kind == RoomKind::Direct => self.missing(creator, members),
            _ => Vec::new(),
        }
    }

    fn missing(&self, creator: &UserId, others: &[UserId]) -> Vec<UserId> {
        let sides = std::iter::once(creator).chain(others);
        sides.filter(|user| !self.members.contains_key(*user)).cloned().collect()
    }

    /// Makes both sides members of a direct room again. Members see the whole history, so they find what they wrote.
    fn bring_back(&mut self, batch: &mut Batch, creator: &UserId, missing: Vec<UserId>, now: Millis) {
        if missing.is_empty() {
            return;
        }
        if self.members.is_empty() {
            // There was nobody for whom the channel could have been activated.
            self.activate(Some(now));
        }
        self.add(batch, creator, None, missing, None, now);
        if !self.has_owner() {
            self.make_owner(batch, creator);
        }
        if let Some(row) = &mut self.row {
            row.deleted = false;
        }
        batch.after.extend(self.row.as_ref().map(|row| self.head_row(row)));
    }

    /// Returns the refusal of a user who may not do something here.
    pub(crate) fn check_may(&self, who: Requester<'_>, action: Action) -> Result<(), Refusal> {
        let Some(row) = self.row.as_ref().filter(|row| !row.deleted) else { return Err(Refusal::no_such_room()) };
        rights::check(&self.id, row.kind, self.is_open(), self.standing(who), action)
    }

    fn standing(&self, who: Requester<'_>) -> Standing {
        match (who, self.members.get(who.id())) {
            (Requester::Service(_), Some(member)) => Standing::Member(member.role.max(Role::Admin)),
            (Requester::Service(_), None) => Standing::Service,
            (Requester::User(_), Some(member)) => Standing::Member(member.role),
            (Requester::User(user), None) if self.banned.contains(user) && !mutant(Mutant::BansOff) => Standing::Banned,
            (Requester::User(_), None) => Standing::Stranger,
        }
    }

    pub(super) fn has_owner(&self) -> bool {
        self.members.values().any(|member| member.role == Role::Owner)
    }

    /// Returns whether who asks is not a member and may become one.
    pub(crate) fn may_join(&self, who: Requester<'_>) -> bool {
        !self.members.contains_key(who.id()) && self.check_may(who, Action::Join).is_ok()
    }

    /// Returns the users whom a request makes members, as the room is now. A creation's are not among them, because
    /// nobody else waits for its room.
    pub(crate) fn newcomers(&self, request: &FlowRequest) -> Vec<UserId> {
        let (new, admits) = match &request.verb {
            Verb::Join { .. } => (vec![request.user.clone()], self.may_join(request.requester())),
            Verb::Invite { users, .. } => {
                let new = users.iter().filter(|user| !self.members.contains_key(*user)).cloned().collect();
                let is_banned = users.iter().any(|user| self.banned.contains(user));
                (new, !is_banned && self.check_may(request.requester(), Action::Invite).is_ok())
            }
            _ => return Vec::new(),
        };
        if admits && self.check_places(new.len()).is_ok() { new } else { Vec::new() }
    }

    pub(super) fn join(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        who: Requester<'_>,
        nonce: Option<&Nonce>,
        now: Millis,
    ) -> Result<(), Refusal> {
        let user = who.id();
        if self.members.contains_key(user) {
            batch.answer(to, &OkAnswer::repeated());
            return Ok(());
        }
        self.check_may(who, Action::Join)?;
        self.check_places(1)?;
        self.check_rooms([user])?;
        let head = self.add(batch, user, None, vec![user.clone()], nonce, now);
        batch.answer(to, &OkAnswer::event(head, false));
        Ok(())
    }

    pub(super) fn invite(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        invitation: Invitation<'_>,
        now: Millis,
    ) -> Result<(), Refusal> {
        let Invitation { by, users, nonce } = invitation;
        self.check_may(by, Action::Invite)?;
        if let Some(user) = users.iter().find(|user| self.banned.contains(*user)) {
            let rule = format!("{user} is banned from {}: end the ban first", self.id);
            return Err(Refusal { field: Some("users".to_owned()), ..Refusal::new(Code::Forbidden, rule) });
        }
        let new: Vec<UserId> = users.into_iter().filter(|user| !self.members.contains_key(user)).collect();
        if new.is_empty() {
            batch.answer(to, &OkAnswer::repeated());
            return Ok(());
        }
        self.check_places(new.len())?;
        self.check_rooms(&new)?;
        let head = self.add(batch, by.id(), Some(by.id()), new, nonce, now);
        batch.answer(to, &OkAnswer::event(head, false));
        Ok(())
    }

    fn check_places(&self, more: usize) -> Result<(), Refusal> {
        if self.members.len() + more > limits::ROOM_MEMBERS {
            return Err(Refusal::new(
                Code::TooLarge,
                format!("{} may have at most {} members", self.id, limits::ROOM_MEMBERS),
            ));
        }
        Ok(())
    }

    fn check_rooms<'a>(&self, users: impl IntoIterator<Item = &'a UserId>) -> Result<(), Refusal> {
        match users.into_iter().find(|user| self.counted.get(*user) == Some(&false)) {
            Some(user) => {
                Err(Refusal::new(Code::TooLarge, format!("{user} may be in at most {} rooms", limits::USER_ROOMS)))
            }
            None => Ok(()),
        }
    }

    /// Returns the users whom a creation makes members, and whoever joins behind it in the queue, as far as their rooms
    /// must be counted first. Those who come into a room that exists are counted when they are prepared. `take` takes a
    /// place for a user, or returns `false`.
    pub(crate) fn uncounted<'a>(
        &mut self,
        waiting: impl IntoIterator<Item = &'a QueuedRequest>,
        mut take: impl FnMut(&UserId) -> bool,
    ) -> Vec<UserId> {
        let (mut uncounted, mut is_made) = (Vec::new(), false);
        if self.head.seq > 0 && self.is_group() {
            return uncounted;
        }
        for QueuedRequest { request, .. } in waiting {
            let users = match &request.verb {
                Verb::Create { members, .. } if self.head.seq == 0 => {
                    is_made = true;
                    members.iter().chain([&request.user]).cloned().collect()
                }
                Verb::Create { .. } => self.missing_sides(&request.user, &request.verb),
                Verb::Join { .. } if is_made => vec![request.user.clone()],
                Verb::Invite { users, .. } if is_made => users.clone(),
                _ => continue,
            };
            for user in users {
                if self.counted.contains_key(&user) || uncounted.contains(&user) {
                    continue;
                }
                if take(&user) {
                    self.counted.insert(user, true);
                } else {
                    uncounted.push(user);
                }
            }
        }
        uncounted
    }

    /// Notes whether a user who is about to become a member may be in one more room.
    pub(crate) fn note_counted(&mut self, user: UserId, has_place: bool) {
        self.counted.insert(user, has_place);
    }

    /// Forgets who was counted for the requests that have been decided now.
    pub(super) fn forget_counted(&mut self) {
        self.counted.clear();
    }

    fn add(
        &mut self,
        batch: &mut Batch,
        from: &UserId,
        by: Option<&UserId>,
        users: Vec<UserId>,
        nonce: Option<&Nonce>,
        now: Millis,
    ) -> Head {
        let head = self.event(batch, from, nonce, &Content::Joined { users: &users, by }, now);
        for user in &users {
            let member = new_member(Role::Member, head, self.notify_default());
            batch.before.push(order_row(&self.id, user, now));
            // The user finds the room by the first one. The second one stays, also if a batch before this one failed
            // and left a row, or if the user left in this batch.
            batch.before.push(self.room_of_user(user, &member, batch.unfenced));
            batch.after.push(self.room_of_user(user, &member, Stamp::of(head.seq)));
            batch.after.push(self.member_row(user, &member));
            self.members.insert(user.clone(), member);
            self.update_l2(user);
        }
        let joined = users.iter().filter_map(|user| Some((user.clone(), self.info(user)?))).collect();
        batch.newcomers.extend(users);
        batch.steps.push(BatchStep::Joined(joined));
        head
    }
}
