//! What a terminal knows of its user's rooms, and what it prints of them. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sendpi_client::{EventFrame, RoomsPage, ServerFrame, Welcome};
use sendpi_model::{RoomId, RoomInfo};

use super::lines::{self, plain};

/// The most users whose names are remembered for completion.
const USERS: usize = 1_000;

/// Something that a frame asks of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Print a line.
    Print(String),
    /// Read the timeline of the current room after the last seq that was shown.
    Fill,
}

/// The rooms of a user, and the one that is shown.
#[derive(Debug, Default)]
pub(crate) struct View {
    user: String,
    rooms: BTreeMap<RoomId, RoomInfo>,
    current: Option<RoomId>,
    /// The lowest and the highest seq of the current room that were shown.
    shown: (u64, u64),
    users: BTreeSet<String>,
    effects: VecDeque<Effect>,
}

impl View {
    /// Takes the welcome of a session.
    pub(crate) fn welcome(&mut self, welcome: &Welcome) {
        self.user = welcome.user.to_string();
        self.take_page(&welcome.rooms);
    }

    /// Takes a page of rooms.
    pub(crate) fn page(&mut self, page: &RoomsPage) {
        self.take_page(&page.rooms);
    }

    fn take_page(&mut self, rooms: &[RoomInfo]) {
        for info in rooms {
            self.rooms.insert(info.room.clone(), info.clone());
        }
    }

    /// Takes a room, as after its creation.
    pub(crate) fn put(&mut self, info: RoomInfo) -> RoomId {
        let room = info.room.clone();
        self.rooms.insert(room.clone(), info);
        room
    }

    /// Returns the next effect.
    pub(crate) fn effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub(crate) fn print(&mut self, line: impl Into<String>) {
        self.effects.push_back(Effect::Print(line.into()));
    }

    /// Returns the current room.
    pub(crate) fn current(&self) -> Option<&RoomId> {
        self.current.as_ref()
    }

    /// Returns the seqs of the current room that were shown, the lowest and the highest.
    pub(crate) fn shown(&self) -> (u64, u64) {
        self.shown
    }

    /// Goes to a room, of which nothing is shown yet.
    pub(crate) fn go_to(&mut self, room: RoomId) {
        self.current = Some(room);
        self.shown = (u64::MAX, 0);
    }

    /// Returns the room of this name or id.
    pub(crate) fn find(&self, name: &str) -> Option<RoomId> {
        let named = self.rooms.values().filter(|info| lines::title(info, &self.user) == name);
        let newest = named.max_by_key(|info| info.last_at).map(|info| info.room.clone());
        newest.or_else(|| self.rooms.keys().find(|room| room.as_str() == name).cloned())
    }

    /// Returns how the rooms are called, the newest first.
    pub(crate) fn titles(&self) -> Vec<String> {
        self.newest_first().into_iter().map(|info| lines::title(info, &self.user)).collect()
    }

    fn newest_first(&self) -> Vec<&RoomInfo> {
        let mut rooms: Vec<&RoomInfo> = self.rooms.values().collect();
        rooms.sort_by_key(|info| std::cmp::Reverse(info.last_at));
        rooms
    }

    /// Returns a line for each room, the newest first.
    pub(crate) fn list(&self) -> Vec<String> {
        let line = |info: &RoomInfo| {
            let unread = if info.unread > 0 { format!(" ({} unread)", info.unread) } else { String::new() };
            let last = info.last.as_ref().map(|last| {
                format!(" — {}: {}", plain(last.from.as_str()), plain(last.text.as_deref().unwrap_or("…")))
            });
            format!("    {}{unread}{}", lines::title(info, &self.user), last.unwrap_or_default())
        };
        self.newest_first().into_iter().map(line).collect()
    }

    /// Returns the users who were seen.
    pub(crate) fn users(&self) -> &BTreeSet<String> {
        &self.users
    }

    /// Notes that a user exists.
    pub(crate) fn note_user(&mut self, user: &str) {
        if self.users.len() < USERS {
            self.users.insert(user.to_owned());
        }
    }

    /// Returns with what to prompt.
    pub(crate) fn prompt(&self) -> String {
        let info = self.current.as_ref().and_then(|room| self.rooms.get(room));
        format!("{}> ", info.map_or_else(|| "no room".to_owned(), |info| lines::title(info, &self.user)))
    }

    /// Takes a frame that the server sent on its own.
    pub(crate) fn take(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Event(event) => self.event(&event),
            ServerFrame::RoomAdded { info } => {
                let title = lines::title(&info, &self.user);
                if self.rooms.insert(info.room.clone(), info).is_none() {
                    self.print(format!("    * you are in a new room: /room {title}"));
                }
            }
            ServerFrame::RoomRemoved(removed) => self.remove(&removed.room, &removed.reason),
            ServerFrame::Resumed(resumed) => {
                let current = self.current.clone().and_then(|room| Some((*resumed.rooms.get(&room)?, room)));
                match current {
                    Some((state, room)) if state.gone => self.remove(&room, "while you were away"),
                    Some((state, _)) if state.truncated => self.effects.push_back(Effect::Fill),
                    _ => {}
                }
            }
            ServerFrame::Heads(heads) => {
                if self.current.as_ref().is_some_and(|room| heads.rooms.contains_key(room)) {
                    self.effects.push_back(Effect::Fill);
                }
            }
            ServerFrame::Marker(_) | ServerFrame::Bye(_) | ServerFrame::Error(_) | ServerFrame::Unknown => {}
        }
    }

    fn remove(&mut self, room: &RoomId, reason: &str) {
        if let Some(info) = self.rooms.remove(room) {
            let title = lines::title(&info, &self.user);
            self.print(format!("    * you are not in {title} any more ({})", plain(reason)));
        }
        if self.current.as_ref() == Some(room) {
            self.current = None;
        }
    }

    fn event(&mut self, event: &EventFrame) {
        let Some(seq) = event.seq else { return };
        self.note_user(event.from.as_str());
        let Some(info) = self.rooms.get_mut(&event.room) else { return };
        let is_message = matches!(event.kind.as_str(), "message" | "system");
        if is_message {
            info.last_at = info.last_at.max(event.at);
            info.unread += u64::from(event.from.as_str() != self.user);
        }
        if self.current.as_ref() == Some(&event.room) {
            if seq > self.shown.1 + 1 {
                self.effects.push_back(Effect::Fill);
            } else {
                self.show(event);
            }
        } else if is_message {
            let title = lines::title(info, &self.user);
            let text = plain(event.text().unwrap_or("(no text)"));
            self.print(format!("    [{title}] {}: {text}", plain(event.from.as_str())));
        }
    }

    /// Shows an event of the current room, unless it was shown.
    pub(crate) fn show(&mut self, event: &EventFrame) {
        let Some(seq) = event.seq.filter(|seq| *seq > self.shown.1) else { return };
        self.shown = (self.shown.0.min(seq), seq);
        if let Some(info) = self.current.as_ref().and_then(|room| self.rooms.get_mut(room)) {
            info.unread = 0;
        }
        if let Some(line) = lines::event(event) {
            self.print(line);
        }
    }

    /// Shows events from before what was shown.
    pub(crate) fn show_earlier(&mut self, events: &[EventFrame]) {
        if let Some(first) = events.first().and_then(|event| event.seq) {
            self.shown.0 = self.shown.0.min(first);
        }
        for line in events.iter().filter_map(lines::event) {
            self.print(line);
        }
    }
}
