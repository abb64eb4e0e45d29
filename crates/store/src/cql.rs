//! The store of a cluster: ScyllaDB, or Apache Cassandra 5, through CQL. `schema.cql` says what each table holds.
//!
//! Every statement is prepared, idempotent and at LOCAL_QUORUM, so what is done survives the loss of a minority of the
//! replicas, and every read that begins afterwards sees it. Timestamps are the stamps of the rows. The driver tries
//! nothing again: a write is tried again here, with the same rows, and its outcome is *unknown* from the first try on
//! that may have reached a replica (`outcome`).
//!
//! The rows of one room fail or succeed apart from those of another ([`crate::Store::fails_apart`]).

mod active_hours;
mod client;
mod columns;
mod config;
mod durability;
mod fence_reads;
mod fingerprint;
mod metrics;
mod outcome;
mod removal;
pub mod schema;
mod statements;
mod store;
mod timeline;
mod tuning;
mod writer;

use std::sync::Arc;

use sendpi_tls::TlsFilesError;

use self::active_hours::ActiveHours;
use self::client::CqlClient;
use self::fence_reads::FenceReads;
use self::schema::SchemaError;

pub use self::config::{CqlConfig, CqlLogin, Replication};
pub use self::fingerprint::{Fingerprint, Fingerprints};
pub use self::tuning::{DatabaseKind, tune};

/// The reason why the store of a cluster could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum CqlOpenError {
    /// No node could be reached, or none let this one in.
    #[error("cannot connect to the database at {nodes}: {source}")]
    Connect {
        /// The nodes that were tried.
        nodes: String,
        /// What the driver reported.
        source: Box<scylla::errors::NewSessionError>,
    },
    /// A file with a certificate or a key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFilesError),
    /// The tables are not those that this release works with.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The keyspace could not be made.
    #[error("cannot make the keyspace {keyspace}: {source}")]
    Keyspace {
        /// The keyspace.
        keyspace: String,
        /// What the driver reported.
        source: Box<scylla::errors::ExecutionError>,
    },
    /// The replicas are in several datacenters.
    #[error(
        "the keyspace {keyspace} is replicated in {datacenters} datacenters, and must be in one: a quorum of one would \
         not see what the other one wrote"
    )]
    Datacenters {
        /// The keyspace.
        keyspace: String,
        /// Their number.
        datacenters: usize,
    },
    /// Where the replicas are could not be read.
    #[error("the database does not say where its replicas are: {why}")]
    Replication {
        /// What the driver reported.
        why: String,
    },
    /// A statement could not be prepared.
    #[error("the database does not take the statement {name}: {source}")]
    Prepare {
        /// The name of the statement.
        name: &'static str,
        /// What the driver reported.
        source: Box<scylla::errors::PrepareError>,
    },
}

/// The store of a cluster. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Cql(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: CqlClient,
    fences: FenceReads,
    hours: ActiveHours,
}

impl Cql {
    /// Connects to a cluster whose keyspace has the tables of this release.
    ///
    /// # Errors
    /// Returns [`CqlOpenError`], which says what to do if the tables are not there.
    pub async fn open(config: &CqlConfig) -> Result<Self, CqlOpenError> {
        let session = config.connect().await?;
        durability::check_datacenter(&session).await?;
        schema::check(&session).await?;
        let client = CqlClient::prepare(session, config).await?;
        let fences = FenceReads::new(client.clone());
        Ok(Self(Arc::new(Inner { client, fences, hours: ActiveHours::default() })))
    }
}
