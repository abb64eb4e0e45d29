//! How users cease to be members: they leave, are kicked or banned, or the room is deleted.
//!
//! The event and the fence come first, then the rows. If a crash comes in between, opening the room mends it from the
//! tail.

use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::flow::Requester;
use sendpi_model::link::AudienceReason;
use sendpi_model::rights::Action;
use sendpi_model::server_frame::{OkAnswer, OpFrame};
use sendpi_model::{
    Code, Content, Head, LeftReason, Mark, Millis, Nonce, Refusal, Role, RoleChange, RoomChange, UserId, limits,
};
use sendpi_store::{MemberRow, RoomOfUser, Row, Stamp};

use super::{AnswerAddress, Batch, BatchStep, Room};

impl Room {
    pub(super) fn leave(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        user: &UserId,
        nonce: Option<&Nonce>,
        now: Millis,
    ) -> Result<(), Refusal> {
        let content = Content::Left { users: std::slice::from_ref(user), by: None, reason: None };
        let head = self.event(batch, user, nonce, &content, now);
        self.forget_member(batch, user, head);
        batch.steps.push(BatchStep::Left { users: vec![user.clone()], reason: AudienceReason::Left, then: None });
        self.promote_next_owner(batch, user, now);
        if self.members.is_empty() {
            self.mark_deleted(batch, head);
        }
        batch.answer(to, &OkAnswer::event(head, false));
        Ok(())
    }

    pub(super) fn kick(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        (by, user): (Requester<'_>, &UserId),
        nonce: Option<&Nonce>,
        now: Millis,
    ) -> Result<(), Refusal> {
        self.check_may_expel(by, user, Action::Kick)?;
        if !self.members.contains_key(user) {
            batch.answer(to, &OkAnswer::repeated());
            return Ok(());
        }
        self.expel(batch, to, (by, user), LeftReason::Kicked, nonce, now);
        Ok(())
    }

    pub(super) fn ban(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        (by, user): (Requester<'_>, &UserId),
        nonce: Option<&Nonce>,
        now: Millis,
    ) -> Result<(), Refusal> {
        self.check_may_expel(by, user, Action::Ban)?;
        if self.banned.contains(user) {
            batch.answer(to, &OkAnswer::repeated());
            return Ok(());
        }
        if self.banned.len() >= limits::ROOM_BANS {
            let rule = format!("at most {} users may be banned from {}", limits::ROOM_BANS, self.id);
            return Err(Refusal::new(Code::TooLarge, rule));
        }
        self.banned.insert(user.clone());
        self.expel(batch, to, (by, user), LeftReason::Banned, nonce, now);
        Ok(())
    }

    pub(super) fn unban(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        (by, user): (Requester<'_>, &UserId),
        nonce: Option<&Nonce>,
        now: Millis,
    ) -> Result<(), Refusal> {
        self.check_may(by, Action::Unban)?;
        if !self.banned.remove(user) {
            batch.answer(to, &OkAnswer::repeated());
            return Ok(());
        }
        let change = RoomChange { unbanned: Some(user.clone()), ..RoomChange::default() };
        let head = self.event(batch, by.id(), nonce, &Content::Changed(&change), now);
        batch.after.push(self.gone_member(user, head));
        batch.answer(to, &OkAnswer::event(head, false));
        Ok(())
    }

    pub(super) fn delete_room(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        by: Requester<'_>,
        nonce: Option<&Nonce>,
        now: Millis,
    ) -> Result<(), Refusal> {
        self.check_may(by, Action::DeleteRoom)?;
        let content = Content::Left { users: &[], by: Some(by.id()), reason: Some(LeftReason::Deleted) };
        let head = self.event(batch, by.id(), nonce, &content, now);
        let members: Vec<UserId> = self.members.keys().cloned().collect();
        for user in &members {
            self.forget_member(batch, user, head);
        }
        for user in std::mem::take(&mut self.banned) {
            batch.after.push(self.gone_member(&user, head));
        }
        self.mark_deleted(batch, head);
        let then = to.map(|to| (to, OkAnswer::event(head, false).to_frame().into()));
        batch.steps.push(BatchStep::Left { users: members, reason: AudienceReason::Deleted, then });
        Ok(())
    }

    /// Checks whether somebody may kick or ban a user. Who is no member has the rank of a plain one.
    fn check_may_expel(&self, by: Requester<'_>, user: &UserId, action: fn(Role) -> Action) -> Result<(), Refusal> {
        let role = self.members.get(user).map_or(Role::Member, |member| member.role);
        self.check_may(by, action(role))?;
        if by == Requester::User(user) {
            return Err(Refusal::field("user", "must be another member: leave the room instead"));
        }
        Ok(())
    }

    /// Ends the membership of a user, if there is one. It is answered once no node passes events on to the user any
    /// more.
    fn expel(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        (by, user): (Requester<'_>, &UserId),
        reason: LeftReason,
        nonce: Option<&Nonce>,
        now: Millis,
    ) {
        let content = Content::Left { users: std::slice::from_ref(user), by: Some(by.id()), reason: Some(reason) };
        let head = self.event(batch, by.id(), nonce, &content, now);
        self.forget_member(batch, user, head);
        let reason = if reason == LeftReason::Banned { AudienceReason::Banned } else { AudienceReason::Kicked };
        if mutant(Mutant::KickedHear) {
            return batch.answer(to, &OkAnswer::event(head, false));
        }
        let then = to.map(|to| (to, OkAnswer::event(head, false).to_frame().into()));
        batch.steps.push(BatchStep::Left { users: vec![user.clone()], reason, then });
    }

    /// Takes a user out of the members, and out of the rows after the event.
    fn forget_member(&mut self, batch: &mut Batch, user: &UserId, head: Head) {
        let was_member = self.members.remove(user).is_some();
        self.offline.forget_lists();
        batch.after.push(self.gone_member(user, head));
        if was_member {
            batch.after.push(self.gone_room(user, head));
        }
    }

    /// Makes the oldest admin the owner if the last owner leaves, or the oldest member if there is no admin.
    fn promote_next_owner(&mut self, batch: &mut Batch, from: &UserId, now: Millis) {
        if self.has_owner() {
            return;
        }
        let oldest = self.members.iter().min_by_key(|(_, m)| (m.role != Role::Admin, m.joined.seq, m.joined_at));
        let Some(user) = oldest.map(|(user, _)| user.clone()) else { return };
        self.give_role(batch, from, RoleChange { user, role: Role::Owner }, None, now);
    }

    /// Marks a room without members as deleted. Its id is never used again, so the row stays, without what it says of
    /// the room.
    fn mark_deleted(&mut self, batch: &mut Batch, head: Head) {
        self.last = None;
        let is_group = self.is_group();
        let Some(row) = &mut self.row else { return };
        // A direct room may be brought back, and has its history then.
        batch.deletes_room = is_group;
        row.deleted = true;
        row.stamp = Stamp::of(head.seq);
        row.head = head;
        row.listed = None;
        row.members = 0;
        row.name.clear();
        row.last = None;
        batch.after.push(Row::Room(row.clone()));
    }

    /// Returns the row of a user who is no member any more, and may be banned.
    pub(super) fn gone_member(&self, user: &UserId, head: Head) -> Row {
        Row::Member(MemberRow {
            room: self.id.clone(),
            user: user.clone(),
            stamp: Stamp::of(head.seq),
            role: None,
            joined: Mark::default(),
            joined_at: head.at,
            notify: self.notify_default(),
            muted_until: None,
            banned: self.banned.contains(user),
        })
    }

    pub(super) fn gone_room(&self, user: &UserId, head: Head) -> Row {
        Row::RoomOfUser(RoomOfUser {
            user: user.clone(),
            room: self.id.clone(),
            stamp: Stamp::of(head.seq),
            role: None,
            joined: Mark::default(),
            active_at: head.at,
        })
    }
}
