//! L2: the members of a live channel who are offline, and which of them want a push for what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Event, EventKind, Mentions, Millis, Notify, UserId};

use super::RoomMember;

/// The members who are offline.
#[derive(Debug, Default)]
pub(crate) struct Offline {
    users: BTreeSet<UserId>,
    /// Made when an event needs them, and anew when anybody comes or goes.
    lists: Option<PushLists>,
}

/// Who wants what. The lists are shared by all events that they apply to.
#[derive(Debug)]
struct PushLists {
    /// Those who want every message, in order.
    all: Arc<[UserId]>,
    /// Those who want only messages that mention them, in order.
    mentions: Arc<[UserId]>,
    /// When the first mute ends.
    until: Option<Millis>,
}

impl Offline {
    pub(super) fn insert(&mut self, user: &UserId) {
        if self.users.insert(user.clone()) {
            self.lists = None;
        }
    }

    pub(super) fn remove(&mut self, user: &UserId) {
        if self.users.remove(user) {
            self.lists = None;
        }
    }

    /// Notes that a member chose something else.
    pub(super) fn forget_lists(&mut self) {
        self.lists = None;
    }

    pub(super) fn replace(&mut self, users: impl Iterator<Item = UserId>) {
        self.users = users.collect();
        self.lists = None;
    }

    /// Returns the users who want a push for `event`. For most events this is a shared list, and costs nothing.
    pub(super) fn who_wants(&mut self, event: &Event, members: &BTreeMap<UserId, RoomMember>) -> Vec<Arc<[UserId]>> {
        if !event.kind.is_counted() || self.users.is_empty() {
            return Vec::new();
        }
        let now = event.head.at;
        let lists = match self.lists.take() {
            Some(lists) if lists.until.is_none_or(|until| now < until) => self.lists.insert(lists),
            _ => self.lists.insert(PushLists::new(&self.users, members, now)),
        };
        let mentioned = if lists.mentions.is_empty() { None } else { event.mentions() };
        let mentioned = mentioned.map(|mentions| match mentions {
            Mentions::All => lists.mentions.clone(),
            Mentions::Users(_) => lists.mentions.iter().filter(|user| mentions.include(user)).cloned().collect(),
        });
        let others = |list: Arc<[UserId]>| match list.binary_search(&event.from) {
            Ok(_) if event.kind == EventKind::Message => {
                list.iter().filter(|user| **user != event.from).cloned().collect()
            }
            _ => list,
        };
        [Some(lists.all.clone()), mentioned].into_iter().flatten().map(others).filter(|list| !list.is_empty()).collect()
    }
}

impl PushLists {
    fn new(users: &BTreeSet<UserId>, members: &BTreeMap<UserId, RoomMember>, now: Millis) -> Self {
        let (mut all, mut mentions, mut until) = (Vec::new(), Vec::new(), None::<Millis>);
        for (user, member) in users.iter().filter_map(|user| Some((user, members.get(user)?))) {
            match (member.muted_until.filter(|until| now < *until), member.notify) {
                (Some(end), _) => until = Some(until.map_or(end, |until| until.min(end))),
                (None, _) if mutant(Mutant::NotifyOff) => all.push(user.clone()),
                (None, Notify::All) => all.push(user.clone()),
                (None, Notify::Mentions) => mentions.push(user.clone()),
                (None, Notify::None) => {}
            }
        }
        Self { all: all.into(), mentions: mentions.into(), until }
    }
}
