//! Deciding: everything that waits at a room becomes one batch.
//!
//! A batch is decided against the room with the batch already in it. Nothing of it is shown to anybody before its
//! rows are in the store and the fence is passed. If a batch fails, it is forgotten together with the room, which is
//! then opened anew.

use std::sync::Arc;

use sendpi_model::flow::FlowRequest;
use sendpi_model::rights::Action;
use sendpi_model::server_frame::{OkAnswer, OpFrame};
use sendpi_model::{
    Content, Event, Head, Mark, Mentions, Millis, Nonce, Refusal, RoleChange, RoomChange, UserId, Verb,
};
use sendpi_store::{EventRow, Row};

use super::last_message::LastMessage;
use super::membership::Invitation;
use super::{AnswerAddress, Batch, BatchStep, Bounce, Lookups, PageRequest, QueuedRequest, ReadKind, Room};

impl Room {
    /// Admits the queued requests, in order. `now` never falls within a partition.
    pub(crate) fn decide(&mut self, waiting: Vec<QueuedRequest>, now: Millis, lookups: &Lookups) -> Batch {
        let mut batch = Batch::default();
        for QueuedRequest { to, own, request } in waiting {
            if let Verb::Bounce { first, last } = request.verb {
                // Whether the user is still a member, and wants a push, is decided at the dispatch.
                batch.steps.push(BatchStep::Bounce(Bounce { to, own, user: request.user, first, last }));
            } else if let Err(refusal) = self.decide_one(&mut batch, to.clone(), request, now, lookups) {
                batch.answer(to, &refusal);
            }
        }
        self.forget_counted();
        batch
    }

    fn decide_one(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        request: FlowRequest,
        now: Millis,
        lookups: &Lookups,
    ) -> Result<(), Refusal> {
        let user = request.user;
        // A repeated change of the room or its members would undo what came after the first one.
        if let Some(nonce) = request.verb.room_nonce()
            && let Some(head) = self.repeat_of(&user, nonce, None, lookups)?
        {
            batch.answer(to, &OkAnswer::event(head, true));
            return Ok(());
        }
        match request.verb {
            Verb::Create { .. } => return self.create(batch, to, &user, request.verb, now),
            // A detach ends the user's place in L1, whether the user is still a member or not.
            Verb::Detach { signin } => {
                if let Some(to) = to {
                    batch.steps.push(BatchStep::Detach { to, user, signin });
                }
                return Ok(());
            }
            Verb::Join { nonce } => return self.join(batch, to, &user, nonce.as_ref(), now),
            // The flow resent this leave, which was done the first time.
            Verb::Leave { .. } if request.first.is_some() && !self.members.contains_key(&user) => {
                batch.answer(to, &OkAnswer::repeated());
                return Ok(());
            }
            _ => {}
        }
        self.check_may(&user, Action::TakePart)?;
        match request.verb {
            Verb::Send { body, nonce, retry, mentions } => {
                if mentions == Some(Mentions::All) {
                    self.check_may(&user, Action::MentionAll)?;
                }
                let repeat = match &nonce {
                    Some(nonce) => self.repeat_of(&user, nonce, retry, lookups)?,
                    None => None,
                };
                match repeat {
                    Some(head) => batch.answer(to, &OkAnswer::event(head, true)),
                    None => {
                        let content = Content::Message { body: &body, mentions: mentions.as_ref() };
                        let head = self.event(batch, &user, nonce.as_ref(), &content, now);
                        batch.answer(to, &OkAnswer::event(head, false));
                    }
                }
            }
            Verb::Invite { users, nonce } => {
                let invitation = Invitation { by: &user, users, nonce: nonce.as_ref() };
                self.invite(batch, to, invitation, now)?;
            }
            Verb::Leave { nonce } => self.leave(batch, to, &user, nonce.as_ref(), now)?,
            Verb::Kick { user: kicked, nonce } => self.kick(batch, to, (&user, &kicked), nonce.as_ref(), now)?,
            Verb::Change { name, access, nonce } => {
                let change = RoomChange { name, access, role: None };
                self.change(batch, to, &user, change, nonce.as_ref(), now)?;
            }
            Verb::Role { user: member, role, nonce } => {
                self.change_role(batch, to, &user, RoleChange { user: member, role }, nonce.as_ref(), now)?;
            }
            Verb::Notify { notify, muted_until } => self.choose_notify(batch, to, &user, notify, muted_until)?,
            Verb::Read { seq } => self.read_marker(batch, to, user, seq)?,
            Verb::History { before, after, limit } => {
                let page = PageRequest { before, after, limit: limit as usize };
                let (chain, dispatched) = (Arc::clone(&self.chain), self.dispatched);
                batch.ask(to, &self.id, user, ReadKind::Page { page, chain, dispatched });
            }
            Verb::Members { cursor, limit } => {
                batch.ask(to, &self.id, user, ReadKind::Members { cursor, limit: limit as usize, listed: None });
            }
            Verb::Attach { signin } => {
                let view = self.view(&user, self.active, false)?;
                match to {
                    Some(to) if self.active => {
                        batch.steps.push(BatchStep::Attach { to, user, signin, frame: view.to_frame().into() });
                    }
                    to => batch.answer(to, &view),
                }
            }
            Verb::Peek => {
                batch.answer(to, &self.view(&user, self.active, false)?);
            }
            Verb::Typing => batch.steps.push(BatchStep::Typing(Event::typing(&self.id, &user, now))),
            // Heads are never queued at a room, and the others were handled above.
            Verb::Heads { .. }
            | Verb::Bounce { .. }
            | Verb::Create { .. }
            | Verb::Detach { .. }
            | Verb::Join { .. } => {
                batch.answer(to, &OkAnswer::default());
            }
        }
        Ok(())
    }

    /// Keeps the last message for lists of rooms, and notes that its sender has read up to it.
    pub(super) fn note_last(&mut self, event: &Event) {
        self.last = LastMessage::later(self.last.take(), event);
        if event.kind.is_counted()
            && let Some(sender) = self.members.get_mut(&event.from)
        {
            sender.spoke = Mark { seq: event.head.seq, count: event.head.count };
        }
    }

    /// Adds the room's next event to the batch.
    pub(super) fn event(
        &mut self,
        batch: &mut Batch,
        from: &UserId,
        nonce: Option<&Nonce>,
        content: &Content<'_>,
        now: Millis,
    ) -> Head {
        let event = Event::next(&self.id, self.head, now, from, nonce, content);
        self.head = event.head;
        self.note_last(&event);
        self.tail.push(event.clone());
        batch.events.push(Row::Event(self.id.clone(), EventRow { epoch: self.epoch, event: event.clone() }));
        batch.steps.push(BatchStep::Event(event));
        self.head
    }

    pub(super) fn view(&self, user: &UserId, live: bool, repeat: bool) -> Result<OkAnswer, Refusal> {
        let info = self.info(user).ok_or_else(Refusal::no_such_room)?;
        Ok(OkAnswer::room(info, live, repeat))
    }

    /// Answers where the marker is after a `read`, as far as the room knows: it never falls behind the join or the
    /// user's own last message.
    fn read_marker(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        user: UserId,
        seq: u64,
    ) -> Result<(), Refusal> {
        if seq == 0 || seq > self.head.seq {
            return Err(Refusal::field(
                "seq",
                format!("must be from 1 to {}, the last event of {}", self.head.seq, self.id),
            ));
        }
        let least = self.member(&user)?.marker();
        match self.tail.get(seq) {
            _ if seq <= least.seq => batch.answer(to, &OkAnswer::marker(least)),
            Some(event) => batch.answer(to, &OkAnswer::event(event.head, false)),
            None => batch.ask(to, &self.id, user, ReadKind::Event { seq, chain: Arc::clone(&self.chain) }),
        }
        Ok(())
    }
}
