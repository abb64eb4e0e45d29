//! Delivers the events of the links to sessions, and keeps the audiences that the links name.

use std::ops::RangeInclusive;

use bytes::Bytes;
use sendpi_model::RoomId;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::link::{AudienceAdded, AudienceReason, AudienceRemoved};
use sendpi_model::server_frame::{OpFrame, RoomAdded, RoomRemoved};
use tokio::time::Instant;

use super::State;
use crate::client::ws_frame;
use crate::keys::{LinkId, UserKey};
use crate::state::effects::Effects;
use crate::state::retry_queue::UntakenRange;
use crate::state::rooms::UnconfirmedEvent;
use crate::state::rooms::member::Offer;
use crate::state::session_state::Delivery;

/// The message of a link that brought an item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkOrigin {
    pub(crate) link: LinkId,
    pub(crate) number: u64,
}

impl State {
    /// Delivers an event to the audience that the link named for the room. A durable event goes into the log of
    /// unconfirmed events; for a user without sessions it is bounced at once. `seqs` ends with its seq, and begins with
    /// that of the first event that it stands for. A seq of 0 means an ephemeral event.
    pub(crate) fn event(
        &mut self,
        from: LinkOrigin,
        room: &RoomId,
        seqs: RangeInclusive<u64>,
        payload: &Bytes,
        now: Instant,
        effects: &mut Effects,
    ) {
        let Some(key) = self.rooms.find(room) else { return };
        let Self { rooms, users, sessions, unconfirmed, config, .. } = self;
        let Some(room) = rooms.get_mut(key) else { return };
        if room.audience(from.link).is_empty() {
            return;
        }
        let (first, seq) = seqs.into_inner();
        let durable = seq > 0;
        if durable && unconfirmed.is_full() {
            effects.overrun = true;
        }
        let position = if durable { unconfirmed.push(from.link, from.number, key, now) } else { 0 };
        if durable {
            room.active = Some(now);
            room.recent.push_back(UnconfirmedEvent { position, link: from.link, number: from.number, first, seq });
        }
        let frame = ws_frame::text(payload);
        let mut gone = Vec::new();
        let mut fill = false;
        let (id, members) = room.audience_mut(from.link);
        for member in members {
            let Some(user) = users.get_mut(member.user) else { continue };
            let had_gap = member.gap.is_some();
            let held_from = member.gap.as_ref().and_then(|gap| gap.from);
            let offer = if !durable {
                Offer::Deliver
            } else if user.has_sessions() {
                member.receive(seq, &frame, position)
            } else {
                member.skip_to(seq);
                gone.push(user.id.clone());
                Offer::Repeat
            };
            user.gaps = user.gaps + u32::from(member.gap.is_some()) - u32::from(had_gap);
            let head;
            let parcel = match offer {
                Offer::Deliver => {
                    let position = durable.then_some(position);
                    Delivery { room: id, seq, position, frame: &frame, ephemeral: !durable }
                }
                Offer::Skipped => {
                    head = super::gaps::heads_frame(id, seq);
                    let position = held_from.or(Some(position));
                    Delivery { room: id, seq: 0, position, frame: &head, ephemeral: false }
                }
                Offer::HeldEvent { new } => {
                    fill |= new;
                    continue;
                }
                Offer::Repeat => continue,
            };
            let devices = if mutant(Mutant::OneDeviceOnly) { 1 } else { usize::MAX };
            for session in user.sessions.iter().take(devices) {
                if let Some(session) = sessions.get_mut(*session) {
                    session.deliver(parcel, config.outbox_bytes, effects);
                }
            }
        }
        if fill && !std::mem::replace(&mut room.filling, true) {
            effects.fills.push(key);
        }
        let id = room.id.clone();
        for user in gone {
            self.bounce(&id, &user, UntakenRange::of(first..=seq, (from.link, from.number)), effects);
        }
    }

    /// Handles `+user`: a link adds a user to a room's audience.
    pub(crate) fn added(&mut self, link: LinkId, added: &AudienceAdded, now: Instant, effects: &mut Effects) {
        let user = self.user_or_new(&added.user);
        let key = self.enter(&added.room, user);
        if let Some(room) = self.rooms.get_mut(key) {
            room.active = Some(now);
            room.add_to_audience(link, user);
        }
        if self.users.get(user).is_none_or(|user| !user.has_sessions()) {
            // The owner found the user online just before the last session ended.
            if let Some(member) = self.rooms.get_mut(key).and_then(|room| room.member_mut(user)) {
                member.skip_to(added.seq);
            }
            self.owe_detach(&added.room, &added.user, self.last_signin, effects);
            return;
        }
        if added.reason == AudienceReason::Joined {
            // A client reads events from before the join with `history`.
            if let Some(member) = self.rooms.get_mut(key).and_then(|room| room.member_mut(user)) {
                member.skip_to(added.seq);
            }
            self.room_added(user, &added.room, &added.info, effects);
        } else {
            self.note_head(key, user, added.seq, effects);
        }
    }

    /// Handles `−user`: a link removes a user from a room's audience.
    pub(crate) fn removed(&mut self, link: LinkId, removed: &AudienceRemoved, effects: &mut Effects) {
        let Some(user) = self.user_index.get(&removed.user).copied() else { return };
        let Some(key) = self.rooms.find(&removed.room) else { return };
        let Some(room) = self.rooms.get_mut(key) else { return };
        let was_in = room.remove_from_audience(link, user);
        if !was_in && room.is_in_audience(user) {
            // A late message of a former owner: the link of the present owner has the user in its audience.
            return;
        }
        if let Some(reason) = removed.reason.removal() {
            self.room_removed(user, &removed.room, reason, effects);
        } else {
            self.forget_entry_if_gone(key, user);
        }
    }

    /// Tells the sessions that the user is no longer a member of a room, and removes the entry.
    pub(crate) fn room_removed(&mut self, user: UserKey, room: &RoomId, reason: &str, effects: &mut Effects) {
        let frame = RoomRemoved { room: room.clone(), reason: reason.to_owned() }.to_frame();
        self.send_to_sessions(user, room, &ws_frame::text(&frame), effects);
        if let Some(key) = self.rooms.find(room) {
            self.forget_member(key, user);
        }
    }

    /// Tells the sessions of a room that they may not know.
    pub(crate) fn room_added(&mut self, user: UserKey, room: &RoomId, info: &[u8], effects: &mut Effects) {
        let frame = RoomAdded { info: serde_json::from_slice(info).ok() }.to_frame();
        self.send_to_sessions(user, room, &ws_frame::text(&frame), effects);
    }

    /// Delivers a frame about a room, which is not a durable event, to all sessions of a user.
    pub(crate) fn send_to_sessions(&mut self, user: UserKey, room: &RoomId, frame: &Bytes, effects: &mut Effects) {
        let Some(user) = self.users.get(user) else { return };
        for session in &user.sessions {
            if let Some(session) = self.sessions.get_mut(*session) {
                let parcel = Delivery { room, seq: 0, position: None, frame, ephemeral: false };
                session.deliver(parcel, self.config.outbox_bytes, effects);
            }
        }
    }

    /// Handles the cut of a link. Its audiences are void. Its worker is responsible for everything that is not
    /// settled. Returns whether anybody was in its audiences.
    pub(crate) fn cut(&mut self, link: LinkId) -> bool {
        let mut gone = Vec::new();
        for (key, room) in self.rooms.iter_mut() {
            gone.extend(room.cut(link).into_iter().map(|user| (key, user)));
        }
        let had_audience = !gone.is_empty();
        for (room, user) in gone {
            self.forget_entry_if_gone(room, user);
        }
        self.unconfirmed.cut(link);
        had_audience
    }

    /// Handles the cut of all links. Their workers are responsible for everything that is not settled, so the log
    /// is emptied and all bounces are dropped.
    pub(crate) fn all_cut(&mut self) {
        let end = self.unconfirmed.end();
        for (_, session) in self.sessions.iter_mut() {
            (session.confirmed, session.pinged) = (end, end);
        }
        self.settle();
        self.retries.drop_bounces();
    }
}
