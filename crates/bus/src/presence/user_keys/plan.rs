//! The plan of the user keys: what each key should be, and which write is due. It is pure.

use std::collections::{HashMap, VecDeque};

use sendpi_model::UserId;
use tokio::sync::oneshot;

use crate::Revision;

/// One write of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyWrite {
    pub(super) user: UserId,
    /// The sign-in number to put. `None` if the key is to be purged.
    pub(super) number: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct KeyPlan {
    last_number: u64,
    keys: HashMap<UserId, PlannedKey>,
    /// The users whose keys are due for a write, each one once.
    due: VecDeque<UserId>,
}

#[derive(Debug, Default)]
struct PlannedKey {
    /// The sign-in number that the key should hold. `None` if there should be no key.
    number: Option<u64>,
    state: WriteState,
    /// Those who wait for the present number to be written.
    waiting: Vec<oneshot::Sender<Revision>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum WriteState {
    /// The key is as it should be.
    #[default]
    Written,
    /// The key is in `due`.
    Due,
    /// A write is under way. `stale` means that the key must be written again after it.
    Writing { stale: bool },
}

impl KeyPlan {
    pub(super) fn signed_in(&mut self, user: &UserId, tell: oneshot::Sender<Revision>) -> u64 {
        self.last_number += 1;
        let key = self.keys.entry(user.clone()).or_default();
        key.number = Some(self.last_number);
        key.waiting.push(tell);
        self.make_due(user);
        self.last_number
    }

    /// Drops `tell` if the user has no key.
    pub(super) fn put_again(&mut self, user: &UserId, tell: oneshot::Sender<Revision>) {
        if let Some(key) = self.keys.get_mut(user).filter(|key| key.number.is_some()) {
            key.waiting.push(tell);
            self.make_due(user);
        }
    }

    pub(super) fn signed_out(&mut self, user: &UserId) {
        if let Some(key) = self.keys.get_mut(user) {
            key.number = None;
            key.waiting.clear();
            self.make_due(user);
        }
    }

    pub(super) fn all_again(&mut self) -> Vec<oneshot::Receiver<Revision>> {
        let users: Vec<UserId> = self.keys.iter().filter(|(_, k)| k.number.is_some()).map(|(u, _)| u.clone()).collect();
        let mut waits = Vec::with_capacity(users.len());
        for user in users {
            if let Some(key) = self.keys.get_mut(&user) {
                let (tell, wait) = oneshot::channel();
                key.waiting.push(tell);
                waits.push(wait);
            }
            self.make_due(&user);
        }
        waits
    }

    /// Plans the purge of the keys of those users who have no session here. A key whose write is due or under way is
    /// not touched.
    pub(super) fn purge_strays(&mut self, users: Vec<UserId>) {
        for user in users {
            if !self.keys.contains_key(&user) {
                self.keys.insert(user.clone(), PlannedKey::default());
                self.make_due(&user);
            }
        }
    }

    fn make_due(&mut self, user: &UserId) {
        let Some(key) = self.keys.get_mut(user) else { return };
        match &mut key.state {
            WriteState::Written => {
                key.state = WriteState::Due;
                self.due.push_back(user.clone());
            }
            WriteState::Due => {}
            WriteState::Writing { stale } => *stale = true,
        }
    }

    pub(super) fn next_job(&mut self) -> Option<KeyWrite> {
        let user = self.due.pop_front()?;
        let key = self.keys.get_mut(&user)?;
        key.state = WriteState::Writing { stale: false };
        Some(KeyWrite { number: key.number, user })
    }

    /// Notes that a write has ended. `written` is the key's revision if the server has confirmed it.
    pub(super) fn done(&mut self, job: &KeyWrite, written: Option<Revision>) {
        let Some(key) = self.keys.get_mut(&job.user) else { return };
        let Some(revision) = written.filter(|_| key.state == WriteState::Writing { stale: false }) else {
            key.state = WriteState::Due;
            self.due.push_back(job.user.clone());
            return;
        };
        key.state = WriteState::Written;
        for tell in key.waiting.drain(..) {
            // A waiter that has dropped its receiver needs no answer.
            let _ = tell.send(revision);
        }
        key.waiting.shrink_to_fit();
        if key.number.is_none() {
            self.keys.remove(&job.user);
        }
    }

    pub(super) fn unwritten(&self) -> usize {
        self.keys.values().filter(|key| key.state != WriteState::Written).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> UserId {
        UserId::parse("ann").unwrap()
    }

    fn sign_in(core: &mut KeyPlan) -> (u64, oneshot::Receiver<Revision>) {
        let (tell, wait) = oneshot::channel();
        (core.signed_in(&ann(), tell), wait)
    }

    #[test]
    fn the_next_write_of_a_key_waits_for_the_answer_to_the_last() {
        let mut core = KeyPlan::default();
        let (first, mut wait) = sign_in(&mut core);
        let job = core.next_job().unwrap();
        assert_eq!(job.number, Some(first));
        core.signed_out(&ann());
        let (second, mut again) = sign_in(&mut core);
        assert!(second > first);
        assert_eq!(core.next_job(), None);
        core.done(&job, Some(7));
        assert!(wait.try_recv().is_err() && again.try_recv().is_err(), "the write had the former number");
        let job = core.next_job().unwrap();
        assert_eq!(job.number, Some(second));
        core.done(&job, Some(7));
        assert!(again.try_recv().is_ok());
    }

    #[test]
    fn an_unknown_outcome_writes_the_present_state_again() {
        let mut core = KeyPlan::default();
        let (number, mut wait) = sign_in(&mut core);
        let job = core.next_job().unwrap();
        core.done(&job, None);
        assert!(wait.try_recv().is_err());
        assert_eq!(core.next_job().unwrap().number, Some(number));
    }

    #[test]
    fn a_purged_key_is_forgotten_and_numbers_rise_all_the_same() {
        let mut core = KeyPlan::default();
        let (first, _wait) = sign_in(&mut core);
        let job = core.next_job().unwrap();
        core.done(&job, Some(7));
        core.signed_out(&ann());
        let job = core.next_job().unwrap();
        assert_eq!(job.number, None);
        core.done(&job, Some(7));
        assert!(core.keys.is_empty());
        assert!(sign_in(&mut core).0 > first);
    }

    #[test]
    fn a_key_of_a_user_who_is_not_here_is_purged_and_one_of_a_user_who_is_here_stays() {
        let mut core = KeyPlan::default();
        let (number, _wait) = sign_in(&mut core);
        let job = core.next_job().unwrap();
        let eve = UserId::parse("eve").unwrap();
        core.purge_strays(vec![ann(), eve.clone()]);
        core.done(&job, Some(7));
        let purge = core.next_job().unwrap();
        assert_eq!(purge, KeyWrite { user: eve.clone(), number: None });
        // She signs in meanwhile. Her key is put after the purge.
        let (tell, _wait) = oneshot::channel();
        let later = core.signed_in(&eve, tell);
        assert_eq!(core.next_job(), None);
        core.done(&purge, Some(8));
        assert_eq!(core.next_job(), Some(KeyWrite { user: eve, number: Some(later) }));
        assert_eq!((core.next_job(), core.keys[&ann()].number), (None, Some(number)));
    }

    #[test]
    fn who_asks_during_a_write_waits_for_the_next_one() {
        let mut core = KeyPlan::default();
        let (number, mut first) = sign_in(&mut core);
        let job = core.next_job().unwrap();
        let (tell, mut second) = oneshot::channel();
        core.put_again(&ann(), tell);
        core.done(&job, Some(7));
        assert!(first.try_recv().is_err() && second.try_recv().is_err());
        let job = core.next_job().unwrap();
        assert_eq!(job.number, Some(number));
        core.done(&job, Some(8));
        assert_eq!((first.try_recv(), second.try_recv()), (Ok(8), Ok(8)));
        core.signed_out(&ann());
        let (tell, mut late) = oneshot::channel();
        core.put_again(&ann(), tell);
        assert!(late.try_recv().is_err());
    }

    #[test]
    fn all_keys_are_put_again_after_a_loss() {
        let mut core = KeyPlan::default();
        let (number, _wait) = sign_in(&mut core);
        let job = core.next_job().unwrap();
        core.done(&job, Some(7));
        let mut waits = core.all_again();
        let job = core.next_job().unwrap();
        assert_eq!(job.number, Some(number));
        core.done(&job, Some(7));
        assert!(waits.iter_mut().all(|wait| wait.try_recv().is_ok()));
    }
}
