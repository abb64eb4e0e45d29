//! In how many rooms users are, so far as a worker must know it to keep the limit. Pure.
//!
//! Counting a user's rows for every join would cost more than the join. So after a count the user may join half as many
//! rooms as there is room for without another one. What other workers add meanwhile is not seen: while several workers
//! add one user at the same time, the limit may be passed by a few rooms.

use std::collections::HashMap;
use std::time::Duration;

use sendpi_model::{UserId, limits};
use tokio::time::Instant;

/// The most users that are remembered. Beyond that all are forgotten, and counted again when they join.
const USERS: usize = 10_000;
/// How long a count is good for.
const FRESH: Duration = Duration::from_secs(60);

/// The users whose rooms were counted lately.
#[derive(Debug, Default)]
pub(crate) struct RoomCounts {
    users: HashMap<UserId, RoomCount>,
}

#[derive(Debug)]
struct RoomCount {
    /// How many rooms the user may join before the next count.
    free: usize,
    counted: Instant,
}

impl RoomCounts {
    /// Takes a place of a user in one more room. Returns `false` if the user's rooms must be counted first.
    pub(crate) fn take(&mut self, user: &UserId, now: Instant) -> bool {
        match self.users.get_mut(user) {
            Some(count) if count.free > 0 && now - count.counted < FRESH => {
                count.free -= 1;
                true
            }
            _ => false,
        }
    }

    /// Notes in how many rooms a user is. Returns whether that is less than a user may be in.
    pub(crate) fn note(&mut self, user: &UserId, rooms: usize, now: Instant) -> bool {
        if self.users.len() >= USERS {
            self.users.clear();
        }
        let free = limits::USER_ROOMS.saturating_sub(rooms) / 2;
        self.users.insert(user.clone(), RoomCount { free, counted: now });
        rooms < limits::USER_ROOMS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_counted_again_when_half_of_the_free_places_are_taken() {
        let (mut counts, now, ann) = (RoomCounts::default(), Instant::now(), UserId::parse("ann").unwrap());
        assert!(!counts.take(&ann, now));
        assert!(counts.note(&ann, limits::USER_ROOMS - 5, now));
        assert!(counts.take(&ann, now) && counts.take(&ann, now) && !counts.take(&ann, now));
        assert!(counts.note(&ann, limits::USER_ROOMS - 3, now));
        assert!(!counts.take(&ann, now + FRESH), "the count is too old");
        assert!(counts.note(&ann, limits::USER_ROOMS - 1, now) && !counts.take(&ann, now));
        assert!(!counts.note(&ann, limits::USER_ROOMS, now));
    }
}
