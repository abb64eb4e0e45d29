//! Weighted rendezvous hashing: which of several nodes something belongs to. Everybody who knows the same nodes finds
//! the same one, and a node that comes or goes moves only what it gets or had.
//!
//! A node's score for a key is −weight ÷ ln(h), with a hash h of both between 0 and 1; the highest score wins (Thaler
//! and Ravishankar 1998; with weights: Schindelhauer and Schomaker 2005).

use crate::{NodeId, fnv1a_64};

/// Returns the node with the highest score for `key`. A node whose weight is 0 is never chosen. `None` if there is no
/// other.
#[must_use]
pub fn highest<'a>(key: &str, nodes: impl IntoIterator<Item = (&'a NodeId, u16)>) -> Option<&'a NodeId> {
    let weighed = nodes.into_iter().filter(|(_, weight)| *weight > 0);
    let scored = weighed.map(|(node, weight)| (score(key, node, weight), node));
    scored.max_by(|(a, first), (b, second)| a.total_cmp(b).then_with(|| second.cmp(first))).map(|(_, node)| node)
}

fn score(key: &str, node: &NodeId, weight: u16) -> f64 {
    let bytes = node.as_str().bytes().chain([0xff]).chain(key.bytes());
    // The upper 53 bits, which is what a float holds, and never 0 or 1.
    let unit = ((mix(fnv1a_64(bytes)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(weight) / unit.ln()
}

/// Spreads every bit of a hash over all of it: the finalizer of MurmurHash3 with the constants of SplitMix64
/// (<https://prng.di.unimi.it/splitmix64.c>). The last bytes change only the lower bits of an FNV-1a hash.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn nodes(count: usize) -> Vec<(NodeId, u16)> {
        (0..count).map(|n| (NodeId::parse(&format!("n{:016x}", mix(n as u64 + 1))).unwrap(), 1)).collect()
    }

    fn owners(keys: usize, nodes: &[(NodeId, u16)]) -> Vec<NodeId> {
        let refs = || nodes.iter().map(|(node, weight)| (node, *weight));
        (0..keys).map(|key| highest(&key.to_string(), refs()).unwrap().clone()).collect()
    }

    fn shares(owners: &[NodeId]) -> HashMap<&NodeId, f64> {
        let mut shares = HashMap::new();
        owners.iter().for_each(|owner| *shares.entry(owner).or_default() += 1.0);
        shares
    }

    #[test]
    fn who_comes_gets_its_share_and_nothing_else_moves() {
        for (keys, count) in [(64, 2), (256, 3), (10_000, 3), (10_000, 20)] {
            let mut all = nodes(count + 1);
            let after = owners(keys, &all);
            let new = all.pop().unwrap().0;
            let before = owners(keys, &all);
            let moved: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).collect();
            assert!(moved.iter().all(|(_, now)| **now == new), "only to the one that came");
            assert_eq!(moved.len(), after.iter().filter(|owner| **owner == new).count());
            // A share is within four standard deviations of the mean.
            for (owners, count) in [(&before, count), (&after, count + 1)] {
                let mean = keys as f64 / count as f64;
                for share in shares(owners).values() {
                    assert!((share - mean).abs() <= 4.0 * mean.sqrt(), "{share} of {mean}");
                }
            }
        }
    }

    #[test]
    fn a_share_follows_the_weight_and_more_weight_takes_from_all_others() {
        let mut all = nodes(4);
        let before = owners(10_000, &all);
        all[0].1 = 3;
        let after = owners(10_000, &all);
        let share = shares(&after)[&all[0].0];
        assert!((share - 5_000.0).abs() < 4.0 * 5_000_f64.sqrt(), "{share}");
        assert!(before.iter().zip(&after).all(|(was, is)| was == is || *is == all[0].0));
    }

    #[test]
    fn a_node_without_weight_gets_nothing() {
        let mut all = nodes(2);
        all[1].1 = 0;
        assert!(owners(100, &all).iter().all(|owner| *owner == all[0].0));
        all[0].1 = 0;
        assert_eq!(highest("1", all.iter().map(|(node, weight)| (node, *weight))), None);
    }

    #[test]
    fn the_choice_is_the_same_in_every_release() {
        let all = nodes(3);
        let chosen: String = owners(24, &all)
            .iter()
            .map(|o| char::from(b'0' + all.iter().position(|(n, _)| n == o).unwrap() as u8))
            .collect();
        assert_eq!(chosen, "120002201221002210020001");
    }
}
