//! Changes of a room that are no change of its membership: its name and access, the roles of its members, and what is
//! pushed to whom.
//!
//! A change is a durable event, and the rows follow it. If a crash comes in between, opening the room mends it from the
//! tail. What a member wants pushed is the member's own and no event.

use sendpi_model::flow::Requester;
use sendpi_model::rights::Action;
use sendpi_model::server_frame::OkAnswer;
use sendpi_model::{Access, Code, Content, Head, Millis, Nonce, Notify, Refusal, Role, RoleChange, RoomChange, UserId};
use sendpi_store::{Row, Stamp};

use super::last_message::LastMessage;
use super::{AnswerAddress, Batch, Room};

impl Room {
    pub(super) fn change(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        by: Requester<'_>,
        change: RoomChange,
        nonce: Option<&Nonce>,
        now: Millis,
    ) -> Result<(), Refusal> {
        self.check_may(by, Action::Change)?;
        let is_group = self.is_group();
        let Some(row) = &mut self.row else { return Err(Refusal::no_such_room()) };
        if !is_group && change.access == Some(Access::Open) {
            return Err(Refusal::field("access", "must be invite in a room that is not a group"));
        }
        row.name = change.name.clone().unwrap_or_else(|| std::mem::take(&mut row.name));
        row.access = change.access.unwrap_or(row.access);
        row.retention_days = change.retention_days.or(row.retention_days);
        let head = self.event(batch, by.id(), nonce, &Content::Changed(&change), now);
        // With the head as it was: the rows of the members are behind, and after a crash the next owner must see that.
        // The last message may have been revised since.
        let last = self.last.as_ref().and_then(LastMessage::preview);
        if let Some(row) = &mut self.row {
            (row.stamp, row.last) = (Stamp::of(head.seq), last);
            batch.after.push(Row::Room(row.clone()));
        }
        batch.answer(to, &OkAnswer::event(head, false));
        Ok(())
    }

    pub(super) fn change_role(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        by: Requester<'_>,
        change: RoleChange,
        nonce: Option<&Nonce>,
        now: Millis,
    ) -> Result<(), Refusal> {
        self.check_may(by, Action::ChangeRole)?;
        let Some(member) = self.members.get(&change.user) else {
            return Err(Refusal::field("user", format!("must be a member of {}", self.id)));
        };
        if member.role == change.role {
            batch.answer(to, &OkAnswer::repeated());
            return Ok(());
        }
        let owners = self.members.values().filter(|member| member.role == Role::Owner).count();
        if member.role == Role::Owner && owners == 1 {
            let rule = format!("{} would be without an owner: make another member one first", self.id);
            return Err(Refusal::new(Code::Conflict, rule));
        }
        let head = self.give_role(batch, by.id(), change, nonce, now);
        batch.answer(to, &OkAnswer::event(head, false));
        Ok(())
    }

    /// Gives a member another role.
    pub(super) fn give_role(
        &mut self,
        batch: &mut Batch,
        by: &UserId,
        change: RoleChange,
        nonce: Option<&Nonce>,
        now: Millis,
    ) -> Head {
        let RoleChange { user, role } = change.clone();
        let change = RoomChange { role: Some(change), ..RoomChange::default() };
        let head = self.event(batch, by, nonce, &Content::Changed(&change), now);
        if let Some(member) = self.members.get_mut(&user) {
            member.role = role;
            member.stamp = Stamp::of(head.seq);
        }
        if let Some(member) = self.members.get(&user) {
            batch.after.extend([self.member_row(&user, member), self.room_of_user(&user, member, Stamp::of(head.seq))]);
        }
        head
    }

    /// Chooses what is pushed to a member. There is no event, so the rows that follow one event take turns. They never
    /// get past the next event, which may end the membership.
    pub(super) fn choose_notify(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        user: &UserId,
        notify: Option<Notify>,
        muted_until: Option<Option<Millis>>,
    ) -> Result<(), Refusal> {
        let of_head = Stamp::of(self.head.seq);
        if let Some(member) = self.members.get_mut(user) {
            if member.stamp.next().seq() > self.head.seq {
                return Err(Refusal::unavailable("the settings were changed too often since the last event", 60_000));
            }
            member.stamp = member.stamp.next().max(of_head);
            member.notify = notify.unwrap_or(member.notify);
            member.muted_until = muted_until.unwrap_or(member.muted_until);
        }
        self.offline.forget_lists();
        batch.after.extend(self.members.get(user).map(|member| self.member_row(user, member)));
        batch.answer(to, &OkAnswer::default());
        Ok(())
    }
}
