//! Counts and checksums of rows, with which a copy is verified.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::TryStreamExt;
use scylla::statement::Statement;
use scylla::value::{CqlValue, Row as CqlRow};
use sendpi_model::fnv1a_64;

use super::Cql;
use super::columns::BoundRow;
use super::statements::Write;
use crate::{ReadError, Row};

/// How long a page of a whole table may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// The rows of a page. A row of a timeline may have 20 KiB.
const PAGE: i32 = 500;
/// The tables that are compared, by the statement that writes them. `meta` also has what is only in a cluster, and all
/// rows of `rooms_by_activity` and `active_rooms` expire.
const COMPARED: [Write; 12] = [
    Write::Fence,
    Write::Start,
    Write::Event,
    Write::Room,
    Write::Member,
    Write::RoomOfUser,
    Write::Marker,
    Write::Settled,
    Write::Pushed,
    Write::Revoked,
    Write::Device,
    Write::DeletedRoom,
];

/// How many rows there are, and the sum of their hashes, whatever their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// The number of rows.
    pub rows: u64,
    /// The sum of their hashes (FNV-1a, 64 bits) over the table and the values of all columns.
    pub sum: u64,
}

/// The fingerprints of the tables, by their names. What expires is not among them, because it may be gone when the
/// other side is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprints(BTreeMap<&'static str, Fingerprint>);

impl Fingerprints {
    /// Adds a row that was copied.
    ///
    /// # Errors
    /// Returns an error if the row cannot be encoded.
    pub fn add(&mut self, row: &Row) -> Result<(), serde_json::Error> {
        let bound = BoundRow::of(row)?;
        let expires = matches!(row, Row::Event(_, row) | Row::Revised(_, row, _) if row.expires.is_some());
        if !expires && COMPARED.contains(&bound.write) {
            // Behind the columns come the timestamp and the time to live.
            let columns = bound.write.columns().split(',').count();
            self.note(bound.write.table(), bound.values.iter().take(columns).map(Some));
        }
        Ok(())
    }

    fn note<'a>(&mut self, table: &'static str, values: impl Iterator<Item = Option<&'a CqlValue>>) {
        let mut bytes = table.as_bytes().to_vec();
        values.for_each(|value| put(&mut bytes, value));
        let known = self.0.entry(table).or_default();
        known.rows += 1;
        known.sum = known.sum.wrapping_add(fnv1a_64(bytes));
    }

    /// Returns the number of all rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.0.values().map(|table| table.rows).sum()
    }

    /// Returns the tables in which these differ from others: the name, what is here, and what is there.
    #[must_use]
    pub fn differences(&self, others: &Self) -> Vec<(&'static str, Fingerprint, Fingerprint)> {
        let of = |all: &Self, table: &str| all.0.get(table).copied().unwrap_or_default();
        let differ = |write: &Write| {
            let (table, here, there) = (write.table(), of(self, write.table()), of(others, write.table()));
            (here != there).then_some((table, here, there))
        };
        COMPARED.iter().filter_map(differ).collect()
    }
}

/// Appends a value so that no two lists of values have the same bytes.
fn put(bytes: &mut Vec<u8>, value: Option<&CqlValue>) {
    let mut text = |text: &[u8]| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text);
    };
    match value {
        Some(CqlValue::Text(value)) => text(value.as_bytes()),
        Some(CqlValue::Blob(value)) => text(value),
        Some(CqlValue::BigInt(value)) => bytes.extend(value.to_le_bytes()),
        Some(CqlValue::Int(value)) => bytes.extend(i64::from(*value).to_le_bytes()),
        Some(CqlValue::SmallInt(value)) => bytes.extend(i64::from(*value).to_le_bytes()),
        // No other type is in any table, and no null.
        other => text(format!("{other:?}").as_bytes()),
    }
}

impl Cql {
    /// Reads all tables whole, and returns their fingerprints. `read` is told after each page how many rows were read.
    ///
    /// # Errors
    /// Returns [`ReadError`] if the database does not answer.
    pub async fn fingerprints(&self, mut read: impl FnMut(&str, u64)) -> Result<Fingerprints, ReadError> {
        let mut all = Fingerprints::default();
        let mut count = 0;
        for write in COMPARED {
            let table = write.table();
            let failed = |error: &dyn std::fmt::Display| ReadError(format!("{table}: {error}"));
            let extra = if write == Write::Event { ", TTL(frame)" } else { "" };
            let mut statement = Statement::new(format!("SELECT {}{extra} FROM {table}", write.columns()));
            statement.set_request_timeout(Some(PAGE_TIMEOUT));
            statement.set_page_size(PAGE);
            let rows = self.0.client.session().query_iter(statement, ()).await.map_err(|error| failed(&error))?;
            let mut rows = rows.rows_stream::<CqlRow>().map_err(|error| failed(&error))?;
            while let Some(CqlRow { mut columns }) = rows.try_next().await.map_err(|error| failed(&error))? {
                count += 1;
                if count % PAGE as u64 == 0 {
                    read(table, count);
                }
                let expires = write == Write::Event && columns.pop().flatten().is_some();
                if !expires {
                    all.note(table, columns.iter().map(Option::as_ref));
                }
            }
        }
        Ok(all)
    }
}
