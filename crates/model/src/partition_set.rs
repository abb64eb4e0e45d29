//! Sets of partitions, as operators write them: `0-15,20`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Partition;

/// A set of partitions. Its text is numbers and ranges with commas: `0-15,20`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PartitionSet(BTreeSet<Partition>);

/// The error if a text names no set of partitions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no partition and no range of partitions; write numbers and ranges with commas, such as 0-15,20")]
pub struct PartitionSetError(String);

impl PartitionSet {
    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether `partition` is in the set.
    #[must_use]
    pub fn contains(&self, partition: Partition) -> bool {
        self.0.contains(&partition)
    }

    /// Returns the partitions, in order.
    pub fn iter(&self) -> impl Iterator<Item = Partition> {
        self.0.iter().copied()
    }
}

impl FromIterator<Partition> for PartitionSet {
    fn from_iter<I: IntoIterator<Item = Partition>>(partitions: I) -> Self {
        Self(partitions.into_iter().collect())
    }
}

impl FromStr for PartitionSet {
    type Err = PartitionSetError;

    fn from_str(text: &str) -> Result<Self, PartitionSetError> {
        let mut set = BTreeSet::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let wrong = || PartitionSetError(part.to_owned());
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<u16>().map_err(|_| wrong());
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(wrong());
            }
            set.extend((first..=last).map(Partition));
        }
        Ok(Self(set))
    }
}

impl fmt::Display for PartitionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().map(|partition| partition.0).peekable();
        let mut comma = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if(|next| *next == last + 1) {
                last = next;
            }
            if first == last {
                write!(f, "{comma}{first}")?
            } else {
                write!(f, "{comma}{first}-{last}")?
            }
            comma = ",";
        }
        Ok(())
    }
}

impl TryFrom<String> for PartitionSet {
    type Error = PartitionSetError;

    fn try_from(text: String) -> Result<Self, PartitionSetError> {
        text.parse()
    }
}

impl From<PartitionSet> for String {
    fn from(set: PartitionSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_written_as_it_is_read() {
        for (text, written) in [("0-15,20", "0-15,20"), ("3, 1,2", "1-3"), ("7-7", "7"), ("", ""), ("65535", "65535")] {
            let set: PartitionSet = text.parse().unwrap();
            assert_eq!(set.to_string(), written);
            assert_eq!(written.parse(), Ok(set));
        }
        let set: PartitionSet = "0-2,9".parse().unwrap();
        assert!(set.contains(Partition(2)) && !set.contains(Partition(3)) && set.iter().count() == 4);
    }

    #[test]
    fn what_is_no_set_is_named() {
        for text in ["3-1", "a", "1-", "-1", "1,65536", "1-2-3"] {
            let error = text.parse::<PartitionSet>().unwrap_err().to_string();
            assert!(error.contains("0-15,20"), "{error}");
        }
    }
}
