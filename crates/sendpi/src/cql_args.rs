//! The options for the database.

use sendpi_store::cql::{CqlConfig, CqlLogin};

/// How to reach ScyllaDB, or Apache Cassandra.
#[derive(Debug, clap::Args)]
pub(crate) struct CqlArgs {
    /// Some nodes of the database, as host:port. Repeatable, or with commas.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', default_value = "127.0.0.1:9042", env = "SENDPI_CQL")]
    cql: Vec<String>,
    /// The keyspace, which `sendpi schema apply` fills with tables.
    #[arg(long, default_value = "sendpi", env = "SENDPI_KEYSPACE")]
    keyspace: String,
    /// The datacenter of this node, whose replicas answer.
    #[arg(long, env = "SENDPI_CQL_DATACENTER")]
    cql_datacenter: Option<String>,
    /// The user of the database, if it asks for one.
    #[arg(long, env = "SENDPI_CQL_USER")]
    cql_user: Option<String>,
    /// The user's password.
    #[arg(long, env = "SENDPI_CQL_PASSWORD", hide_env_values = true)]
    cql_password: Option<String>,
}

impl CqlArgs {
    /// Returns how to reach the database.
    pub(crate) fn config(&self) -> CqlConfig {
        let login = self
            .cql_user
            .as_ref()
            .map(|user| CqlLogin { user: user.clone(), password: self.cql_password.clone().unwrap_or_default() });
        let (nodes, keyspace) = (self.cql.clone(), self.keyspace.clone());
        CqlConfig { nodes, keyspace, login, datacenter: self.cql_datacenter.clone() }
    }
}
