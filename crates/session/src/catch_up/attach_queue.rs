//! The attaches that are still to be made: those of a cut link, and those that no owner answered during a sign-in.
//! Each room is tried until its owner answers, and holds up no other: only a limited number is under way to one
//! partition. Pure.

use std::collections::{HashMap, VecDeque};

use sendpi_model::{Partition, RoomId};

use crate::keys::UserKey;
use crate::state::AttachTelling;

/// The most attaches under way to one partition.
const UNDER_WAY: usize = 32;

/// A user in a room.
pub(crate) type UserRoom = (UserKey, RoomId);

/// An attach that may be sent now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DueAttach {
    pub(crate) partition: Partition,
    pub(crate) place: UserRoom,
    /// What the user's sessions are told with the answer, by what they knew when the attach became due.
    pub(crate) telling: AttachTelling,
}

#[derive(Debug)]
struct WaitingAttach {
    telling: AttachTelling,
    /// Whether the attach must be made once more after the one under way, because a link was cut in the meantime.
    again: bool,
    under_way: bool,
}

#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<UserRoom>,
    under_way: usize,
    /// Whether the partition is in `ready`.
    ready: bool,
}

/// The attaches that are still to be made. There are at most as many as entries of users in rooms.
#[derive(Debug, Default)]
pub(crate) struct AttachQueue {
    waiting: HashMap<UserRoom, WaitingAttach>,
    lanes: HashMap<Partition, Lane>,
    /// Partitions with attaches that may be sent, each once.
    ready: VecDeque<Partition>,
}

impl AttachQueue {
    /// Adds an attach. What is told of a room that waits already stays as it was.
    pub(crate) fn add(&mut self, partition: Partition, place: UserRoom, telling: AttachTelling) {
        if let Some(waiting) = self.waiting.get_mut(&place) {
            waiting.again |= waiting.under_way;
            return;
        }
        self.waiting.insert(place.clone(), WaitingAttach { telling, again: false, under_way: false });
        self.queue(partition, place);
    }

    fn queue(&mut self, partition: Partition, place: UserRoom) {
        self.lanes.entry(partition).or_default().queue.push_back(place);
        self.make_ready(partition);
    }

    fn make_ready(&mut self, partition: Partition) {
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        if lane.queue.is_empty() && lane.under_way == 0 {
            self.lanes.remove(&partition);
        } else if !lane.queue.is_empty() && lane.under_way < UNDER_WAY && !std::mem::replace(&mut lane.ready, true) {
            self.ready.push_back(partition);
        }
    }

    /// Returns the next attach that may be sent, of each partition in turn.
    pub(crate) fn next(&mut self) -> Option<DueAttach> {
        let partition = self.ready.pop_front()?;
        let lane = self.lanes.get_mut(&partition)?;
        lane.ready = false;
        let place = lane.queue.pop_front()?;
        lane.under_way += 1;
        self.make_ready(partition);
        let waiting = self.waiting.get_mut(&place)?;
        waiting.under_way = true;
        Some(DueAttach { partition, telling: waiting.telling, place })
    }

    /// Notes that an attach has ended. One that was not answered, or that must be made once more, is queued again,
    /// behind the others of its partition.
    pub(crate) fn ended(&mut self, due: DueAttach, answered: bool) {
        let DueAttach { partition, place, .. } = due;
        if let Some(lane) = self.lanes.get_mut(&partition) {
            debug_assert!(lane.under_way > 0, "more attaches ended than began");
            lane.under_way = lane.under_way.saturating_sub(1);
        }
        if let Some(waiting) = self.waiting.get_mut(&place) {
            waiting.under_way = false;
            if answered {
                // What was told with the answer is known from now on.
                waiting.telling = AttachTelling::IfGone;
            }
            // The next try of one that was not answered is after the cut as well.
            let again = std::mem::take(&mut waiting.again);
            if !answered || again {
                self.queue(partition, place);
            } else {
                self.waiting.remove(&place);
            }
        }
        self.make_ready(partition);
    }
}

#[cfg(test)]
mod tests {
    use AttachTelling::{IfGone, IfMember};

    use super::*;

    const P: Partition = Partition(3);
    const Q: Partition = Partition(4);

    fn place(room: &str) -> UserRoom {
        (UserKey::default(), RoomId::parse(room).unwrap())
    }

    #[test]
    fn what_is_not_answered_is_tried_again_with_what_was_known_at_first() {
        let mut queue = AttachQueue::default();
        queue.add(P, place("a"), IfMember);
        let due = queue.next().unwrap();
        queue.add(P, place("a"), IfGone);
        queue.ended(due, false);
        let due = queue.next().unwrap();
        assert_eq!(due, DueAttach { partition: P, place: place("a"), telling: IfMember });
        queue.ended(due, true);
        assert!(queue.next().is_none() && queue.waiting.is_empty() && queue.lanes.is_empty());
    }

    #[test]
    fn a_cut_during_an_attach_has_it_made_once_more() {
        let mut queue = AttachQueue::default();
        queue.add(P, place("a"), IfMember);
        let due = queue.next().unwrap();
        queue.add(P, place("a"), IfMember);
        queue.ended(due, true);
        let due = queue.next().unwrap();
        assert_eq!(due.telling, IfGone, "the first answer was told");
        queue.ended(due, true);
        assert!(queue.next().is_none() && queue.waiting.is_empty());
    }

    #[test]
    fn a_partition_that_does_not_answer_holds_up_no_other() {
        let mut queue = AttachQueue::default();
        for n in 0..2 * UNDER_WAY {
            queue.add(P, place(&format!("p{n}")), IfGone);
        }
        queue.add(Q, place("q"), IfGone);
        let due: Vec<DueAttach> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!(due.len(), UNDER_WAY + 1);
        assert!(due.iter().any(|due| due.partition == Q));
        for due in due {
            queue.ended(due, false);
        }
        let next: Vec<String> = std::iter::from_fn(|| queue.next()).map(|due| due.place.1.to_string()).collect();
        assert!(next.contains(&format!("p{UNDER_WAY}")), "those that were not tried yet come first: {next:?}");
    }
}
