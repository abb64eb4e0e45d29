//! The void rule, which determines which rows of a timeline count.
//!
//! The newest start names the one that it continues, and so on. For each seq, take the first start of this chain,
//! from the newest, that is at or before the seq. Only the row of this start's epoch counts. Rows of other epochs
//! and starts outside the chain are void.

use sendpi_model::faults::{Mutant, mutant};

use crate::{EventRow, Start};

/// The starts of a room that are in the chain, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EpochChain(Vec<Start>);

impl EpochChain {
    /// Returns the chain of a room's starts, which may be in any order.
    #[must_use]
    pub fn of(starts: &[Start]) -> Self {
        let mut chain = Vec::new();
        if mutant(Mutant::StartsChainOff) {
            chain.extend(starts);
            chain.sort_by_key(|start: &Start| std::cmp::Reverse(start.epoch));
            return Self(chain);
        }
        let mut next = starts.iter().max_by_key(|start| start.epoch);
        while let Some(start) = next {
            chain.push(*start);
            // A start continues an older one. Anything else is damage, and ends the chain instead of causing a loop.
            next = start
                .continues
                .filter(|older| *older < start.epoch)
                .and_then(|older| starts.iter().find(|s| s.epoch == older));
        }
        Self(chain)
    }

    /// Adds the start of a new epoch, which continues one of the chain.
    pub fn begin(&mut self, start: Start) {
        self.0.insert(0, start);
        *self = Self::of(&self.0);
    }

    /// Returns whether the oldest start of the chain continues none, so that there is nothing before it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.last().is_some_and(|start| start.continues.is_none())
    }

    /// Returns the newest start.
    #[must_use]
    pub fn newest(&self) -> Option<Start> {
        self.0.first().copied()
    }

    /// Returns the epoch that a start with this next seq continues: the newest in the chain that has a seq of its own
    /// below it. The starts in between have none any more, so they are left out of the chain, and nothing depends on
    /// them.
    #[must_use]
    pub fn continued_at(&self, next_seq: u64) -> Option<u64> {
        self.0.iter().find(|start| start.next_seq < next_seq).map(|start| start.epoch)
    }

    /// Returns whether the start of `epoch` is in the chain.
    #[must_use]
    pub fn has(&self, epoch: u64) -> bool {
        self.0.iter().any(|start| start.epoch == epoch)
    }

    /// Returns the epoch whose row counts at `seq`. `None` before the first start.
    #[must_use]
    pub fn epoch_of(&self, seq: u64) -> Option<u64> {
        self.0.iter().find(|start| start.next_seq <= seq).map(|start| start.epoch)
    }

    /// Returns whether the row of `epoch` at `seq` counts.
    #[must_use]
    pub fn counts(&self, seq: u64, epoch: u64) -> bool {
        self.epoch_of(seq) == Some(epoch)
    }

    /// Returns the rows that count.
    #[must_use]
    pub fn filter(&self, rows: Vec<EventRow>) -> Vec<EventRow> {
        rows.into_iter().filter(|row| self.counts(row.event.head.seq, row.epoch)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(epoch: u64, next_seq: u64, continues: Option<u64>) -> Start {
        Start { epoch, next_seq, continues }
    }

    #[test]
    fn each_seq_belongs_to_the_newest_start_at_or_before_it() {
        let chain = EpochChain::of(&[start(1, 1, None), start(3, 11, Some(1)), start(2, 6, Some(1))]);
        // Epoch 2 began at 6, but epoch 3 did not see it. All of epoch 2 is void.
        assert!(chain.counts(5, 1) && chain.counts(10, 1) && chain.counts(11, 3));
        assert!(!chain.counts(7, 2) && !chain.counts(11, 1) && !chain.counts(5, 3));
    }

    #[test]
    fn a_start_further_back_than_an_older_one_voids_what_came_between() {
        let chain = EpochChain::of(&[start(1, 1, None), start(2, 8, Some(1)), start(3, 5, Some(2))]);
        assert!(chain.counts(4, 1) && chain.counts(5, 3) && chain.counts(9, 3));
        assert!(!chain.counts(8, 2) && !chain.counts(6, 1));
    }

    #[test]
    fn a_new_start_leaves_out_those_that_have_no_seq_of_their_own() {
        let mut starts = vec![start(1, 1, None), start(2, 8, Some(1)), start(3, 8, Some(2)), start(4, 12, Some(3))];
        let chain = EpochChain::of(&starts);
        assert_eq!(
            [1, 2, 8, 9, 12, 13].map(|next| chain.continued_at(next)),
            [None, Some(1), Some(1), Some(3), Some(3), Some(4)]
        );
        for next_seq in 1..=14 {
            let plain = start(5, next_seq, Some(4));
            let short = start(5, next_seq, chain.continued_at(next_seq));
            let (mut with, mut without) = (starts.clone(), starts.clone());
            with.push(plain);
            without.push(short);
            // The rule says the same of each row, also once the starts outside the chain are gone.
            let (with, kept) = (EpochChain::of(&with), EpochChain::of(&without));
            without.retain(|start| kept.has(start.epoch));
            let swept = EpochChain::of(&without);
            for seq in 1..=20 {
                for epoch in 1..=5 {
                    assert_eq!(with.counts(seq, epoch), swept.counts(seq, epoch), "{next_seq}: {seq} of {epoch}");
                }
            }
        }
        // A start that a paused owner writes late is in no chain.
        starts.push(start(6, 9, chain.continued_at(9)));
        starts.push(start(5, 3, Some(1)));
        assert!(!EpochChain::of(&starts).counts(4, 5));
    }

    #[test]
    fn a_room_without_starts_has_no_rows_that_count() {
        assert!(!EpochChain::of(&[]).counts(1, 1));
    }

    #[test]
    fn damage_ends_the_chain_instead_of_looping() {
        let chain = EpochChain::of(&[start(2, 1, Some(2))]);
        assert_eq!(chain.newest(), Some(start(2, 1, Some(2))));
    }
}
