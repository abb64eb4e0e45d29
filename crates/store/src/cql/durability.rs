//! What of a cluster's settings may lose something acknowledged with one machine.

use std::collections::HashMap;

use scylla::client::session::Session;

use super::{Cql, CqlOpenError};
use crate::ReadError;

/// The replicas with which a quorum survives the loss of one.
const REPLICAS: u32 = 3;

/// How a node of the database says what a setting is: Apache Cassandra, ScyllaDB.
const SETTINGS: [&str; 2] = [
    "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'",
    "SELECT value FROM system.config WHERE name = 'commitlog_sync'",
];

impl Cql {
    /// Returns what may lose something acknowledged with one machine: too few replicas, or a commit log that is not
    /// synced before the answer, on the node that answers.
    ///
    /// # Errors
    /// Returns [`ReadError`] if the database does not say.
    pub async fn weaknesses(&self) -> Result<Vec<String>, ReadError> {
        let session = self.0.client.session();
        let mut weak = Vec::new();
        let keyspace = session.get_keyspace().unwrap_or_default();
        let replication = replication(session, &keyspace).await.map_err(ReadError)?;
        if replicas(&replication).is_none_or(|fewest| fewest < REPLICAS) {
            let rule = format!("the replication of the keyspace {keyspace} is {replication:?}, and must be {REPLICAS}");
            weak.push(format!("{rule} or more in each datacenter"));
        }
        match commitlog_sync(session).await {
            Some(sync) if sync == "batch" || sync == "group" => {}
            Some(sync) => weak.push(format!("commitlog_sync of the database is {sync}, and must be batch or group")),
            None => {
                let tables = "system_views.settings (Cassandra) or system.config (ScyllaDB)";
                weak.push(format!(
                    "the database does not say what its commitlog_sync is: its user needs SELECT on {tables}"
                ));
            }
        }
        Ok(weak)
    }
}

/// Returns how many nodes of each datacenter keep a row, with the class of the strategy.
async fn replication(session: &Session, keyspace: &str) -> Result<HashMap<String, String>, String> {
    const READ: &str = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let failed = |error: &dyn std::fmt::Display| format!("the replication of {keyspace}: {error}");
    let result = session.query_unpaged(READ, (keyspace,)).await.map_err(|error| failed(&error))?;
    let rows = result.into_rows_result().map_err(|error| failed(&error))?;
    let (replication,) = rows.first_row::<(HashMap<String, String>,)>().map_err(|error| failed(&error))?;
    Ok(replication)
}

/// Checks that all replicas are in one datacenter. A quorum is one of a datacenter, and those of two have no node in
/// common, so that an owner in one would not see the fence of another.
pub(super) async fn check_datacenter(session: &Session) -> Result<(), CqlOpenError> {
    let keyspace = session.get_keyspace().unwrap_or_default().to_string();
    let replication = match replication(session, &keyspace).await {
        Ok(replication) => replication,
        Err(why) => return Err(CqlOpenError::Replication { why }),
    };
    match replication.keys().filter(|name| *name != "class").count() {
        0 | 1 => Ok(()),
        datacenters => Err(CqlOpenError::Datacenters { keyspace, datacenters }),
    }
}

/// Returns the fewest replicas of any datacenter. `None` if that cannot be read.
fn replicas(replication: &HashMap<String, String>) -> Option<u32> {
    let counts = replication.iter().filter(|(name, _)| *name != "class").map(|(_, count)| count.parse().ok());
    counts.collect::<Option<Vec<u32>>>()?.into_iter().min()
}

async fn commitlog_sync(session: &Session) -> Option<String> {
    for read in SETTINGS {
        let Ok(result) = session.query_unpaged(read, ()).await else { continue };
        let row = result.into_rows_result().ok().and_then(|rows| rows.first_row::<(String,)>().ok());
        if let Some((value,)) = row {
            // ScyllaDB says it as JSON.
            return Some(value.trim_matches('"').to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_datacenter_with_the_fewest_replicas_counts() {
        let of = |pairs: &[(&str, &str)]| {
            replicas(&pairs.iter().map(|(name, count)| ((*name).to_owned(), (*count).to_owned())).collect())
        };
        assert_eq!(of(&[("class", "NetworkTopologyStrategy"), ("dc1", "3"), ("dc2", "2")]), Some(2));
        assert_eq!(of(&[("class", "SimpleStrategy"), ("replication_factor", "3")]), Some(3));
        assert_eq!(of(&[("class", "LocalStrategy")]), None);
        assert_eq!(of(&[("class", "x"), ("dc1", "3/1")]), None);
    }
}
