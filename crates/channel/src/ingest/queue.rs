//! What waits of a partition's system events. Pure.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Events in the order in which they came, one of each room under way at a time.
#[derive(Debug)]
pub(super) struct IngestQueue<T> {
    /// The events of each room, the first of which may be under way.
    rooms: HashMap<String, VecDeque<Arc<T>>>,
    /// The rooms of which none is under way, in the order in which they came.
    ready: VecDeque<String>,
    len: usize,
}

impl<T> Default for IngestQueue<T> {
    fn default() -> Self {
        Self { rooms: HashMap::new(), ready: VecDeque::new(), len: 0 }
    }
}

impl<T> IngestQueue<T> {
    /// Returns how many events wait or are under way.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns all events that wait or are under way.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.rooms.values().flatten().map(AsRef::as_ref)
    }

    /// Adds an event behind those of its room.
    pub(super) fn push(&mut self, room: String, event: Arc<T>) {
        self.len += 1;
        let events = self.rooms.entry(room.clone()).or_default();
        events.push_back(event);
        if events.len() == 1 {
            self.ready.push_back(room);
        }
    }

    /// Returns the next event, which is under way then, and its room.
    pub(super) fn next(&mut self) -> Option<(String, Arc<T>)> {
        let room = self.ready.pop_front()?;
        let event = self.rooms.get(&room)?.front()?.clone();
        Some((room, event))
    }

    /// Notes that the event of a room that was under way is done.
    pub(super) fn done(&mut self, room: &str) {
        let Some(events) = self.rooms.get_mut(room) else { return };
        self.len -= usize::from(events.pop_front().is_some());
        if events.is_empty() {
            self.rooms.remove(room);
        } else {
            self.ready.push_back(room.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_room_go_one_after_the_other_and_rooms_take_turns() {
        let mut queue = IngestQueue::default();
        for (room, event) in [("a", 1), ("a", 2), ("b", 3), ("a", 4)] {
            queue.push(room.to_owned(), Arc::new(event));
        }
        let next = |queue: &mut IngestQueue<i32>| queue.next().map(|(_, event)| *event);
        assert_eq!((next(&mut queue), next(&mut queue), next(&mut queue)), (Some(1), Some(3), None));
        queue.done("b");
        queue.done("a");
        assert_eq!((next(&mut queue), next(&mut queue), queue.len()), (Some(2), None, 2));
        queue.done("a");
        assert_eq!(next(&mut queue), Some(4));
        queue.done("a");
        assert_eq!((queue.len(), queue.all().count()), (0, 0));
    }
}
