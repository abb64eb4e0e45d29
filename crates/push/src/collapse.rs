//! What waits for whom, and when it is due. Pure.
//!
//! The first message of a room is due at once. What comes for the same user and room within the time after a
//! notification waits for its end, and becomes one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use sendpi_model::{Millis, RoomId, UserId};
use tokio::time::Instant;

/// The number of a job that was fetched.
pub(crate) type JobNumber = u64;

/// Who gets a notification of which room.
pub(crate) type Target = (RoomId, UserId);

/// A range of a room's events that a user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) count: u64,
    /// When the oldest job of it was published.
    pub(crate) since: Millis,
    /// The jobs of which it is a part.
    pub(crate) jobs: Vec<JobNumber>,
    /// How often the webhook refused it.
    pub(crate) refusals: u32,
    /// How often the webhook did not answer for it.
    pub(crate) tries: u32,
    /// Whether an earlier worker may have posted it.
    pub(crate) may_be_posted: bool,
}

impl Due {
    fn join(&mut self, other: Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.count += other.count;
        self.since = self.since.min(other.since);
        self.jobs.extend(other.jobs);
        self.refusals = self.refusals.max(other.refusals);
        self.tries = self.tries.max(other.tries);
        self.may_be_posted |= other.may_be_posted;
    }
}

/// What waits.
#[derive(Debug, Default)]
pub(crate) struct Collapse {
    after: Duration,
    waiting: HashMap<Target, (Instant, Due)>,
    order: BTreeSet<(Instant, Target)>,
    under_way: HashSet<Target>,
    /// Until when further messages of those who were notified wait.
    quiet: HashMap<Target, Instant>,
    quiet_order: BTreeSet<(Instant, Target)>,
}

impl Collapse {
    pub(crate) fn new(after: Duration) -> Self {
        Self { after, ..Self::default() }
    }

    /// Returns for how many users something waits or is under way.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.under_way.len()
    }

    /// Adds what a job has for a user.
    pub(crate) fn add(&mut self, target: Target, due: Due, now: Instant) {
        self.forget_quiet(now);
        let at = self.quiet.get(&target).copied().unwrap_or(now);
        self.put(target, due, at);
    }

    /// Puts something back that could not be posted now.
    pub(crate) fn put_back(&mut self, target: Target, due: Due, at: Instant) {
        self.under_way.remove(&target);
        self.delay(&target, at);
        self.put(target, due, at);
    }

    /// Lets what waits for somebody wait until `at` at least.
    fn delay(&mut self, target: &Target, at: Instant) {
        if let Some((before, _)) = self.waiting.get_mut(target).filter(|(before, _)| *before < at) {
            self.order.remove(&(*before, target.clone()));
            *before = at;
            self.order.insert((at, target.clone()));
        }
    }

    fn put(&mut self, target: Target, due: Due, at: Instant) {
        match self.waiting.get_mut(&target) {
            Some((_, waiting)) => waiting.join(due),
            None => {
                self.order.insert((at, target.clone()));
                self.waiting.insert(target, (at, due));
            }
        }
    }

    /// Returns when the next one is due.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.order.iter().find(|(_, target)| !self.under_way.contains(target)).map(|(at, _)| *at)
    }

    /// Takes the next one that is due. Of each user and room one is under way at a time.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(Target, Due)> {
        let (at, target) = self.order.iter().find(|(_, target)| !self.under_way.contains(target))?.clone();
        if at > now {
            return None;
        }
        self.order.remove(&(at, target.clone()));
        let (_, due) = self.waiting.remove(&target)?;
        self.under_way.insert(target.clone());
        Some((target, due))
    }

    /// Notes that something is settled, and whether a notification was posted for it.
    pub(crate) fn settled(&mut self, target: &Target, posted: bool, now: Instant) {
        self.under_way.remove(target);
        if !posted {
            return;
        }
        let until = now + self.after;
        if let Some(before) = self.quiet.insert(target.clone(), until) {
            self.quiet_order.remove(&(before, target.clone()));
        }
        self.quiet_order.insert((until, target.clone()));
        // What came while it was under way waits as well.
        self.delay(target, until);
    }

    fn forget_quiet(&mut self, now: Instant) {
        while let Some((until, target)) = self.quiet_order.first().filter(|(until, _)| *until <= now).cloned() {
            self.quiet_order.remove(&(until, target.clone()));
            self.quiet.remove(&target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(10);

    fn target(user: &str) -> Target {
        (RoomId::parse("r").unwrap(), UserId::parse(user).unwrap())
    }

    fn due(first: u64, last: u64, job: JobNumber) -> Due {
        Due {
            first,
            last,
            count: last - first + 1,
            since: Millis(job),
            jobs: vec![job],
            refusals: 0,
            tries: 0,
            may_be_posted: false,
        }
    }

    #[test]
    fn the_first_is_due_at_once_and_what_follows_comes_as_one() {
        let (mut collapse, now) = (Collapse::new(AFTER), Instant::now());
        collapse.add(target("bob"), due(1, 1, 1), now);
        assert_eq!(collapse.next(now), Some((target("bob"), due(1, 1, 1))));
        collapse.add(target("bob"), due(2, 3, 2), now);
        assert_eq!(collapse.next(now), None, "one is under way");
        collapse.settled(&target("bob"), true, now);
        collapse.add(target("bob"), due(4, 4, 3), now + AFTER / 2);
        collapse.add(target("eve"), due(4, 4, 3), now + AFTER / 2);
        assert_eq!(collapse.next(now + AFTER / 2), Some((target("eve"), due(4, 4, 3))));
        assert_eq!((collapse.next(now + AFTER / 2), collapse.next_at()), (None, Some(now + AFTER)));
        let joined = Due { count: 3, since: Millis(2), jobs: vec![2, 3], ..due(2, 4, 2) };
        assert_eq!(collapse.next(now + AFTER), Some((target("bob"), joined)));
        assert_eq!(collapse.len(), 2);
    }

    #[test]
    fn what_was_not_posted_makes_nobody_wait_and_is_forgotten() {
        let (mut collapse, now) = (Collapse::new(AFTER), Instant::now());
        collapse.add(target("bob"), due(1, 1, 1), now);
        collapse.next(now);
        collapse.settled(&target("bob"), false, now);
        collapse.add(target("bob"), due(2, 2, 2), now);
        assert!(collapse.next(now).is_some());
        collapse.settled(&target("bob"), true, now);
        collapse.add(target("bob"), due(3, 3, 3), now + 2 * AFTER);
        assert_eq!((collapse.quiet.len(), collapse.quiet_order.len()), (0, 0));
        assert!(collapse.next(now + 2 * AFTER).is_some());
    }

    #[test]
    fn what_is_put_back_waits_and_takes_in_what_came_meanwhile() {
        let (mut collapse, now) = (Collapse::new(AFTER), Instant::now());
        collapse.add(target("bob"), due(1, 1, 1), now);
        let (target, first) = collapse.next(now).unwrap();
        collapse.put_back(target.clone(), Due { refusals: 1, ..first }, now + AFTER);
        collapse.add(target, due(2, 2, 2), now);
        assert_eq!(collapse.next(now), None);
        let (_, both) = collapse.next(now + AFTER).unwrap();
        assert_eq!((both.first, both.last, both.refusals, both.jobs), (1, 2, 1, vec![1, 2]));
    }
}
