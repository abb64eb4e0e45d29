//! The options for the database.

use std::path::PathBuf;

use sendpi_store::cql::{CqlConfig, CqlLogin};
use sendpi_tls::TlsFiles;

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
    /// A PEM file with the certificate authorities of the database. Connections are encrypted if it is given. The
    /// certificate of each node must name its IP address.
    #[arg(long, value_name = "FILE", env = "SENDPI_CQL_CA")]
    cql_ca: Option<PathBuf>,
    /// A PEM file with the certificate of this node, if the database asks for one.
    #[arg(long, value_name = "FILE", requires_all = ["cql_ca", "cql_key"], env = "SENDPI_CQL_CERTIFICATE")]
    cql_certificate: Option<PathBuf>,
    /// A PEM file with the key of that certificate.
    #[arg(long, value_name = "FILE", requires = "cql_certificate", env = "SENDPI_CQL_KEY")]
    cql_key: Option<PathBuf>,
}

impl CqlArgs {
    /// Returns how to reach the database.
    pub(crate) fn config(&self) -> CqlConfig {
        let login = self
            .cql_user
            .as_ref()
            .map(|user| CqlLogin { user: user.clone(), password: self.cql_password.clone().unwrap_or_default() });
        let (nodes, keyspace) = (self.cql.clone(), self.keyspace.clone());
        let tls = self.cql_ca.as_ref().map(|authorities| TlsFiles {
            authorities: Some(authorities.clone()),
            identity: self.cql_certificate.clone().zip(self.cql_key.clone()),
        });
        CqlConfig { nodes, keyspace, login, tls, datacenter: self.cql_datacenter.clone() }
    }
}
