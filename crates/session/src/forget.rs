//! Forgetting a user: the bodies of all messages that the user wrote are removed in place, in every room that the user
//! was ever in, with the push addresses of all devices, and the user is signed out. Seqs and counts stay, and so does
//! the membership.
//!
//! It is done in steps, each of which says where the next one begins, so that whoever asks can be told how far it is
//! and can go on after an error.

use std::collections::VecDeque;

use futures_util::{StreamExt, TryStreamExt, stream};
use sendpi_model::flow::Requester;
use sendpi_model::server_frame::OkAnswer;
use sendpi_model::{Code, Event, EventKind, Refusal, RoomId, UserId, Verb};
use serde::Serialize;
use tokio::time::{Duration, Instant};

use crate::handle::UserTier;
use crate::owners::answer;
use crate::sign_in::room_list::store_failed;

/// The rows of one read.
const PAGE: usize = 500;
/// The rooms of one read.
const ROOMS: usize = 100;
/// The most messages that are asked for at one time.
const AT_ONCE: usize = 32;
/// A step ends after this time.
const STEP: Duration = Duration::from_secs(2);

/// What a step has removed.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct ForgottenUser {
    /// The messages whose bodies were removed.
    pub messages: usize,
    /// The rooms that were searched to their end.
    pub rooms: usize,
    /// The devices whose push addresses were removed.
    pub devices: usize,
    /// Rooms that could not be searched now. Forget the user again when their owners answer.
    pub skipped: Vec<RoomId>,
    /// Where the next step begins. `None` if nothing is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A place in all timelines of a user's rooms: the seq from which a room is still to be searched.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ForgetPosition {
    seq: u64,
    room: RoomId,
}

impl ForgetPosition {
    fn encode(&self) -> String {
        format!("{}.{}", self.seq, self.room)
    }

    fn decode(cursor: &str) -> Result<Self, Refusal> {
        let place = cursor.split_once('.').and_then(|(seq, room)| Some((seq.parse().ok()?, RoomId::parse(room).ok()?)));
        let (seq, room) =
            place.ok_or_else(|| Refusal::field("cursor", "must be one that a step before gave as next"))?;
        Ok(Self { seq, room })
    }
}

impl UserTier {
    /// Does a step of forgetting a user. `cursor` is what the step before gave as `next`.
    ///
    /// # Errors
    /// Returns `bad_field` if the cursor is none, and `unavailable` if the store or an owner does not answer. The same
    /// step can be tried again.
    pub async fn forget(
        &self,
        service: &UserId,
        user: &UserId,
        cursor: Option<&str>,
    ) -> Result<ForgottenUser, Refusal> {
        let mut done = ForgottenUser::default();
        let mut waiting = VecDeque::new();
        match cursor.map(ForgetPosition::decode).transpose()? {
            Some(position) => waiting.push_back(position),
            None => {
                self.sign_out(user).await?;
                for (device, _) in self.devices(user).await? {
                    self.set_push_address(user, &device, None).await?;
                    done.devices += 1;
                }
            }
        }
        let until = Instant::now() + STEP;
        let mut searched = None;
        loop {
            let Some(ForgetPosition { seq, room }) = waiting.pop_front() else {
                let rooms =
                    self.context().store.rooms_ever(user, searched.as_ref(), ROOMS).await.map_err(store_failed)?;
                if rooms.is_empty() {
                    return Ok(done);
                }
                waiting.extend(rooms.into_iter().map(|room| ForgetPosition { seq: 1, room }));
                continue;
            };
            match self.forget_in((service, user), &room, seq, until, &mut done).await {
                Ok(None) => done.rooms += 1,
                Ok(Some(seq)) => {
                    done.next = Some(ForgetPosition { seq, room }.encode());
                    return Ok(done);
                }
                // One room that cannot be opened must not keep the words in all others.
                Err(refusal) if refusal.retry_in_ms.is_some() => done.skipped.push(room.clone()),
                Err(refusal) => return Err(refusal),
            }
            if Instant::now() >= until
                && let Some(next) = waiting.pop_front()
            {
                done.next = Some(next.encode());
                return Ok(done);
            }
            searched = Some(room);
        }
    }

    /// Removes the bodies of a user's messages from `seq` on in a room, at least of a page. Returns where to go on if
    /// the time is over.
    async fn forget_in(
        &self,
        (service, user): (&UserId, &UserId),
        room: &RoomId,
        mut seq: u64,
        until: Instant,
        done: &mut ForgottenUser,
    ) -> Result<Option<u64>, Refusal> {
        let last = match self.room(Requester::Service(service), room).await {
            Ok(info) => info.seq,
            // It was deleted, and is removed as a whole.
            Err(refusal) if refusal.code == Code::NoSuchRoom => return Ok(None),
            Err(refusal) => return Err(refusal),
        };
        let store = &self.context().store;
        let chain = store.chain(room).await.map_err(store_failed)?;
        while seq <= last {
            let rows = store.timeline(room, seq..=last, PAGE, false).await.map_err(store_failed)?;
            let next = if rows.len() < PAGE { last + 1 } else { rows.last().map_or(last, |row| row.event.head.seq) };
            let events: Vec<Event> = chain.filter(rows).into_iter().map(|row| row.event).collect();
            let is_own = |event: &&Event| event.is_message_of(user) && !event.is_deleted();
            let mut own: Vec<u64> = events.iter().filter(is_own).map(|event| event.head.seq).collect();
            for edit in events.iter().filter(|event| event.kind == EventKind::Edited && event.from == *user) {
                // With its message goes the text of an edit, unless the message has expired.
                if let Some(edited) = edit.revision().map(|revision| revision.target) {
                    let rows = store.timeline(room, edited..=edited, PAGE, false).await.map_err(store_failed)?;
                    own.extend(chain.filter(rows).is_empty().then_some(edit.head.seq));
                }
            }
            let asks = stream::iter(own).map(|target| self.forget_message(service, room, target));
            let removed: Vec<bool> = asks.buffer_unordered(AT_ONCE).try_collect().await?;
            done.messages += removed.into_iter().filter(|removed| *removed).count();
            // The last seq that was read may have further rows. If it has as many as a page, they are void.
            seq = if next == seq { seq + 1 } else { next };
            if seq <= last && Instant::now() >= until {
                return Ok(Some(seq));
            }
        }
        Ok(None)
    }

    /// Removes the body of a message. Returns whether there was one.
    async fn forget_message(&self, service: &UserId, room: &RoomId, target: u64) -> Result<bool, Refusal> {
        let frame = self.request(Requester::Service(service), room, Verb::Forget { target }).await?;
        match answer::read::<OkAnswer>(&frame) {
            Ok(answer) => Ok(!answer.repeat),
            // It expired, or the room was deleted.
            Err(refusal) if matches!(refusal.code, Code::NoSuchEvent | Code::NoSuchRoom) => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_from_its_cursor_and_others_are_refused() {
        let position = ForgetPosition { seq: 7, room: RoomId::parse("a.b").unwrap() };
        assert_eq!(ForgetPosition::decode(&position.encode()), Ok(position));
        for cursor in ["", "7", "x.r", "7."] {
            assert_eq!(ForgetPosition::decode(cursor).unwrap_err().code, Code::BadField, "{cursor}");
        }
    }
}
