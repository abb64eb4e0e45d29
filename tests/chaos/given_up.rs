//! Nodes that others take for dead, by what workers log.

use std::collections::BTreeSet;

/// What a worker logs when it gives a node up, and what a node logs at its start. Both name the node.
const GIVEN_UP: &str = "it counts as unreachable";
const UP: &str = "a node is up";

/// Returns how often a node that is up was given up. Links to one that was killed are offered until its key is gone.
pub(crate) fn times_given_up(printed: &[String]) -> usize {
    let nodes = |text| {
        let lines = printed.iter().filter(move |line| line.contains(text));
        lines.filter_map(|line| line.split_once("node=")?.1.split_whitespace().next())
    };
    let up: BTreeSet<&str> = nodes(UP).collect();
    nodes(GIVEN_UP).filter(|node| up.contains(node)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_up_counts_as_given_up() {
        let printed = [
            "INFO a node is up node=n1 address=127.0.0.1:1",
            "INFO a node is silent: it counts as unreachable node=n1",
            "INFO a node is silent: it counts as unreachable node=n0",
        ];
        assert_eq!(times_given_up(&printed.map(str::to_owned)), 1);
    }
}
