//! Merges a batch of writes into at most one row for each key. It leaves out rows that must give way to a stored row.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::encode::{EncodedRow, Keep};
use super::table::Table;

/// Returns the rows of `puts` that must be written. `puts` are in their order of arrival, and `stored` reads what
/// the store holds.
///
/// A key that occurs twice is written once, because the engine gives all rows of a batch the same number and could
/// not order them.
pub(super) fn merge<V: AsRef<[u8]>, E>(
    puts: impl IntoIterator<Item = EncodedRow>,
    mut stored: impl FnMut(Table, &[u8]) -> Result<Option<V>, E>,
) -> Result<Vec<EncodedRow>, E> {
    let mut merged: HashMap<(Table, Vec<u8>), (Vec<u8>, Keep)> = HashMap::new();
    for put in puts {
        let EncodedRow { table, key, value, keep } = put;
        match merged.entry((table, key)) {
            Entry::Occupied(mut earlier) => {
                if keep.follows(earlier.get().1) {
                    earlier.insert((value, keep));
                }
            }
            Entry::Vacant(vacant) => {
                if gives_way(keep, || stored(table, &vacant.key().1))? {
                    continue;
                }
                vacant.insert((value, keep));
            }
        }
    }
    Ok(merged.into_iter().map(|((table, key), (value, keep))| EncodedRow { table, key, value, keep }).collect())
}

/// Returns whether a row is left out because of what is stored.
fn gives_way<V: AsRef<[u8]>, E>(keep: Keep, stored: impl FnOnce() -> Result<Option<V>, E>) -> Result<bool, E> {
    // What replaces whatever is there need not be compared.
    Ok(keep != Keep::Either && stored()?.is_some_and(|value| keep.gives_way(value.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, stamp: u64, text: &str) -> EncodedRow {
        let mut value = stamp.to_be_bytes().to_vec();
        value.extend(text.as_bytes());
        EncodedRow { table: Table::Rooms, key: key.into(), value, keep: Keep::Higher(stamp) }
    }

    fn merged(puts: Vec<EncodedRow>, stored: &[(&str, u64)]) -> Vec<EncodedRow> {
        let look_up = |_, key: &[u8]| {
            let found = stored.iter().find(|(name, _)| name.as_bytes() == key);
            Ok::<_, ()>(found.map(|(_, stamp)| stamp.to_be_bytes()))
        };
        let mut puts = merge(puts, look_up).unwrap();
        puts.sort_by(|a, b| a.key.cmp(&b.key));
        puts
    }

    #[test]
    fn of_two_writes_in_one_group_the_higher_stamp_stays_and_of_equal_ones_the_later() {
        let (low, high, later) = (put("a", 1, "low"), put("a", 2, "high"), put("a", 2, "later"));
        let check = |first: &EncodedRow, second: &EncodedRow, stays: &EncodedRow| {
            assert_eq!(merged(vec![first.clone(), second.clone()], &[]), std::slice::from_ref(stays));
        };
        check(&low, &high, &high);
        check(&high, &low, &high);
        check(&high, &later, &later);
    }

    #[test]
    fn a_stored_row_with_a_higher_stamp_stays() {
        let puts = vec![put("a", 4, ""), put("b", 5, ""), put("c", 6, "")];
        assert_eq!(merged(puts.clone(), &[("a", 5), ("b", 5), ("c", 5)]), puts[1..]);
    }

    #[test]
    fn what_was_kept_away_does_not_keep_away_what_follows() {
        assert_eq!(merged(vec![put("a", 4, ""), put("a", 6, "")], &[("a", 5)]), [put("a", 6, "")]);
    }

    #[test]
    fn what_is_written_once_is_not_written_again() {
        let first = |text| EncodedRow { keep: Keep::First, ..put("a", 0, text) };
        assert_eq!(merged(vec![first("x"), first("y")], &[]), [first("x")]);
        assert_eq!(merged(vec![first("x")], &[("a", 0)]), []);
    }
}
