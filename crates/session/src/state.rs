//! The state of one node's user tier. It is pure and changes under one lock. Its [`Effects`] say what the code
//! around it has to do. Only the sessions' outbound queues are filled, and closed, directly.

mod attach;
mod deliver;
pub(crate) mod devices;
pub(crate) mod effects;
mod farewell;
mod gaps;
mod heartbeat;
mod join;
pub(crate) mod lateness;
mod leave;
mod overload;
pub(crate) mod retry_queue;
pub(crate) mod rooms;
pub(crate) mod session_state;
#[cfg(test)]
mod tests;
pub(crate) mod timer_wheel;
pub(crate) mod unconfirmed;
pub(crate) mod user;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Partition, Partitions, RoomId, UserId};
use tokio::time::Instant;

pub(crate) use self::attach::{AttachRequest, AttachTelling, OnlineUser};
pub(crate) use self::deliver::LinkOrigin;
use slotmap::SlotMap;

use crate::client::node_budget::NodeBudget;
use crate::config::SessionConfig;
use crate::keys::{LinkId, RetryKey, RoomKey, SessionKey, UserKey};
use crate::owners::reply_to::ReplyTo;
use crate::state::effects::{Ask, Effects};
use crate::state::lateness::Lateness;
use crate::state::retry_queue::{Confirmed, RetriedRequest, RetryQueue, UntakenRange};
use crate::state::rooms::Rooms;
use crate::state::session_state::SessionState;
use crate::state::timer_wheel::TimerWheel;
use crate::state::unconfirmed::Unconfirmed;
use crate::state::user::User;

/// All that a node knows of its users.
#[derive(Debug)]
pub(crate) struct State {
    config: SessionConfig,
    partitions: Partitions,
    sessions: SlotMap<SessionKey, SessionState>,
    users: SlotMap<UserKey, User>,
    user_index: HashMap<UserId, UserKey>,
    rooms: Rooms,
    unconfirmed: Unconfirmed,
    pub(crate) retries: RetryQueue,
    timers: TimerWheel,
    pub(crate) lateness: Lateness,
    /// The highest sign-in number so far.
    last_signin: u64,
    /// How often a user has gone from `Offline` to `Announcing`.
    announcements: u64,
    draining: bool,
    /// The sessions that still have to answer an earlier heartbeat before they get the last one of a drain.
    last_pings_owed: Vec<SessionKey>,
    /// What may wait for all sessions together.
    budget: Arc<NodeBudget>,
}

impl State {
    pub(crate) fn new(config: SessionConfig, partitions: Partitions, now: Instant) -> Self {
        let (tick, slow_timeout) = (Self::tick_of(&config), config.slow_timeout);
        Self {
            unconfirmed: Unconfirmed::new(now, config.unconfirmed_events),
            budget: Arc::new(NodeBudget::new(&config)),
            config,
            partitions,
            sessions: SlotMap::default(),
            users: SlotMap::default(),
            user_index: HashMap::new(),
            rooms: Rooms::default(),
            retries: RetryQueue::default(),
            timers: TimerWheel::new(now, tick),
            lateness: Lateness::new(tick, slow_timeout, now),
            last_signin: 0,
            announcements: 0,
            draining: false,
            last_pings_owed: Vec::new(),
        }
    }

    /// Returns the budget that the queues of all sessions share.
    pub(crate) fn budget(&self) -> Arc<NodeBudget> {
        Arc::clone(&self.budget)
    }

    /// Returns how many users have a session here.
    pub(crate) fn users_here(&self) -> usize {
        self.users.len()
    }

    /// Returns how many events not every session has confirmed.
    pub(crate) fn unconfirmed_events(&self) -> usize {
        self.unconfirmed.count()
    }

    /// Returns whether the node is being drained.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Returns the number of sessions, signed in or not.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Returns the number of users with a session on this node.
    pub(crate) fn users_with_sessions(&self) -> usize {
        self.users.iter().filter(|(_, user)| user.has_sessions()).count()
    }

    /// Returns whether a user has a session on this node.
    pub(crate) fn has_sessions(&self, user: &UserId) -> bool {
        self.user_index.get(user).and_then(|key| self.users.get(*key)).is_some_and(User::has_sessions)
    }

    /// Returns the number up to which all messages of a link are settled, given that all up to `has` were received.
    pub(crate) fn settled(&self, link: LinkId, has: u64) -> u64 {
        self.unconfirmed.settled(link, has)
    }

    fn user_or_new(&mut self, id: &UserId) -> UserKey {
        if let Some(key) = self.user_index.get(id) {
            return *key;
        }
        let key = self.users.insert(User::new(id.clone()));
        self.user_index.insert(id.clone(), key);
        key
    }

    /// Adds an entry of a user in a room if there is none.
    fn enter(&mut self, room: &RoomId, user: UserKey) -> RoomKey {
        let (key, new) = self.rooms.enter(room, user);
        if new && let Some(user) = self.users.get_mut(user) {
            user.rooms.push(key);
        }
        key
    }

    /// Removes the entry of a user in a room.
    fn forget_member(&mut self, room: RoomKey, user: UserKey) {
        let had_gap = self.rooms.get(room).and_then(|r| r.member(user)).is_some_and(|member| member.gap.is_some());
        self.rooms.leave(room, user);
        if let Some(user) = self.users.get_mut(user) {
            user.rooms.retain(|key| *key != room);
            user.gaps -= u32::from(had_gap);
        }
        self.forget_if_gone(user);
    }

    /// Removes all entries of a user in rooms in whose audience the user is not.
    fn forget_outside_audiences(&mut self, key: UserKey) {
        let Some(user) = self.users.get_mut(key) else { return };
        let mut rooms = std::mem::take(&mut user.rooms);
        let mut gaps = 0;
        rooms.retain(|room| {
            let in_audience = self.rooms.get(*room).is_some_and(|room| room.is_in_audience(key));
            if !in_audience {
                let member = self.rooms.get(*room).and_then(|room| room.member(key));
                gaps += u32::from(member.is_some_and(|member| member.gap.is_some()));
                self.rooms.leave(*room, key);
            }
            in_audience
        });
        if let Some(user) = self.users.get_mut(key) {
            user.rooms = rooms;
            user.gaps -= gaps;
        }
    }

    /// Forgets a user who has neither a session nor an entry in a room on this node.
    fn forget_if_gone(&mut self, key: UserKey) {
        if self.users.get(key).is_some_and(|user| !user.has_sessions() && user.rooms.is_empty())
            && let Some(user) = self.users.remove(key)
        {
            self.user_index.remove(&user.id);
        }
    }

    /// Removes the entry of a user without sessions, unless the user is still in an audience of the room.
    fn forget_entry_if_gone(&mut self, room: RoomKey, user: UserKey) {
        let gone = self.users.get(user).is_none_or(|user| !user.has_sessions());
        if gone && self.rooms.get(room).is_some_and(|room| !room.is_in_audience(user)) {
            self.forget_member(room, user);
        }
    }

    /// Has the owner of a room told, until it confirms it, that the user's last session has ended.
    fn owe_detach(&mut self, room: &RoomId, user: &UserId, signin: u64, effects: &mut Effects) {
        let partition = self.partitions.of(room);
        effects.overrun |= !self.retries.detach(partition, room, user, signin);
        self.ask_next(partition, effects);
    }

    /// Bounces a range of events that no device of the user on this node took.
    fn bounce(&mut self, room: &RoomId, user: &UserId, range: UntakenRange, effects: &mut Effects) {
        if mutant(Mutant::BounceOff) {
            return;
        }
        let (partition, origins) = (self.partitions.of(room), range.origins.clone());
        match self.retries.bounce(partition, room, user, range) {
            Some(not_needed) => {
                origins.into_iter().for_each(|origin| self.unconfirmed.bounce_began(origin));
                not_needed.into_iter().for_each(|origin| self.unconfirmed.bounce_ended(origin));
            }
            None => effects.overrun = true,
        }
        self.ask_next(partition, effects);
    }

    /// Sends the requests of the retry queue that may be under way to a partition now.
    fn ask_next(&mut self, partition: Partition, effects: &mut Effects) {
        while let Some(RetriedRequest { key, room, user, verb }) = self.retries.next(partition) {
            effects.asks.push(Ask { room, user, verb, tag: ReplyTo::Retry(key) });
        }
    }

    /// Handles the owner's answer to a retried request. `link` is the link that brought the answer.
    pub(crate) fn confirmed(&mut self, key: RetryKey, link: LinkId, effects: &mut Effects) {
        let Some((partition, confirmed)) = self.retries.confirmed(key) else { return };
        match confirmed {
            Confirmed::Bounce { origins } => {
                origins.into_iter().for_each(|origin| self.unconfirmed.bounce_ended(origin));
            }
            Confirmed::Detach { room, user, signin } => self.detached(&room, &user, signin, link),
        }
        self.ask_next(partition, effects);
    }

    /// Handles a retried request that the owner refused, with the pause that it asked for, or that it did not answer.
    ///
    /// Until a bounce is confirmed, nothing after its first event is settled on the whole link. A room that cannot be
    /// read, while other rooms go on, must not hold up the link for ever: after a while its bounces no longer do. They
    /// are asked all the same, and are lost only if this node ends before the room can be read.
    pub(crate) fn not_confirmed(
        &mut self,
        key: RetryKey,
        refused: Option<Duration>,
        now: Instant,
        effects: &mut Effects,
    ) {
        let Self { retries, unconfirmed, .. } = self;
        let (heard, mut released) = (unconfirmed.heard(), 0);
        let release = |origin| {
            released += 1;
            unconfirmed.bounce_ended(origin);
        };
        let Some(partition) = retries.failed(key, refused, now, |since| heard >= since, release) else { return };
        if released > 0 {
            tracing::warn!(%partition, "an owner has refused a bounce for long; it no longer holds up its link");
        }
        self.ask_next(partition, effects);
    }

    /// Handles a confirmed detach: the owner removed the user from the audience, and no later event of this link is
    /// for the user.
    fn detached(&mut self, room: &RoomId, user: &UserId, signin: u64, link: LinkId) {
        let Some(user) = self.user_index.get(user).copied() else { return };
        let Some(room) = self.rooms.find(room) else { return };
        if self.users.get(user).is_some_and(|user| !user.has_sessions() && user.signin <= signin) {
            if let Some(room) = self.rooms.get_mut(room) {
                room.remove_from_audience(link, user);
            }
            self.forget_entry_if_gone(room, user);
        }
    }

    /// Sends the requests again that were not confirmed.
    pub(crate) fn ask_again(&mut self, now: Instant, effects: &mut Effects) {
        for partition in self.retries.retry(now) {
            self.ask_next(partition, effects);
        }
    }
}
