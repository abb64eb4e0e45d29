//! Settings of the tables that only one of the databases knows. Without them everything works, with what the database
//! does by default.

use scylla::client::session::Session;

use super::schema::{SchemaError, failed, run};

/// The database whose settings are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseKind {
    /// ScyllaDB, 2025.4 or newer.
    Scylla,
    /// Apache Cassandra 5.
    Cassandra,
}

/// The tables whose rows are written once.
const APPENDED: [&str; 2] = ["timeline", "starts"];
/// The tables whose rows are overwritten, and read far more often than that.
const OVERWRITTEN: [&str; 6] = ["rooms", "members", "rooms_of_user", "read_markers", "pushed", "devices"];
/// The tables whose rows all expire, and of which nothing is deleted.
const EXPIRING: [&str; 3] = ["rooms_by_activity", "active_rooms", "active_hours"];

impl DatabaseKind {
    /// Returns the settings of the tables that are appended to, of those that are overwritten, and of those that
    /// expire.
    ///
    /// Cassandra: unified compaction in tiers where rows are written once, so that little is written again, and in
    /// levels where they are overwritten, so that a read finds them in few files. The tombstones of what has expired
    /// stay for a day in place of ten, which is still longer than hints are kept.
    ///
    /// ScyllaDB: incremental compaction, which needs no space for a second copy. What has expired goes at once: all
    /// replicas know its time, so none can bring it back.
    fn settings(self) -> [&'static str; 3] {
        match self {
            Self::Cassandra => [
                "compaction = {'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'T4'}",
                "compaction = {'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'L4'}",
                "gc_grace_seconds = 86400",
            ],
            Self::Scylla => [
                "compaction = {'class': 'IncrementalCompactionStrategy'}",
                "compaction = {'class': 'IncrementalCompactionStrategy'}",
                "tombstone_gc = {'mode': 'immediate'}",
            ],
        }
    }

    fn statements(self) -> Vec<String> {
        let tables: [&[&str]; 3] = [&APPENDED, &OVERWRITTEN, &EXPIRING];
        let settings = tables.into_iter().zip(self.settings());
        let alter = |(tables, setting): (&'static [&'static str], &str)| {
            tables.iter().map(|table| format!("ALTER TABLE {table} WITH {setting}")).collect::<Vec<_>>()
        };
        settings.flat_map(alter).collect()
    }
}

/// Sets what only this database knows. It can be done again at any time. Returns how many tables were set.
///
/// # Errors
/// Returns [`SchemaError`] if the database is another one, or does not take a setting.
pub async fn tune(session: &Session, kind: DatabaseKind) -> Result<usize, SchemaError> {
    let statements = kind.statements();
    for statement in &statements {
        run(session, statement, ()).await.map_err(failed(statement))?;
    }
    Ok(statements.len())
}
