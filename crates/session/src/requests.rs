//! Requests of callers that have no session, such as HTTP: they go through the same flows, and move the same markers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sendpi_model::flow::{self, Requester};
use sendpi_model::server_frame::{OkAnswer, OpFrame};
use sendpi_model::{DeviceId, Millis, Nonce, PushAddress, Refusal, RoomId, RoomInfo, UserId, Verb, limits};
use sendpi_store::{DeviceRow, Row};
use tokio::time::Instant;

use crate::client::session::too_many_requests;
use crate::context::{NodeContext, answered, waiting};
use crate::handle::UserTier;
use crate::keys::SessionKey;
use crate::owners::answer::{self, RoomAnswer};
use crate::sign_in::room_list;

/// Returns a nonce for a request that came without one. The owner recognizes a resent request by its nonce.
pub(crate) fn fresh_nonce() -> Option<Nonce> {
    Nonce::parse(&format!("{:032x}", rand::random::<u128>())).ok()
}

/// How many requests are unanswered, by the user or service without a session that asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallerRequests(Arc<Mutex<HashMap<UserId, usize>>>);

impl CallerRequests {
    /// Counts a request until the result is dropped. `None` if too many of this caller are unanswered.
    fn begin(&self, who: &UserId) -> Option<CallerRequest> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(who.clone()).or_default();
        if *count >= limits::USER_REQUESTS {
            return None;
        }
        *count += 1;
        Some(CallerRequest { counts: self.clone(), who: who.clone() })
    }
}

struct CallerRequest {
    counts: CallerRequests,
    who: UserId,
}

impl Drop for CallerRequest {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.who);
            }
        }
    }
}

impl NodeContext {
    /// Sends a request to a room's owner and waits for the answer.
    ///
    /// # Errors
    /// Returns `unavailable` if the request ends without an answer, and `rate_limited` if too many of the caller have
    /// none. A refusal by the owner is an answer.
    async fn ask_for(&self, who: Requester<'_>, room: &RoomId, verb: &Verb) -> Result<Bytes, Refusal> {
        let unanswered = self.callers.begin(who.id()).ok_or_else(too_many_requests)?;
        let (tag, answer) = waiting();
        let request = flow::encode_request(room, who, verb);
        let pushed = self.flows.lock().push(self.partitions.of(room), request, tag, Instant::now());
        pushed.map_err(|_| answer::unavailable())?;
        self.uplink.notify_one();
        // The request keeps its place in the flow until it is answered, also if its caller has gone.
        let answered = tokio::spawn(async move {
            let answer = answered(answer).await;
            drop(unanswered);
            answer
        });
        answered.await.unwrap_or_else(|_| Err(answer::unavailable()))
    }
}

impl UserTier {
    /// Sends a request to a room for a user or a service, and returns the owner's answer: a frame, which is a refusal
    /// if the owner refused.
    ///
    /// # Errors
    /// Returns `unavailable` if no answer came in time. Whether the request was carried out is not known then.
    pub async fn request(&self, who: Requester<'_>, room: &RoomId, mut verb: Verb) -> Result<Bytes, Refusal> {
        let node = self.context();
        verb.set_nonce(fresh_nonce);
        let frame = node.ask_for(who, room, &verb).await?;
        match (&verb, who) {
            (Verb::Send { .. }, Requester::User(user)) => node.move_to_own_message(user, room, &frame),
            (Verb::Read { .. }, Requester::User(user)) => {
                let mark = node.read_up_to(user, room, SessionKey::default(), &frame).await?;
                return Ok(OkAnswer::marker(mark).to_frame().into());
            }
            _ => {}
        }
        Ok(frame)
    }

    /// Returns a page of a user's rooms, newest message first, as the frame `rooms`. `cursor` is what an earlier page
    /// gave as `next`.
    ///
    /// # Errors
    /// Returns `bad_field` if the cursor is none, and `unavailable` if the store or an owner does not answer.
    pub async fn rooms(&self, user: &UserId, cursor: Option<&str>, limit: usize) -> Result<Vec<u8>, Refusal> {
        room_list::answer(self.context(), user, cursor, limit).await
    }

    /// Returns a room as a user or a service sees it.
    ///
    /// # Errors
    /// Returns the owner's refusal, and `unavailable` if the store or the owner does not answer.
    pub async fn room(&self, who: Requester<'_>, room: &RoomId) -> Result<RoomInfo, Refusal> {
        let node: &Arc<NodeContext> = self.context();
        let info = RoomAnswer::read(&node.ask_for(who, room, &Verb::Peek).await?)?.info;
        match who {
            Requester::User(user) => {
                let mut infos = room_list::add_markers(node, user, vec![info]).await?;
                infos.pop().ok_or_else(answer::unavailable)
            }
            Requester::Service(_) => Ok(info),
        }
    }

    /// Returns which of these users are online.
    ///
    /// # Errors
    /// Returns `unavailable` if presence cannot be read.
    pub async fn online(&self, users: Vec<UserId>) -> Result<Vec<(UserId, bool)>, Refusal> {
        let unavailable = || Refusal::unavailable("presence could not be read", 1_000);
        let online = self.context().presence.read(users.clone()).await.ok_or_else(unavailable)?;
        Ok(users.into_iter().map(|user| (user.clone(), online.contains_key(&user))).collect())
    }

    /// Returns the devices of a user that have a push address.
    ///
    /// # Errors
    /// Returns `unavailable` if the store does not answer.
    pub async fn devices(&self, user: &UserId) -> Result<Vec<(DeviceId, PushAddress)>, Refusal> {
        let rows = self.context().store.devices(user).await.map_err(room_list::store_failed)?;
        Ok(rows.into_iter().filter_map(|row| Some((row.device, row.address?))).collect())
    }

    /// Sets or takes away the push address of a device.
    ///
    /// # Errors
    /// Returns `too_large` if the user has too many devices, and `unavailable` if the store does not answer.
    pub async fn set_push_address(
        &self,
        user: &UserId,
        device: &DeviceId,
        address: Option<PushAddress>,
    ) -> Result<(), Refusal> {
        let known = self.devices(user).await?;
        let is_new = address.is_some() && known.iter().all(|(other, _)| other != device);
        if is_new && known.len() >= limits::USER_DEVICES {
            return Err(Refusal::too_large("device", format!("one of {} with an address", limits::USER_DEVICES)));
        }
        let row = DeviceRow { user: user.clone(), device: device.clone(), at: Millis::now(), address };
        self.context().store.write(vec![Row::Device(row)]).await.map_err(|error| {
            tracing::warn!(%error, "a push address could not be written");
            Refusal::unavailable("the store did not answer", 1_000)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_so_many_requests_until_they_are_answered_and_others_are_not_counted() {
        let (callers, user) = (CallerRequests::default(), |name: &str| UserId::parse(name).unwrap());
        let mut held: Vec<_> = (0..limits::USER_REQUESTS).filter_map(|_| callers.begin(&user("ann"))).collect();
        assert!(held.len() == limits::USER_REQUESTS && callers.begin(&user("ann")).is_none());
        assert!(callers.begin(&user("bob")).is_some());
        held.pop();
        assert!(callers.begin(&user("ann")).is_some());
        held.clear();
        assert!(callers.0.lock().unwrap().is_empty());
    }
}
