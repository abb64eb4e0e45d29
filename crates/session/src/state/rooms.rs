//! The rooms with users on this node: up to which seq each user has the events, and who is in the audience of which
//! link.

pub(crate) mod member;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use sendpi_model::RoomId;
use tokio::time::Instant;

use self::member::UserInRoom;
use slotmap::SlotMap;

use crate::keys::{LinkId, RoomKey, UserKey};
use crate::state::retry_queue::UntakenRange;

/// A room as this node knows it.
#[derive(Debug)]
pub(crate) struct LocalRoom {
    pub(crate) id: RoomId,
    /// The entries of the users on this node, sorted by user.
    pub(crate) members: Vec<UserInRoom>,
    /// The audience that each link named for the room. Nearly always there is one link.
    audiences: Vec<LinkAudience>,
    /// The events that not every session has confirmed, in the order of their positions.
    pub(crate) recent: VecDeque<UnconfirmedEvent>,
    /// When a link last brought a durable event or an addition to an audience.
    pub(crate) active: Option<Instant>,
    /// Whether a task fills the gaps of this room, or was asked for.
    pub(crate) filling: bool,
}

/// An event that not every session has confirmed: its position in the log, the link message that brought it, the seq of
/// the first event that it stands for, and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnconfirmedEvent {
    pub(crate) position: u64,
    pub(crate) link: LinkId,
    pub(crate) number: u64,
    pub(crate) first: u64,
    pub(crate) seq: u64,
}

#[derive(Debug)]
struct LinkAudience {
    link: LinkId,
    users: Vec<UserKey>,
}

impl LocalRoom {
    fn new(id: RoomId) -> Self {
        Self { id, members: Vec::new(), audiences: Vec::new(), recent: VecDeque::new(), active: None, filling: false }
    }

    /// Returns the entry of a user.
    pub(crate) fn member(&self, user: UserKey) -> Option<&UserInRoom> {
        self.members.binary_search_by_key(&user, |member| member.user).ok().and_then(|i| self.members.get(i))
    }

    /// Returns the entry of a user, to be changed.
    pub(crate) fn member_mut(&mut self, user: UserKey) -> Option<&mut UserInRoom> {
        let place = self.members.binary_search_by_key(&user, |member| member.user).ok()?;
        self.members.get_mut(place)
    }

    /// Adds an entry of a user, unless there is one.
    fn add_member(&mut self, user: UserKey) {
        if let Err(place) = self.members.binary_search_by_key(&user, |member| member.user) {
            self.members.insert(place, UserInRoom::new(user));
        }
    }

    fn remove_member(&mut self, user: UserKey) {
        if let Ok(place) = self.members.binary_search_by_key(&user, |member| member.user) {
            self.members.remove(place);
        }
    }

    /// Returns the range of the events at these positions of the log. `None` if there are none.
    pub(crate) fn untaken(&self, positions: Range<u64>) -> Option<UntakenRange> {
        let from = self.recent.partition_point(|event| event.position < positions.start);
        let events = self.recent.range(from..).take_while(|event| event.position < positions.end);
        let mut range: Option<UntakenRange> = None;
        for event in events {
            let (seqs, origin) = (event.first..=event.seq, (event.link, event.number));
            match &mut range {
                Some(range) => range.add(seqs, origin),
                None => range = Some(UntakenRange::of(seqs, origin)),
            }
        }
        range
    }

    /// Adds a user to a link's audience.
    pub(crate) fn add_to_audience(&mut self, link: LinkId, user: UserKey) {
        let audience = match self.audiences.iter_mut().position(|audience| audience.link == link) {
            Some(place) => self.audiences.get_mut(place),
            None => {
                self.audiences.push(LinkAudience { link, users: Vec::new() });
                self.audiences.last_mut()
            }
        };
        if let Some(audience) = audience
            && let Err(place) = audience.users.binary_search(&user)
        {
            audience.users.insert(place, user);
        }
    }

    /// Removes a user from a link's audience. Returns `false` if the user was not in it.
    pub(crate) fn remove_from_audience(&mut self, link: LinkId, user: UserKey) -> bool {
        let Some(place) = self.audiences.iter().position(|audience| audience.link == link) else { return false };
        let Some(audience) = self.audiences.get_mut(place) else { return false };
        let Ok(index) = audience.users.binary_search(&user) else { return false };
        audience.users.remove(index);
        if audience.users.is_empty() {
            self.audiences.remove(place);
        }
        true
    }

    /// Removes a user from the audiences of all links.
    pub(crate) fn remove_from_audiences(&mut self, user: UserKey) {
        for audience in &mut self.audiences {
            if let Ok(index) = audience.users.binary_search(&user) {
                audience.users.remove(index);
            }
        }
        self.audiences.retain(|audience| !audience.users.is_empty());
    }

    /// Removes a link's audience and returns the users who were in it.
    pub(crate) fn cut(&mut self, link: LinkId) -> Vec<UserKey> {
        let Some(place) = self.audiences.iter().position(|audience| audience.link == link) else { return Vec::new() };
        self.audiences.remove(place).users
    }

    /// Returns whether a user is in the audience of any link.
    pub(crate) fn is_in_audience(&self, user: UserKey) -> bool {
        self.audiences.iter().any(|audience| audience.users.binary_search(&user).is_ok())
    }

    /// Returns the users in a link's audience.
    pub(crate) fn audience(&self, link: LinkId) -> &[UserKey] {
        self.audiences.iter().find(|audience| audience.link == link).map_or(&[], |audience| &audience.users)
    }

    /// Returns the room's id, and the entries of the users in a link's audience. One pass finds them, because
    /// audiences and entries are both sorted by user.
    pub(crate) fn audience_mut(&mut self, link: LinkId) -> (&RoomId, impl Iterator<Item = &mut UserInRoom>) {
        let users = self.audiences.iter().find(|audience| audience.link == link).map_or(&[][..], |a| &a.users);
        let mut members = self.members.iter_mut().peekable();
        let found = users.iter().filter_map(move |user| {
            while members.next_if(|member| member.user < *user).is_some() {}
            let found = members.next_if(|member| member.user == *user);
            debug_assert!(found.is_some(), "a user in an audience has no entry in the room");
            found
        });
        (&self.id, found)
    }

    fn is_empty(&self) -> bool {
        self.members.is_empty() && self.audiences.is_empty()
    }
}

/// All rooms with users on this node.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    rooms: SlotMap<RoomKey, LocalRoom>,
    index: HashMap<RoomId, RoomKey>,
}

impl Rooms {
    /// Returns the key of a room.
    pub(crate) fn find(&self, room: &RoomId) -> Option<RoomKey> {
        self.index.get(room).copied()
    }

    /// Returns the room of a key.
    pub(crate) fn get(&self, key: RoomKey) -> Option<&LocalRoom> {
        self.rooms.get(key)
    }

    /// Returns the room of a key, to be changed.
    pub(crate) fn get_mut(&mut self, key: RoomKey) -> Option<&mut LocalRoom> {
        self.rooms.get_mut(key)
    }

    /// Adds an entry of a user in a room, unless there is one. Returns the room's key, and whether the entry is new.
    pub(crate) fn enter(&mut self, room: &RoomId, user: UserKey) -> (RoomKey, bool) {
        let key = match self.index.get(room) {
            Some(key) => *key,
            None => {
                let key = self.rooms.insert(LocalRoom::new(room.clone()));
                self.index.insert(room.clone(), key);
                key
            }
        };
        let Some(room) = self.rooms.get_mut(key) else { return (key, false) };
        let new = room.member(user).is_none();
        if new {
            room.add_member(user);
        }
        (key, new)
    }

    /// Removes a user's entry and the user from all audiences. Forgets the room if no user is left.
    pub(crate) fn leave(&mut self, key: RoomKey, user: UserKey) {
        if let Some(room) = self.rooms.get_mut(key) {
            room.remove_from_audiences(user);
            room.remove_member(user);
            if room.is_empty() {
                let id = room.id.clone();
                self.index.remove(&id);
                self.rooms.remove(key);
            }
        }
    }

    /// Returns all rooms, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (RoomKey, &mut LocalRoom)> {
        self.rooms.iter_mut()
    }

    /// Returns all rooms.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RoomKey, &LocalRoom)> {
        self.rooms.iter()
    }
}

#[cfg(test)]
mod tests {
    use slotmap::KeyData;

    use super::*;

    fn user(index: u32) -> UserKey {
        KeyData::from_ffi((1 << 32) | u64::from(index)).into()
    }

    fn room() -> (Rooms, RoomKey) {
        let mut rooms = Rooms::default();
        let id = RoomId::parse("r").unwrap();
        let mut key = None;
        for index in [3, 1, 2] {
            key = Some(rooms.enter(&id, user(index)).0);
        }
        (rooms, key.unwrap())
    }

    #[test]
    fn each_link_has_its_own_audience() {
        let (mut rooms, key) = room();
        let room = rooms.get_mut(key).unwrap();
        room.add_to_audience(7, user(3));
        room.add_to_audience(7, user(1));
        room.add_to_audience(8, user(2));
        let of = |room: &mut LocalRoom, link| room.audience_mut(link).1.map(|m| m.user).collect::<Vec<_>>();
        assert_eq!((of(room, 7), of(room, 8), of(room, 9)), (vec![user(1), user(3)], vec![user(2)], vec![]));
        assert!(!room.remove_from_audience(8, user(1)));
        assert_eq!(room.cut(7), [user(1), user(3)]);
        assert!(!room.is_in_audience(user(1)) && room.is_in_audience(user(2)));
    }

    #[test]
    fn a_room_without_anybody_is_forgotten() {
        let (mut rooms, key) = room();
        for index in [1, 2, 3] {
            rooms.leave(key, user(index));
        }
        assert!(rooms.get(key).is_none() && rooms.find(&RoomId::parse("r").unwrap()).is_none());
    }
}
