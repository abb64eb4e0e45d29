//! A keyspace of a test's own, in the database that the tests share.

use scylla::client::session_builder::SessionBuilder;
use sendpi_store::cql::{CqlConfig, schema};

use crate::cassandra::shared;

/// A keyspace with the tables of Sendpi. Dropping it drops it from the database too.
#[derive(Debug)]
pub struct Keyspace {
    config: CqlConfig,
}

impl Keyspace {
    /// Makes a keyspace in the database that the tests of this process share. Unless `SENDPI_TEST_CQL` names one, it is
    /// started now.
    ///
    /// # Panics
    /// If there is no database, or if it does not take the tables.
    pub async fn make() -> Self {
        let nodes = tokio::task::spawn_blocking(shared).await;
        let nodes = nodes.unwrap_or_else(|error| panic!("there is no database: {error}"));
        Self::make_in(nodes, 1).await
    }

    /// Makes a keyspace with so many replicas in a database.
    ///
    /// # Panics
    /// If the database does not answer, or if it does not take the tables.
    pub async fn make_in(nodes: &[String], replicas: u8) -> Self {
        let keyspace = format!("sendpi_{:016x}", rand::random::<u64>());
        let create = format!(
            "CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy', \
             'replication_factor': {replicas}}}"
        );
        run(nodes, &create).await;
        let config = CqlConfig { nodes: nodes.to_vec(), keyspace, login: None, datacenter: None };
        let session = config.connect().await.unwrap_or_else(|error| panic!("{error}: {error:?}"));
        schema::apply(&session).await.unwrap_or_else(|error| panic!("{error}: {error:?}"));
        Self { config }
    }

    /// Returns how to reach it.
    #[must_use]
    pub fn config(&self) -> &CqlConfig {
        &self.config
    }
}

async fn run(nodes: &[String], statement: &str) {
    let session = SessionBuilder::new().known_nodes(nodes).build().await;
    let session = session.unwrap_or_else(|error| panic!("cannot connect to {nodes:?}: {error}"));
    session.query_unpaged(statement, ()).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        let (nodes, keyspace) = (self.config.nodes.clone(), self.config.keyspace.clone());
        // Nobody waits for it. What is left over ends with the database of the tests.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                if let Ok(session) = SessionBuilder::new().known_nodes(&nodes).build().await {
                    let _ = session.query_unpaged(format!("DROP KEYSPACE {keyspace}"), ()).await;
                }
            });
        });
    }
}
