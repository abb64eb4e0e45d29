//! `sendpi serve`: one node with some of the roles, on a running NATS and a running database.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use sendpi_bus::presence::WorkerShare;
use sendpi_bus::rights::NatsRole;
use sendpi_gateway::{BindError, Gateway};
use sendpi_model::{Partition, PartitionSet, Partitions};
use sendpi_store::cql::{Cql, CqlOpenError};
use sendpi_store::{ReadError, Store};

use crate::cql_args::CqlArgs;
use crate::node::{Node, NodeError, NodeOptions};
use crate::node_args::{NodeArgs, NodeArgsError};
use crate::output::say;
use crate::signals::EndSignals;

/// The NATS servers and the replicas of a row with which the loss of one loses nothing.
pub(crate) const STRICT_REPLICAS: usize = 3;

/// The options of `sendpi serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// A file with these options in TOML, without their dashes, such as `listen = "0.0.0.0:8080"`. The environment and
    /// the command line come before it.
    #[arg(long, env = "SENDPI_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// What this node does. Repeatable, or with commas.
    #[arg(
        long = "role",
        value_enum,
        value_delimiter = ',',
        default_value = "gateway,channel,push",
        env = "SENDPI_ROLES"
    )]
    roles: Vec<ServedRole>,
    /// The address on which the node listens: for clients, if it is a gateway, and for /healthz, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:8080", env = "SENDPI_LISTEN")]
    listen: SocketAddr,
    /// The servers of a NATS cluster: nats://host:port, with commas.
    #[arg(long, default_value = "nats://127.0.0.1:4222", env = "SENDPI_NATS", hide_env_values = true)]
    nats: String,
    /// How many NATS servers keep each bucket and stream.
    #[arg(long, default_value_t = STRICT_REPLICAS as u8, value_parser = clap::value_parser!(u8).range(1..=5))]
    nats_replicas: u8,
    /// The number of partitions of a new cluster.
    #[arg(long, default_value_t = Partitions::DEFAULT.count(), value_parser = clap::value_parser!(u16).range(1..))]
    partition_count: u16,
    /// The partitions that this worker gets before all others, such as 0-15,20. It gets no others then, as long as
    /// there is a worker without this option.
    #[arg(long, value_name = "PARTITIONS")]
    partitions: Option<PartitionSet>,
    /// How much this worker gets of the partitions, beside the weights of the others.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    weight: u16,
    /// Whether to start where the loss of one machine may lose what was acknowledged.
    #[arg(long, value_enum, default_value_t = Durability::Strict, env = "SENDPI_DURABILITY")]
    durability: Durability,
    /// Let anybody read the metrics, and not only this machine.
    #[arg(long)]
    open_metrics: bool,
    #[command(flatten)]
    cql: CqlArgs,
    #[command(flatten)]
    node: NodeArgs,
}

/// A role of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ServedRole {
    /// Holds the connections of clients and services.
    Gateway,
    /// Runs rooms. The nodes with this role share the partitions.
    Channel,
    /// Posts push notifications.
    Push,
}

/// Returns what a node with these roles is to NATS.
fn nats_role(roles: &[ServedRole]) -> NatsRole {
    match roles {
        [ServedRole::Gateway] => NatsRole::Gateway,
        [ServedRole::Channel] => NatsRole::Channel,
        [ServedRole::Push] => NatsRole::Push,
        _ => NatsRole::Node,
    }
}

/// What may be lost with one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Durability {
    /// Nothing that was acknowledged.
    Strict,
    /// What the settings of NATS and the database risk.
    Relaxed,
}

/// The reason why `sendpi serve` failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// A setting cannot be used.
    #[error(transparent)]
    Settings(#[from] NodeArgsError),
    /// A gateway cannot check tokens.
    #[error("name what tokens are checked with: --token-key ALGORITHM=FILE, or --jwks URL")]
    NoTokenKeys,
    /// The gateway cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] CqlOpenError),
    /// What the database holds, or its settings, could not be read.
    #[error("cannot read what the database says of itself: {0}")]
    Unseen(#[from] ReadError),
    /// The store was made for another number of partitions.
    #[error("the database was filled with {found} partitions, and --partition-count is {expected}")]
    Partitions {
        /// What the store says.
        found: u16,
        /// What this node is configured for.
        expected: u16,
    },
    /// A partition that the cluster does not have.
    #[error("--partitions names partition {0}, and there are {1}, counted from 0")]
    NoSuchPartition(Partition, u16),
    /// Something acknowledged may be lost with one machine.
    #[error("with one machine, what was acknowledged may be lost: {0}; change that, or say --durability relaxed")]
    Weak(String),
    /// The node could not start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The worker ended without being stopped.
    #[error("the worker that runs the rooms ended; this is a defect, please report what was logged before")]
    Worker,
    /// A second signal came while the node was stopping.
    #[error("ended at once by a second signal, {0}")]
    SecondSignal(&'static str),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

/// Runs a node until a signal ends it or its worker fails.
pub(crate) async fn run(args: ServeArgs) -> Result<(), ServeError> {
    args.node.check()?;
    let pinned = args.partitions.iter().flat_map(PartitionSet::iter);
    if let Some(partition) = pinned.into_iter().find(|partition| partition.0 >= args.partition_count) {
        return Err(ServeError::NoSuchPartition(partition, args.partition_count));
    }
    let has = |role| args.roles.contains(&role);
    if has(ServedRole::Gateway) && !args.node.has_token_keys() {
        return Err(ServeError::NoTokenKeys);
    }
    // Without the role nobody's token is checked.
    let nobodys = rand::random::<[u8; 32]>();
    let mut gateway = args.node.gateway(&nobodys)?;
    gateway.listen = args.listen;
    gateway.open_metrics = args.open_metrics;
    gateway.clients = has(ServedRole::Gateway);
    let gateway = Gateway::bind(gateway).await?;
    let mut signals = EndSignals::receive().map_err(ServeError::Signals)?;
    let node = tokio::select! {
        node = start(&args, gateway) => node?,
        signal = signals.next() => {
            tracing::info!(signal, "ended while the node started");
            return Ok(());
        }
    };
    say(format_args!("listening on http://{}", node.address()));
    let worker_ended = node.worker_ended().unwrap_or_default();
    tokio::select! {
        signal = signals.next() => tracing::info!(signal, "stopping; a second signal ends the process at once"),
        // Ending is better than running without rooms, because a supervisor can then restart the process.
        () = worker_ended.cancelled() => return Err(ServeError::Worker),
    }
    tokio::select! {
        () = node.stop() => Ok(()),
        second = signals.next() => Err(ServeError::SecondSignal(second)),
    }
}

async fn start(args: &ServeArgs, gateway: Gateway) -> Result<Node, ServeError> {
    let store = Cql::open(&args.cql.config()).await?;
    let weak = weaknesses(args, &store).await?.join("; ");
    if !weak.is_empty() {
        if args.durability == Durability::Strict {
            return Err(ServeError::Weak(weak));
        }
        tracing::warn!(weak, "what is acknowledged may be lost with one machine");
    }
    // The first worker writes it.
    if let Some(found) = store.partitions().await?.filter(|found| *found != args.partition_count) {
        return Err(ServeError::Partitions { found, expected: args.partition_count });
    }
    let store: Arc<dyn Store> = Arc::new(store);
    let has = |role| args.roles.contains(&role);
    let share = WorkerShare { weight: args.weight, pinned: args.partitions.clone().unwrap_or_default() };
    let node = Node::start(NodeOptions {
        bus: args.node.nats_access.config(&args.nats, nats_role(&args.roles)).map_err(NodeArgsError::from)?,
        store,
        partitions: Partitions::new(args.partition_count).unwrap_or(Partitions::DEFAULT),
        replicas: usize::from(args.nats_replicas),
        sessions: args.node.sessions()?,
        channel: if has(ServedRole::Channel) { Some((args.node.channel()?, share)) } else { None },
        push: if has(ServedRole::Push) { args.node.push()? } else { None },
        gateway,
    });
    Ok(node.await?)
}

/// Returns what may lose something acknowledged with one machine, as far as it can be seen from here. How often NATS
/// syncs its files cannot.
async fn weaknesses(args: &ServeArgs, store: &Cql) -> Result<Vec<String>, ServeError> {
    let mut weak = store.weaknesses().await?;
    if usize::from(args.nats_replicas) < STRICT_REPLICAS {
        weak.push(format!("--nats-replicas is {}, and must be {STRICT_REPLICAS} or more", args.nats_replicas));
    }
    Ok(weak)
}
