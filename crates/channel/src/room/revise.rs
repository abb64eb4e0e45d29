//! Edits, deletions and reactions. Each is a durable event that names a message before it. What is removed because its
//! author is to be forgotten makes no event.
//!
//! The row of an edited or deleted message is overwritten after the fence. If a crash comes in between, opening the
//! room mends it from the tail. A message that is no longer in the tail is read before the request is decided.

use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::flow::{FlowRequest, Requester};
use sendpi_model::rights::Action;
use sendpi_model::server_frame::OkAnswer;
use sendpi_model::{Code, Content, Event, EventKind, MessageRevision, Millis, Nonce, Reaction, Refusal, Verb};
use sendpi_store::{EventRow, Row};
use serde_json::value::RawValue;

use super::last_message::LastMessage;
use super::{AnswerAddress, Batch, Room};

/// How many of the messages whose bodies were removed lately are remembered. A look-up takes less time than it takes to
/// remove so many.
const FORGOTTEN: usize = 1_024;

/// A message that requests name and that is no longer in the tail, as it was read from the timeline.
#[derive(Debug, Clone)]
pub(crate) struct TargetEvent {
    /// The event. `None` if there is none any more.
    pub(crate) event: Option<Event>,
    /// The row has all revisions by events up to this seq. The tail has the others.
    pub(crate) as_of: u64,
}

impl Room {
    /// Returns the seq of the message that must be read before the request is decided. `None` if it is in memory, or
    /// can be nowhere.
    pub(crate) fn missing_target(&self, request: &FlowRequest) -> Option<u64> {
        let seq = request.verb.target().filter(|seq| (1..=self.head.seq).contains(seq))?;
        let in_tail = self.tail.first_seq().min(self.head.seq + 1);
        let is_read = |seq| self.targets.get(&seq).is_some_and(|target| target.as_of + 1 >= in_tail);
        let is_missing = |seq: &u64| *seq < in_tail && !is_read(*seq);
        if is_missing(&seq) {
            return Some(seq);
        }
        // The edit whose place a new revision takes.
        let revises = !matches!(request.verb, Verb::React { .. });
        self.known(seq).filter(|_| revises).and_then(|message| message.edited_by()).filter(is_missing)
    }

    /// Notes a message that was read for a request. It is forgotten after the next batch.
    pub(crate) fn note_target(&mut self, seq: u64, target: TargetEvent) {
        let by = self.forgotten.iter().find(|(forgotten, _)| *forgotten == seq).map(|(_, by)| *by);
        let event = match by {
            Some(by) => target.event.map(|event| event.revised(&removal(seq, by)).unwrap_or(event)),
            None => target.event,
        };
        self.targets.insert(seq, TargetEvent { event, ..target });
    }

    /// Returns a message that can be edited, deleted or reacted to, as it is now.
    fn target(&self, seq: u64) -> Result<Event, Refusal> {
        let refused = |code, rule: String| Refusal { field: Some("ref".to_owned()), ..Refusal::new(code, rule) };
        match self.known(seq) {
            Some(event) if event.kind.is_counted() => Ok(event),
            Some(_) => Err(refused(Code::BadField, format!("ref: must be a message, which event {seq} is not"))),
            None => Err(refused(Code::NoSuchEvent, format!("there is no event {seq} in {}", self.id))),
        }
    }

    /// Returns the event at this seq as it is now: from the tail, or as it was read and with what the tail has changed
    /// of it since.
    fn known(&self, seq: u64) -> Option<Event> {
        if let Some(event) = self.tail.get(seq) {
            return Some(event.clone());
        }
        let event = self.targets.get(&seq)?.event.clone()?;
        let revisions = self.tail.iter().filter_map(Event::revision).filter(|revision| revision.target == seq);
        Some(revisions.fold(event, |event, revision| event.revised(&revision).unwrap_or(event)))
    }

    fn is_gone(&self, seq: u64) -> Refusal {
        let rule = format!("message {seq} of {} was deleted", self.id);
        Refusal { field: Some("ref".to_owned()), ..Refusal::new(Code::NoSuchEvent, rule) }
    }

    pub(super) fn edit(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        (by, seq): (Requester<'_>, u64),
        body: Box<RawValue>,
        nonce: Option<&Nonce>,
        now: Millis,
    ) -> Result<(), Refusal> {
        let message = self.target(seq)?;
        if !is_author(by, &message) {
            return Err(Refusal::new(
                Code::Forbidden,
                format!("only its author may edit message {seq} of {}", self.id),
            ));
        }
        if message.is_deleted() {
            return Err(self.is_gone(seq));
        }
        let head = self.event(batch, by.id(), nonce, &Content::edit(seq, &body), now);
        self.revise(batch, &message, &MessageRevision { target: seq, by: head.seq, body: Some(body) });
        batch.answer(to, &OkAnswer::event(head, false));
        Ok(())
    }

    pub(super) fn delete(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        (by, seq): (Requester<'_>, u64),
        nonce: Option<&Nonce>,
        now: Millis,
    ) -> Result<(), Refusal> {
        let message = self.target(seq)?;
        if !is_author(by, &message) {
            self.check_may(by, Action::DeleteOthers)?;
        }
        if message.is_deleted() {
            batch.answer(to, &OkAnswer::repeated());
            return Ok(());
        }
        let head = self.event(batch, by.id(), nonce, &Content::Deleted { target: seq }, now);
        self.revise(batch, &message, &MessageRevision { target: seq, by: head.seq, body: None });
        batch.answer(to, &OkAnswer::event(head, false));
        Ok(())
    }

    /// Removes the body of a message whose author is to be forgotten. There is no event, so the revision counts as one
    /// by the event that comes next: it is above all there were, and none after it revises a message without a body.
    pub(super) fn forget_message(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        by: Requester<'_>,
        seq: u64,
    ) -> Result<(), Refusal> {
        self.check_may(by, Action::DeleteOthers)?;
        // Of a message that has expired an edit may be left.
        let event = match self.known(seq) {
            Some(event) if event.kind == EventKind::Edited => event,
            _ => self.target(seq)?,
        };
        if event.is_deleted() || (event.kind == EventKind::Edited && event.revision().is_none()) {
            batch.answer(to, &OkAnswer::repeated());
            return Ok(());
        }
        let by = self.head.seq + 1;
        self.revise(batch, &event, &removal(seq, by));
        self.forgotten.push_back((seq, by));
        if self.forgotten.len() > FORGOTTEN {
            self.forgotten.pop_front();
        }
        // The lists of rooms show it from the row of the room.
        if self.last.as_ref().is_some_and(|last| last.seq() == seq) {
            batch.after.extend(self.row_again());
        }
        batch.fences_rows = true;
        batch.answer(to, &OkAnswer::default());
        Ok(())
    }

    pub(super) fn react(
        &mut self,
        batch: &mut Batch,
        to: Option<AnswerAddress>,
        by: Requester<'_>,
        reaction: &Reaction,
        nonce: Option<&Nonce>,
        now: Millis,
    ) -> Result<(), Refusal> {
        if self.target(reaction.target)?.is_deleted() {
            return Err(self.is_gone(reaction.target));
        }
        // A reaction that was made before the tail began may be made twice. For clients they are a set.
        let own = self.tail.iter().rev().filter(|event| event.from == *by.id()).filter_map(Event::reaction);
        let same = own.into_iter().find(|own| (own.target, &own.emoji) == (reaction.target, &reaction.emoji));
        if same.is_some_and(|same| same.remove == reaction.remove) {
            batch.answer(to, &OkAnswer::repeated());
            return Ok(());
        }
        let Reaction { target, emoji, remove } = reaction;
        let content = Content::Reaction { target: *target, emoji, remove: *remove };
        let head = self.event(batch, by.id(), nonce, &content, now);
        batch.answer(to, &OkAnswer::event(head, false));
        Ok(())
    }

    /// Revises a message, and the edit before: their rows, the tail, and the preview in lists of rooms.
    fn revise(&mut self, batch: &mut Batch, message: &Event, revision: &MessageRevision) {
        if mutant(Mutant::RevisionsOff) {
            return;
        }
        let edit = message.edited_by().and_then(|seq| self.known(seq));
        for event in [edit.as_ref(), Some(message)].into_iter().flatten() {
            let (Some(event), Some(epoch)) = (event.revised(revision), self.chain.epoch_of(event.head.seq)) else {
                continue;
            };
            // When it expires is what its row says.
            let row = EventRow { epoch, event: event.clone(), expires: None };
            batch.after.push(Row::Revised(self.id.clone(), row, revision.by));
            self.note_revised(event);
        }
    }

    /// Notes that a message was revised.
    pub(super) fn note_revised(&mut self, event: Event) {
        self.last = self.last.take().map(|last| LastMessage::revised(last, &event));
        if let Some(target) = self.targets.get_mut(&event.head.seq) {
            target.event = Some(event.clone());
        }
        self.tail.replace(event);
    }
}

/// Returns the revision after which a message has no body.
fn removal(target: u64, by: u64) -> MessageRevision {
    MessageRevision { target, by, body: None }
}

/// Returns whether a message is one's own. A service and a user may have the same id.
fn is_author(by: Requester<'_>, message: &Event) -> bool {
    match by {
        Requester::User(user) => message.is_message_of(user),
        Requester::Service(service) => message.kind == EventKind::System && message.from == *service,
    }
}
