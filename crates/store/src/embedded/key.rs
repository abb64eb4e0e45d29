//! Keys whose bytes sort in the order in which the rows are read.
//!
//! An id is followed by a zero byte, which no id contains, so the keys of one id are never among those of another.
//! Numbers are big-endian, and inverted if the highest comes first.

/// A byte that no id contains. It sorts after every id.
const AFTER_IDS: u8 = 0xff;

/// A key under construction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RowKey(Vec<u8>);

impl RowKey {
    pub(super) fn of_id(id: &str) -> Self {
        Self::default().id(id)
    }

    pub(super) fn of_partition(partition: sendpi_model::Partition) -> Self {
        Self(partition.0.to_be_bytes().to_vec())
    }

    pub(super) fn id(mut self, id: &str) -> Self {
        self.0.extend_from_slice(id.as_bytes());
        self.0.push(0);
        self
    }

    pub(super) fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Appends a number. The highest number sorts first.
    pub(super) fn falling(self, number: u64) -> Self {
        self.number(!number)
    }

    /// Appends an id at the end of a key.
    pub(super) fn last_id(mut self, id: &str) -> Self {
        self.0.extend_from_slice(id.as_bytes());
        self
    }

    /// Makes a bound that sorts after all keys that continue with an id.
    pub(super) fn after_ids(mut self) -> Self {
        self.0.push(AFTER_IDS);
        self
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Returns the first id of a key, and what follows it.
pub(super) fn split_id(key: &[u8]) -> Option<(&str, &[u8])> {
    let end = key.iter().position(|byte| *byte == 0)?;
    Some((std::str::from_utf8(key.get(..end)?).ok()?, key.get(end + 1..)?))
}

/// Returns the first number of a key, and what follows it.
pub(super) fn split_number(key: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), rest))
}

/// Returns the first number of a key that was written by [`RowKey::falling`], and what follows it.
pub(super) fn split_falling(key: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = split_number(key)?;
    Some((!number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_lies_among_the_keys_of_another() {
        let key = |id: &str, n| RowKey::of_id(id).number(n).bytes();
        let mut keys = [key("r", u64::MAX), key("r1", 0), key("r", 0), key("r!", 5), key("r\u{10ffff}", 1)];
        keys.sort();
        let ids: Vec<_> = keys.iter().map(|key| split_id(key).unwrap().0).collect();
        assert_eq!(ids, ["r", "r", "r!", "r1", "r\u{10ffff}"]);
    }

    #[test]
    fn falling_numbers_sort_the_highest_first_and_come_back() {
        let key = |n, room| RowKey::of_id("ann").falling(n).last_id(room).bytes();
        assert!(key(9, "b") < key(8, "a") && key(8, "a") < key(8, "b"));
        assert!(key(8, "\u{10ffff}") < RowKey::of_id("ann").falling(8).after_ids().bytes());
        let bytes = key(9, "b");
        let (user, rest) = split_id(&bytes).unwrap();
        assert_eq!((user, split_falling(rest)), ("ann", Some((9, &b"b"[..]))));
    }
}
