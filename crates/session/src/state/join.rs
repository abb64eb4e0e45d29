//! The beginning of a session: it joins its user channel, and its live events are released when the welcome is
//! queued.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use sendpi_bus::{Revision, UserSubscription};
use sendpi_model::server_frame::{HeadsAnswer, OpFrame};
use sendpi_model::{Code, DeviceId, Refusal, RoomId, UserId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::State;
use crate::client::outbound::Outbound;
use crate::client::transport::Identity;
use crate::client::ws_frame;
use crate::keys::{SessionKey, UserKey};
use crate::state::effects::Effects;
use crate::state::session_state::{Heartbeat, Hold, SessionState};
use crate::state::user::UserPresence;

/// A session that has joined its user channel.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) user: UserKey,
    /// Resolves to the revision of the presence key once the user counts as online. `None` if the user already does.
    pub(crate) up: Option<watch::Receiver<Option<Revision>>>,
    /// Set if this session has to announce the user: the number of the announcement, and the sender of its result.
    pub(crate) announce: Option<(u64, watch::Sender<Option<Revision>>)>,
}

impl State {
    /// Opens a session for a client that has connected.
    ///
    /// # Errors
    /// Returns `unavailable` if the node is being drained.
    pub(crate) fn open(&mut self, outbound: Arc<Outbound>, now: Instant) -> Result<SessionKey, Refusal> {
        if self.draining {
            return Err(Refusal::unavailable("this node is being drained", 1_000));
        }
        Ok(self.sessions.insert(SessionState::new(outbound, now)))
    }

    /// Adds a session to its user channel. Its live events begin here, and are held back until the welcome. Closes
    /// the older sessions of the same device, and one more if the user has too many. A session without a device
    /// replaces none, and none replaces it.
    ///
    /// # Errors
    /// Returns `unavailable` if the node is being drained, and `conflict` if the session is signed in already.
    pub(crate) fn join(
        &mut self,
        key: SessionKey,
        who: &Identity,
        device: Option<&DeviceId>,
        effects: &mut Effects,
    ) -> Result<Joined, Refusal> {
        if self.draining {
            return Err(Refusal::unavailable("this node is being drained", 1_000));
        }
        if self.sessions.get(key).is_none_or(|session| session.user.is_some()) {
            return Err(Refusal::new(Code::Conflict, "this session is signed in already"));
        }
        let user_key = self.user_or_new(&who.user);
        self.make_place(user_key, device, effects);
        let end = self.unconfirmed.end();
        let Some(session) = self.sessions.get_mut(key) else {
            self.forget_if_gone(user_key);
            return Err(Refusal::new(Code::Conflict, "this session has ended"));
        };
        session.user = Some(user_key);
        session.device = device.cloned();
        session.issued_at = who.issued_at;
        session.expires_at = who.expires_at;
        (session.started, session.confirmed, session.pinged) = (end, end, end);
        session.hold = Some(Box::new(Hold::all()));
        let unanswered = self.users.get(user_key).map(|user| Arc::clone(&user.unanswered)).unwrap_or_default();
        session.outbound.set_user(who, unanswered);
        Ok(self.joined(key, user_key))
    }

    fn joined(&mut self, key: SessionKey, user_key: UserKey) -> Joined {
        let mut joined = Joined { user: user_key, up: None, announce: None };
        let Some(user) = self.users.get_mut(user_key) else { return joined };
        user.sessions.push(key);
        match &user.presence {
            UserPresence::Online => {}
            UserPresence::Announcing(_, up) => joined.up = Some(up.clone()),
            UserPresence::Offline => {
                let (tell, up) = watch::channel(None);
                self.announcements += 1;
                user.presence = UserPresence::Announcing(self.announcements, up.clone());
                joined.up = Some(up);
                joined.announce = Some((self.announcements, tell));
                self.forget_lasts(user_key);
            }
        }
        joined
    }

    /// Forgets which events a user has. What links brought while the user had no session says nothing about what a
    /// client has.
    fn forget_lasts(&mut self, user_key: UserKey) {
        self.forget_outside_audiences(user_key);
        let rooms = self.users.get(user_key).map(|user| user.rooms.clone()).unwrap_or_default();
        for key in rooms {
            if let Some(member) = self.rooms.get_mut(key).and_then(|room| room.member_mut(user_key)) {
                member.last = None;
                member.gap = None;
            }
        }
        if let Some(user) = self.users.get_mut(user_key) {
            user.gaps = 0;
        }
    }

    /// Notes that the user's subject is subscribed to, and requests the presence key with `sign_in`. Returns `None`
    /// if the user has left in the meantime.
    pub(crate) fn subscribed<W>(
        &mut self,
        user: UserKey,
        announce: u64,
        subscription: Option<UserSubscription>,
        sign_in: impl FnOnce(&UserId) -> (u64, W),
    ) -> Option<W> {
        let user = self.users.get_mut(user)?;
        if !matches!(&user.presence, UserPresence::Announcing(number, _) if *number == announce) {
            return None;
        }
        let (signin, written) = sign_in(&user.id);
        user.signin = signin;
        user.key_requested = true;
        self.last_signin = self.last_signin.max(signin);
        user.subscription = subscription;
        Some(written)
    }

    /// Notes whether the presence key was written.
    pub(crate) fn announced(&mut self, user: UserKey, announce: u64, good: bool) {
        if let Some(user) = self.users.get_mut(user)
            && matches!(&user.presence, UserPresence::Announcing(number, _) if *number == announce)
        {
            user.presence = if good { UserPresence::Online } else { UserPresence::Offline };
        }
    }

    /// Queues the welcome and releases the live events, except those of the rooms that are replayed next. `heads`
    /// says up to which seq the welcome, and the attaches before it, cover each room. If the user channel is further on
    /// in a room, because its owner did not answer in time, the session is told so.
    pub(crate) fn welcome(
        &mut self,
        key: SessionKey,
        frame: Bytes,
        heads: &[(RoomId, u64)],
        replay: Option<Hold>,
        now: Instant,
        effects: &mut Effects,
    ) {
        let Some(user) = self.sessions.get(key).and_then(|session| session.user) else { return };
        for (room, seq) in heads {
            let room = self.enter(room, user);
            if let Some(member) = self.rooms.get_mut(room).and_then(|room| room.member_mut(user)) {
                member.last.get_or_insert(*seq);
            }
        }
        let missed = self.missed_by(key, user, heads);
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.outbound.push_answer(frame);
        if !missed.rooms.is_empty() {
            session.outbound.push(ws_frame::text(&missed.to_frame()), false);
        }
        session.raise_floors(heads.iter().cloned());
        session.beat = Heartbeat { waiting_since: None, next: now + self.config.heartbeat };
        session.release(replay, effects);
        self.prune_floors(key);
        // The first look is at once, because the token may expire before the first heartbeat.
        self.schedule_beat(key, now);
    }

    /// Returns the rooms in which the user channel is past what a welcome covers, and the session holds back nothing
    /// that continues it.
    fn missed_by(&self, key: SessionKey, user: UserKey, heads: &[(RoomId, u64)]) -> HeadsAnswer {
        let mut covered: BTreeMap<&RoomId, u64> = BTreeMap::new();
        for (room, seq) in heads {
            let covered = covered.entry(room).or_default();
            *covered = (*covered).max(*seq);
        }
        let hold = self.sessions.get(key).and_then(|session| session.hold.as_deref());
        let last = |room: &RoomId| self.rooms.get(self.rooms.find(room)?)?.member(user)?.last;
        let missed = covered.into_iter().filter_map(|(room, seq)| {
            let last = last(room).filter(|last| *last > seq)?;
            let continues = hold.is_some_and(|hold| hold.holds(room, seq + 1));
            (!continues).then(|| (room.clone(), last))
        });
        HeadsAnswer { rooms: missed.collect() }
    }

    /// Holds back the live events of a replay's rooms. The replay waits until it is its turn. Returns its number, or
    /// `None` if the session has ended.
    pub(crate) fn add_replay(&mut self, key: SessionKey, rooms: HashSet<RoomId>) -> Option<u64> {
        Some(self.sessions.get_mut(key)?.add_replay(rooms))
    }

    /// Returns whether a replay may begin, because those before it have ended.
    pub(crate) fn is_turn_of(&self, key: SessionKey, replay: u64) -> bool {
        self.sessions.get(key).is_some_and(|session| session.is_turn_of(replay))
    }

    /// Ends a replay that covered everything up to these seqs: queues its last frame and releases the live events.
    pub(crate) fn replayed(&mut self, key: SessionKey, frame: Bytes, rooms: Vec<(RoomId, u64)>, effects: &mut Effects) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.raise_floors(rooms);
            session.outbound.push_answer(frame);
            session.end_replay(effects);
            self.prune_floors(key);
        }
    }

    fn prune_floors(&mut self, key: SessionKey) {
        let Self { sessions, rooms, .. } = self;
        let Some(session) = sessions.get_mut(key) else { return };
        let Some(user) = session.user else { return };
        session.prune_floors(|id| rooms.get(rooms.find(id)?)?.member(user)?.last);
    }
}
