//! How to reach a cluster, and how statements are run there.

use std::sync::Arc;
use std::time::Duration;

use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::policies::speculative_execution::{SimpleSpeculativeExecutionPolicy, SpeculativeExecutionPolicy};
use scylla::statement::Consistency;
use sendpi_tls::TlsFiles;

use super::CqlOpenError;
use super::schema::run;

/// How long one try may take. The database gives up a write after 2 s by default, and says so.
const TRY_TIMEOUT: Duration = Duration::from_millis(2_500);

/// How to reach a cluster.
#[derive(Debug, Clone)]
pub struct CqlConfig {
    /// The addresses of some of its nodes, as `host:port`.
    pub nodes: Vec<String>,
    /// The keyspace, which exists.
    pub keyspace: String,
    /// The user and the password, if the cluster asks for them.
    pub login: Option<CqlLogin>,
    /// How to encrypt the connections, if they are. A node is known by the IP address at which it is reached, so its
    /// certificate must name that one, and not only its host name: the driver knows the nodes by the addresses that
    /// they tell each other.
    pub tls: Option<TlsFiles>,
    /// The datacenter of this node, whose replicas are a LOCAL_QUORUM.
    pub datacenter: Option<String>,
}

/// How many nodes keep each row.
#[derive(Debug, Clone, Copy)]
pub struct Replication {
    /// The number of nodes, in the datacenter of this node or, if it names none, in each.
    pub nodes: u8,
}

/// A user of the database.
#[derive(Clone)]
pub struct CqlLogin {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for CqlLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CqlLogin").field("user", &self.user).finish_non_exhaustive()
    }
}

impl CqlConfig {
    /// Connects to the keyspace.
    ///
    /// # Errors
    /// Returns [`CqlOpenError::Connect`] if no node lets this one in, or if there is no such keyspace.
    pub async fn connect(&self) -> Result<Session, CqlOpenError> {
        self.build(self.builder().use_keyspace(&self.keyspace, true)).await
    }

    /// Makes the keyspace if it is missing. The replication of one that is there stays.
    ///
    /// # Errors
    /// Returns [`CqlOpenError`] if no node lets this one in, or takes the statement.
    pub async fn create_keyspace(&self, replication: Replication) -> Result<(), CqlOpenError> {
        // The name of a datacenter, or the word for all of them.
        let of = self.datacenter.as_deref().unwrap_or("replication_factor").replace('\'', "''");
        let statement = format!(
            "CREATE KEYSPACE IF NOT EXISTS \"{}\" \
             WITH replication = {{'class': 'NetworkTopologyStrategy', '{of}': {}}}",
            self.keyspace.replace('"', "\"\""),
            replication.nodes
        );
        let session = self.build(self.builder()).await?;
        let keyspace = self.keyspace.clone();
        run(&session, &statement, ())
            .await
            .map(drop)
            .map_err(|source| CqlOpenError::Keyspace { keyspace, source: Box::new(source) })
    }

    fn builder(&self) -> SessionBuilder {
        let mut builder = SessionBuilder::new()
            .known_nodes(&self.nodes)
            .keyspaces_to_fetch([&self.keyspace])
            .fetch_full_schema_metadata(false)
            .schema_agreement_interval(Duration::from_millis(50))
            .refresh_metadata_on_auto_schema_agreement(false)
            .default_execution_profile_handle(self.profile(None))
            .connection_timeout(Duration::from_secs(5))
            .keepalive_interval(Duration::from_secs(5))
            .keepalive_timeout(Duration::from_secs(5))
            .tcp_nodelay(true);
        if let Some(CqlLogin { user, password }) = &self.login {
            builder = builder.user(user, password);
        }
        builder
    }

    async fn build(&self, builder: SessionBuilder) -> Result<Session, CqlOpenError> {
        let tls = self.tls.as_ref().map(TlsFiles::client_config).transpose()?;
        builder
            .tls_context(tls)
            .build()
            .await
            .map_err(|source| CqlOpenError::Connect { nodes: self.nodes.join(", "), source: Box::new(source) })
    }

    /// Returns how statements are run. With `speculative`, another node is asked too after that time.
    pub(super) fn profile(&self, speculative: Option<Duration>) -> ExecutionProfileHandle {
        let mut nodes = DefaultPolicy::builder().token_aware(true);
        if let Some(datacenter) = &self.datacenter {
            nodes = nodes.prefer_datacenter(datacenter.clone());
        }
        let speculative = speculative.map(|retry_interval| {
            let policy = SimpleSpeculativeExecutionPolicy { max_retry_count: 1, retry_interval };
            Arc::new(policy) as Arc<dyn SpeculativeExecutionPolicy>
        });
        ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .request_timeout(Some(TRY_TIMEOUT))
            // The driver cannot know that all statements are safe to repeat, nor which outcome is left after it.
            .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
            .load_balancing_policy(nodes.build())
            .speculative_execution_policy(speculative)
            .build()
            .into_handle()
    }
}
