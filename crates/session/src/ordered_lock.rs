//! A mutex that knows its place in the order in which locks are acquired, and checks it in builds with debug
//! assertions.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mutex with a rank. While a thread holds it, the thread may acquire only locks of a higher rank.
#[derive(Debug, Default)]
pub(crate) struct OrderedMutex<T, const RANK: u8>(Mutex<T>);

impl<T, const RANK: u8> OrderedMutex<T, RANK> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits for the lock. A poisoned lock is used as it is, because every change keeps the data consistent.
    pub(crate) fn lock(&self) -> OrderedGuard<'_, T> {
        #[cfg(debug_assertions)]
        let held = held::Held::new(RANK);
        OrderedGuard {
            guard: self.0.lock().unwrap_or_else(PoisonError::into_inner),
            #[cfg(debug_assertions)]
            _held: held,
        }
    }
}

/// A guard that holds the lock until it is dropped.
#[derive(Debug)]
pub(crate) struct OrderedGuard<'a, T> {
    guard: MutexGuard<'a, T>,
    #[cfg(debug_assertions)]
    _held: held::Held,
}

impl<T> Deref for OrderedGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for OrderedGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

#[cfg(debug_assertions)]
mod held {
    use std::cell::RefCell;

    thread_local! {
        /// The ranks of the locks that this thread holds, in the order in which it acquired them.
        static RANKS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }

    /// An entry for one lock that this thread holds.
    #[derive(Debug)]
    pub(super) struct Held(u8);

    impl Held {
        pub(super) fn new(rank: u8) -> Self {
            RANKS.with_borrow_mut(|ranks| {
                let highest = ranks.iter().max();
                assert!(highest.is_none_or(|highest| *highest < rank), "lock {rank} is taken while {ranks:?} are held");
                ranks.push(rank);
            });
            Self(rank)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            RANKS.with_borrow_mut(|ranks| {
                if let Some(place) = ranks.iter().rposition(|rank| *rank == self.0) {
                    ranks.remove(place);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_taken_in_the_order_of_their_ranks() {
        let (low, high) = (OrderedMutex::<u8, 1>::new(1), OrderedMutex::<u8, 2>::new(2));
        let first = low.lock();
        assert_eq!(*first + *high.lock(), 3);
        drop(first);
        let held = high.lock();
        drop(held);
        drop(low.lock());
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "lock 1 is taken while [2] are held")]
    fn a_lock_out_of_order_is_a_panic_in_a_test() {
        let (low, high) = (OrderedMutex::<u8, 1>::new(1), OrderedMutex::<u8, 2>::new(2));
        let _held = high.lock();
        drop(low.lock());
    }
}
