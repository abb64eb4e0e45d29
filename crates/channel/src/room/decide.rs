//! Deciding: everything that waits at a room becomes one batch.
//!
//! A batch is decided against the room with the batch already in it. Nothing of it is shown to anybody before its
//! rows are in the store and the fence is passed. If a batch fails, it is forgotten together with the room, which is
//! then opened anew.

use std::sync::Arc;

use sendpi_model::flow::{FlowRequest, Requester};
use sendpi_model::rights::Action;
use sendpi_model::server_frame::{OkAnswer, OpFrame};
use sendpi_model::{
    Content, Event, EventKind, Head, Mark, Mentions, Millis, Nonce, Reaction, Refusal, RoleChange, RoomChange, UserId,
    Verb,
};
use sendpi_store::{EventRow, Row, Stamp};
use serde_json::value::RawValue;

use super::last_message::LastMessage;
use super::membership::Invitation;
use super::{AnswerAddress, Batch, BatchStep, Bounce, Lookups, PageRequest, QueuedRequest, ReadKind, Room};

/// A message that somebody sends.
#[derive(Debug)]
struct SentMessage<'a> {
    body: &'a RawValue,
    nonce: Option<&'a Nonce>,
    retry: Option<u64>,
    mentions: Option<&'a Mentions>,
}

/// Returns what it takes at least to send a request.
fn required(verb: &Verb) -> Action {
    match verb {
        Verb::Attach { .. } | Verb::Read { .. } | Verb::Notify { .. } => Action::KeepPlace,
        Verb::Leave { .. } => Action::Leave,
        _ => Action::TakePart,
    }
}

impl Room {
    /// Admits the queued requests, in order. `now` never falls within a partition.
    pub(crate) fn decide(&mut self, waiting: Vec<QueuedRequest>, now: Millis, lookups: &Lookups) -> Batch {
        self.forget_expired_last(now);
        let unfenced = Stamp::before_fence(self.head.seq, self.epoch);
        let mut batch = Batch { unfenced, ..Batch::default() };
        for QueuedRequest { to, own, request } in waiting {
            if let Verb::Bounce { first, last } = request.verb {
                // Whether the user is still a member, and wants a push, is decided at the dispatch.
                batch.steps.push(BatchStep::Bounce(Bounce { to, own, user: request.user, first, last }));
            } else if let Err(refusal) = self.decide_one(&mut batch, to.clone(), request, now, lookups) {
                batch.answer(to, &refusal);
            }
        }
        self.forget_counted();
        self.targets.clear();
        // Behind the requests, which were compared with the tail before.
        self.forget_expired_tail(now);
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
        let FlowRequest { user, verb, is_service, .. } = request;
        let who = if is_service { Requester::Service(&user) } else { Requester::User(&user) };
        // A repeated change of the room or its members would undo what came after the first one.
        if let Some(nonce) = verb.session_nonce()
            && let Some(head) = self.repeat_of(&user, nonce, None, lookups)?
        {
            batch.answer(to, &OkAnswer::event(head, true));
            return Ok(());
        }
        match verb {
            Verb::Create { .. } => self.create(batch, to, &user, verb, now),
            // A detach ends the user's place in L1, whether the user is still a member or not.
            Verb::Detach { signin } => {
                if let Some(to) = to {
                    batch.steps.push(BatchStep::Detach { to, user, signin });
                }
                Ok(())
            }
            Verb::Join { nonce } => self.join(batch, to, who, nonce.as_ref(), now),
            // The flow resent this leave, which was done the first time.
            Verb::Leave { .. } if request.first.is_some() && !self.members.contains_key(&user) => {
                batch.answer(to, &OkAnswer::repeated());
                Ok(())
            }
            verb => {
                self.make_inbox(batch, who, &verb, now);
                self.check_may(who, required(&verb))?;
                self.decide_admitted(batch, to, who, verb, now, lookups)
            }
        }
    }

    /// Decides a request of somebody who may take part. What it takes besides is checked where it is carried out.
    fn decide_admitted(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        who: Requester<'_>,
        verb: Verb,
        now: Millis,
        lookups: &Lookups,
    ) -> Result<(), Refusal> {
        let user = who.id();
        match verb {
            Verb::Send { body, nonce, retry, mentions } => {
                let message = SentMessage { body: &body, nonce: nonce.as_ref(), retry, mentions: mentions.as_ref() };
                self.send(batch, to, who, message, now, lookups)
            }
            Verb::Edit { target, body, nonce } => self.edit(batch, to, (who, target), body, nonce.as_ref(), now),
            Verb::Forget { target } => self.forget_message(batch, to, who, target),
            Verb::Delete { target, nonce } => self.delete(batch, to, (who, target), nonce.as_ref(), now),
            Verb::React { target, emoji, remove, nonce } => {
                self.react(batch, to, who, &Reaction { target, emoji, remove }, nonce.as_ref(), now)
            }
            Verb::Invite { users, nonce } => {
                self.invite(batch, to, Invitation { by: who, users, nonce: nonce.as_ref() }, now)
            }
            Verb::Leave { nonce } => self.leave(batch, to, user, nonce.as_ref(), now),
            Verb::Kick { user: kicked, nonce } => self.kick(batch, to, (who, &kicked), nonce.as_ref(), now),
            Verb::Ban { user: banned, nonce } => self.ban(batch, to, (who, &banned), nonce.as_ref(), now),
            Verb::Unban { user: banned, nonce } => self.unban(batch, to, (who, &banned), nonce.as_ref(), now),
            Verb::DeleteRoom { nonce } => self.delete_room(batch, to, who, nonce.as_ref(), now),
            Verb::Change { name, access, retention_days, nonce } => {
                let change = RoomChange { name, access, retention_days, ..RoomChange::default() };
                self.change(batch, to, who, change, nonce.as_ref(), now)
            }
            Verb::Role { user: member, role, nonce } => {
                self.change_role(batch, to, who, RoleChange { user: member, role }, nonce.as_ref(), now)
            }
            Verb::Notify { notify, muted_until } => self.choose_notify(batch, to, user, notify, muted_until),
            Verb::Read { seq } => self.read_marker(batch, to, user.clone(), seq),
            Verb::History { before, after, limit } => {
                let page = PageRequest { before, after, limit: limit as usize };
                let (chain, dispatched) = (Arc::clone(&self.chain), self.dispatched);
                batch.ask(to, &self.id, who, ReadKind::Page { page, chain, dispatched });
                Ok(())
            }
            Verb::Members { cursor, limit } => {
                let kind = ReadKind::Members { cursor, limit: limit as usize, listed: None };
                batch.ask(to, &self.id, who, kind);
                Ok(())
            }
            Verb::Attach { signin } => {
                let view = self.view(who, self.active, false)?;
                match to {
                    Some(to) if self.active => {
                        let (user, frame) = (user.clone(), view.to_frame().into());
                        batch.steps.push(BatchStep::Attach { to, user, signin, frame });
                    }
                    to => batch.answer(to, &view),
                }
                Ok(())
            }
            Verb::Peek => {
                batch.answer(to, &self.view(who, self.active, false)?);
                Ok(())
            }
            Verb::Typing => {
                batch.steps.push(BatchStep::Typing(Event::typing(&self.id, user, now)));
                Ok(())
            }
            // Heads are never queued at a room, and the others were handled before.
            Verb::Heads { .. }
            | Verb::Bounce { .. }
            | Verb::Create { .. }
            | Verb::Detach { .. }
            | Verb::Join { .. } => {
                batch.answer(to, &OkAnswer::default());
                Ok(())
            }
        }
    }

    fn send(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        who: Requester<'_>,
        message: SentMessage<'_>,
        now: Millis,
        lookups: &Lookups,
    ) -> Result<(), Refusal> {
        let SentMessage { body, nonce, retry, mentions } = message;
        if mentions == Some(&Mentions::All) {
            self.check_may(who, Action::MentionAll)?;
        }
        let repeat = match nonce {
            Some(nonce) => self.repeat_of(who.id(), nonce, retry, lookups)?,
            None => None,
        };
        if let Some(head) = repeat {
            batch.answer(to, &OkAnswer::event(head, true));
            return Ok(());
        }
        let content = match who {
            Requester::User(_) => Content::message(body, mentions),
            Requester::Service(_) => Content::system(body, mentions),
        };
        let head = self.event(batch, who.id(), nonce, &content, now);
        batch.answer(to, &OkAnswer::event(head, false));
        Ok(())
    }

    /// Keeps the last message for lists of rooms, and notes that its sender has read up to it.
    pub(super) fn note_last(&mut self, event: &Event) {
        self.last = LastMessage::later(self.last.take(), event);
        if event.kind == EventKind::Message
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
        let row = EventRow { epoch: self.epoch, event: event.clone(), expires: self.expires(&event) };
        batch.events.push(Row::Event(self.id.clone(), row));
        batch.steps.push(BatchStep::Event(event));
        self.head
    }

    pub(super) fn view(&self, who: Requester<'_>, live: bool, repeat: bool) -> Result<OkAnswer, Refusal> {
        let info = self.info_for(who).ok_or_else(Refusal::no_such_room)?;
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
            // The event itself may have expired.
            _ if seq == self.head.seq => batch.answer(to, &OkAnswer::event(self.head, false)),
            Some(event) => batch.answer(to, &OkAnswer::event(event.head, false)),
            None => {
                let kind = ReadKind::Mark { seq, chain: Arc::clone(&self.chain), head: self.head };
                batch.ask(to, &self.id, Requester::User(&user), kind);
            }
        }
        Ok(())
    }
}
