//! The store of a cluster, on a real database.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::sync::Arc;

use sendpi_store::Store;
use sendpi_store::cql::Cql;
use sendpi_tests::Keyspace;

async fn open() -> (Keyspace, Arc<dyn Store>) {
    let keyspace = Keyspace::make().await;
    let store = Cql::open(keyspace.config()).await.unwrap();
    (keyspace, Arc::new(store))
}

sendpi_store::conformance_tests!(open);
