//! The shape of the load in each case.

use crate::CaseName;

/// Which members send, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CasePace {
    /// This many messages a second in total, from all members in turn.
    PerSecond(u32),
    /// A closed loop: each sender sends its next message as soon as one is answered.
    Closed {
        /// How many members send.
        senders: usize,
        /// How many unanswered messages each sender has at a time.
        under_way: usize,
    },
}

/// Rooms of equal size, and how their members send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) rooms: usize,
    pub(crate) members: usize,
    pub(crate) pace: CasePace,
}

impl CaseName {
    /// Returns the load of a case that is only load, or `None` for the others.
    pub(crate) fn shape(self) -> Option<Shape> {
        let (big, small) = ((1, 1000), (100, 10));
        let ((rooms, members), pace) = match self {
            Self::Big => (big, CasePace::PerSecond(50)),
            Self::Small => (small, CasePace::PerSecond(1000)),
            Self::Bigmax => (big, CasePace::Closed { senders: 4, under_way: 1 }),
            Self::Smallmax => (small, CasePace::Closed { senders: 200, under_way: 4 }),
            Self::Idle | Self::Signin | Self::Writes | Self::Masscut | Self::Deadnode => return None,
        };
        Some(Shape { rooms, members, pace })
    }
}

impl Shape {
    /// Returns the members in the order in which they send, each as its room and its place in it. The rooms alternate.
    pub(crate) fn senders(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.members).flat_map(move |place| (0..self.rooms).map(move |room| (room, place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_spread_over_the_rooms() {
        let shape = CaseName::Smallmax.shape().unwrap();
        let senders: Vec<_> = shape.senders().take(200).collect();
        assert_eq!(senders.iter().filter(|(room, _)| *room == 7).count(), 2);
        assert_eq!(shape.senders().count(), 1000);
    }
}
