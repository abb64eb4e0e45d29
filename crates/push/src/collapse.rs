//! What waits for whom, and when it is due. Pure.
//!
//! The first message of a room is due at once. What comes for the same user and room within the time after a
//! notification waits for its end, and becomes one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use sendpi_bus::push_stream::JobPlace;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Millis, RoomId, UserId};
use tokio::time::Instant;

/// Who gets a notification of which room.
pub(crate) type Target = (RoomId, UserId);

/// A range of a room's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// How many of them a user wants.
    pub(crate) count: u64,
}

/// What one job has for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) job: JobPlace,
    pub(crate) range: EventRange,
    /// How often the webhook refused it.
    pub(crate) refusals: u32,
    /// How often the job was fetched. More than once means that an earlier worker may have posted it.
    pub(crate) deliveries: u64,
}

/// What is posted as one: what some jobs have for one user of one room. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) parts: Vec<Part>,
    /// How often the webhook, or the store, did not answer for it.
    pub(crate) tries: u32,
    /// Whether it was the webhook, for what is a part of it since then.
    pub(crate) is_unanswered: bool,
}

/// Returns the range of some parts. `None` if there are none.
pub(crate) fn range_of(parts: &[Part]) -> Option<EventRange> {
    parts.iter().map(|part| part.range).reduce(|one, other| EventRange {
        first: one.first.min(other.first),
        last: one.last.max(other.last),
        count: one.count + other.count,
    })
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
        let after = if mutant(Mutant::CollapseOff) { Duration::ZERO } else { after };
        Self { after, ..Self::default() }
    }

    /// Returns for how many users something waits or is under way.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.under_way.len()
    }

    /// Adds what a job has for a user.
    pub(crate) fn add(&mut self, target: Target, part: Part, now: Instant) {
        self.forget_quiet(now);
        let at = self.quiet.get(&target).copied().unwrap_or(now);
        self.put(target, Due { parts: vec![part], tries: 0, is_unanswered: false }, at);
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
            Some((_, waiting)) => {
                waiting.parts.extend(due.parts);
                waiting.tries = waiting.tries.max(due.tries);
                waiting.is_unanswered |= due.is_unanswered;
            }
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

    /// Takes what jobs from before `before` have for some users, whether it is due or not. Without `all` only for those
    /// for whom the webhook did not answer.
    pub(crate) fn take_older(&mut self, before: Millis, all: bool, most: usize) -> Vec<(Target, Vec<Part>)> {
        let is_old = |part: &Part| part.job.published < before;
        let waiting = self.waiting.iter().filter(|(target, _)| !self.under_way.contains(*target));
        let old = waiting.filter(|(_, (_, due))| (all || due.is_unanswered) && due.parts.iter().any(is_old));
        let targets: Vec<Target> = old.map(|(target, _)| target.clone()).take(most).collect();
        let mut taken = Vec::with_capacity(targets.len());
        for target in targets {
            let Some((at, due)) = self.waiting.get_mut(&target) else { continue };
            let parts = due.parts.extract_if(.., |part| is_old(part)).collect();
            if due.parts.is_empty() {
                self.order.remove(&(*at, target.clone()));
                self.waiting.remove(&target);
            }
            self.under_way.insert(target.clone());
            taken.push((target, parts));
        }
        taken
    }

    /// Notes that something is settled.
    pub(crate) fn settled(&mut self, target: &Target) {
        self.under_way.remove(target);
    }

    /// Notes that a notification was posted.
    pub(crate) fn posted(&mut self, target: &Target, now: Instant) {
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

    fn part(first: u64, last: u64, job: u64) -> Part {
        let range = EventRange { first, last, count: last - first + 1 };
        Part { job: JobPlace { published: Millis(job), seq: job }, range, refusals: 0, deliveries: 1 }
    }

    fn due<const N: usize>(parts: [Part; N]) -> Due {
        Due { parts: parts.to_vec(), tries: 0, is_unanswered: false }
    }

    #[test]
    fn the_first_is_due_at_once_and_what_follows_comes_as_one() {
        let (mut collapse, now) = (Collapse::new(AFTER), Instant::now());
        collapse.add(target("bob"), part(1, 1, 1), now);
        assert_eq!(collapse.next(now), Some((target("bob"), due([part(1, 1, 1)]))));
        collapse.add(target("bob"), part(2, 3, 2), now);
        assert_eq!(collapse.next(now), None, "one is under way");
        collapse.posted(&target("bob"), now);
        collapse.settled(&target("bob"));
        collapse.add(target("bob"), part(4, 4, 3), now + AFTER / 2);
        collapse.add(target("eve"), part(4, 4, 3), now + AFTER / 2);
        assert_eq!(collapse.next(now + AFTER / 2), Some((target("eve"), due([part(4, 4, 3)]))));
        assert_eq!((collapse.next(now + AFTER / 2), collapse.next_at()), (None, Some(now + AFTER)));
        assert_eq!(collapse.next(now + AFTER), Some((target("bob"), due([part(2, 3, 2), part(4, 4, 3)]))));
        assert_eq!(collapse.len(), 2);
        let range = range_of(&[part(4, 4, 3), part(2, 3, 2)]);
        assert_eq!((range, range_of(&[])), (Some(EventRange { first: 2, last: 4, count: 3 }), None));
    }

    #[test]
    fn of_what_waits_the_old_can_be_taken() {
        let (mut collapse, now) = (Collapse::new(AFTER), Instant::now());
        for (user, job) in [("bob", 1), ("bob", 5), ("eve", 2), ("joe", 6), ("kim", 3)] {
            collapse.add(target(user), part(job, job, job), now);
        }
        let (kim, due_for_kim) = loop {
            let (taken, due) = collapse.next(now).unwrap();
            if taken == target("kim") {
                break (taken, due);
            }
            collapse.put_back(taken, due, now + AFTER);
        };
        assert_eq!(collapse.take_older(Millis(5), false, 10), []);
        let mut old = collapse.take_older(Millis(5), true, 10);
        old.sort_by_key(|(_, parts)| parts[0].job.seq);
        assert_eq!(old, [(target("bob"), vec![part(1, 1, 1)]), (target("eve"), vec![part(2, 2, 2)])]);
        collapse.put_back(kim, Due { is_unanswered: true, ..due_for_kim }, now + AFTER);
        assert_eq!(collapse.take_older(Millis(5), false, 10), [(target("kim"), vec![part(3, 3, 3)])]);
        old.iter().for_each(|(target, _)| collapse.settled(target));
        collapse.settled(&target("kim"));
        assert_eq!(collapse.next(now + AFTER), Some((target("bob"), due([part(5, 5, 5)]))));
        assert_eq!(collapse.next(now + AFTER), Some((target("joe"), due([part(6, 6, 6)]))));
        assert_eq!(collapse.next(now + AFTER), None);
    }

    #[test]
    fn what_was_not_posted_makes_nobody_wait_and_is_forgotten() {
        let (mut collapse, now) = (Collapse::new(AFTER), Instant::now());
        collapse.add(target("bob"), part(1, 1, 1), now);
        collapse.next(now);
        collapse.settled(&target("bob"));
        collapse.add(target("bob"), part(2, 2, 2), now);
        assert!(collapse.next(now).is_some());
        collapse.posted(&target("bob"), now);
        collapse.settled(&target("bob"));
        collapse.add(target("bob"), part(3, 3, 3), now + 2 * AFTER);
        assert_eq!((collapse.quiet.len(), collapse.quiet_order.len()), (0, 0));
        assert!(collapse.next(now + 2 * AFTER).is_some());
    }

    #[test]
    fn what_is_put_back_waits_and_takes_in_what_came_meanwhile_which_was_not_refused() {
        let (mut collapse, now) = (Collapse::new(AFTER), Instant::now());
        collapse.add(target("bob"), part(1, 1, 1), now);
        let (target, _) = collapse.next(now).unwrap();
        let refused = Part { refusals: 1, ..part(1, 1, 1) };
        collapse.put_back(target.clone(), due([refused.clone()]), now + AFTER);
        collapse.add(target.clone(), part(2, 2, 2), now);
        assert_eq!(collapse.next(now), None);
        assert_eq!(collapse.next(now + AFTER), Some((target, due([refused, part(2, 2, 2)]))));
    }
}
