//! A keyspace of a test's own, in the database that the tests share.

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use sendpi_store::cql::{CqlConfig, Replication, schema};

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
        let keyspace = Self::make_without_tables().await;
        keyspace.apply().await;
        keyspace
    }

    /// Makes a keyspace without tables in the same database.
    ///
    /// # Panics
    /// If there is no database.
    pub async fn make_without_tables() -> Self {
        let nodes = tokio::task::spawn_blocking(shared).await;
        let nodes = nodes.unwrap_or_else(|error| panic!("there is no database: {error}"));
        Self::create(nodes, 1).await
    }

    /// Makes a keyspace with so many replicas in a database.
    ///
    /// # Panics
    /// If the database does not answer, or if it does not take the tables.
    pub async fn make_in(nodes: &[String], replicas: u8) -> Self {
        let keyspace = Self::create(nodes, replicas).await;
        keyspace.apply().await;
        keyspace
    }

    async fn create(nodes: &[String], replicas: u8) -> Self {
        let keyspace = format!("sendpi_{:016x}", rand::random::<u64>());
        let config = CqlConfig { nodes: nodes.to_vec(), keyspace, login: None, tls: None, datacenter: None };
        let made = config.create_keyspace(Replication { nodes: replicas }).await;
        made.unwrap_or_else(|error| panic!("{error}: {error:?}"));
        Self { config }
    }

    async fn apply(&self) {
        schema::apply(&self.session().await).await.unwrap_or_else(|error| panic!("{error}: {error:?}"));
    }

    async fn session(&self) -> Session {
        self.config.connect().await.unwrap_or_else(|error| panic!("{error}: {error:?}"))
    }

    /// Runs a statement in it, as an operator does.
    ///
    /// # Panics
    /// If the database does not take it.
    pub async fn run(&self, statement: &str) {
        let done = self.session().await.query_unpaged(statement, ()).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Returns its address, as `sendpi` takes it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}/{}", self.config.nodes.join(","), self.config.keyspace)
    }

    /// Returns how to reach it.
    #[must_use]
    pub fn config(&self) -> &CqlConfig {
        &self.config
    }
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
