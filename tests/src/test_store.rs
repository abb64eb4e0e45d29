//! A store of a test's own: the embedded one, or, if the variable `SENDPI_TEST_STORE` is `cql`, a keyspace.

use std::sync::Arc;

use sendpi_store::Store;
use sendpi_store::cql::Cql;
use sendpi_store::embedded::Embedded;
use tempfile::TempDir;

use crate::Keyspace;

/// A store and the place where it is. Dropping it deletes what it holds.
#[derive(Debug)]
pub struct TestStore {
    store: Arc<dyn Store>,
    _folder: Option<TempDir>,
    _keyspace: Option<Keyspace>,
}

impl TestStore {
    /// Makes an empty store.
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn make() -> Self {
        if is_cql() {
            let keyspace = Keyspace::make().await;
            let store = Cql::open(keyspace.config()).await;
            let store = Arc::new(store.unwrap_or_else(|error| panic!("cannot open the store: {error}")));
            return Self { store, _folder: None, _keyspace: Some(keyspace) };
        }
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder for a store: {error}"));
        let store = Embedded::open(folder.path().join("store"));
        let store = Arc::new(store.unwrap_or_else(|error| panic!("cannot open the store: {error}")));
        Self { store, _folder: Some(folder), _keyspace: None }
    }

    /// Returns the store.
    #[must_use]
    pub fn get(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }
}

/// Returns whether tests run on the store of a cluster.
pub(crate) fn is_cql() -> bool {
    match std::env::var("SENDPI_TEST_STORE").as_deref() {
        Err(_) | Ok("" | "embedded") => false,
        Ok("cql") => true,
        Ok(other) => panic!("SENDPI_TEST_STORE must be embedded or cql, and is {other}"),
    }
}
