//! `sendpi dev`: a NATS server, every role in one process, and the embedded store.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use sendpi_bus::presence::WorkerShare;
use sendpi_bus::rights::NatsRole;
use sendpi_gateway::{BindError, Gateway};
use sendpi_model::Partitions;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_store::Store;
use sendpi_store::cql::{Cql, CqlOpenError};
use sendpi_store::embedded::{Embedded, OpenError};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::runtime::{Builder, Runtime};

use crate::ask;
use crate::cql_address::CqlAddress;
use crate::free_space::{self, NotEnoughSpace};
use crate::nats_server::{self, NatsChild};
use crate::node::{self, Node, NodeOptions};
use crate::node_args::{NodeArgs, NodeArgsError};
use crate::output::say;
use crate::signals::EndSignals;
use crate::token_key;

/// The options of `sendpi dev`.
#[derive(Debug, clap::Args)]
pub(crate) struct DevArgs {
    /// The port of the first node; further nodes use the next ones. 0 picks free ones.
    #[arg(long, default_value_t = 8080, env = "SENDPI_PORT")]
    port: u16,
    /// How many nodes run in this process, each with its own id, connections and port. The first owns all partitions.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    nodes: u16,
    /// The folder for all data.
    #[arg(long, default_value = ".sendpi", env = "SENDPI_DATA")]
    data: PathBuf,
    /// The nats-server program. The default is the one in PATH or .tools/bin.
    #[arg(long, env = "SENDPI_NATS_SERVER")]
    nats_server: Option<PathBuf>,
    /// Use this running NATS server instead of starting one: nats://host:port.
    #[arg(long, env = "SENDPI_NATS", hide_env_values = true)]
    nats: Option<String>,
    /// The number of partitions of a new data folder.
    #[arg(long, default_value_t = Partitions::DEFAULT.count(), value_parser = clap::value_parser!(u16).range(1..))]
    partition_count: u16,
    #[command(flatten)]
    node: NodeArgs,
    /// Keep everything in this keyspace, whose tables are there, instead of the embedded store: host:port/keyspace. For
    /// tests and measurements.
    #[arg(long, hide = true)]
    cql: Option<CqlAddress>,
    /// Kill a node, as a power cut would, whenever standard input says `kill <number>` (from 0). For tests and
    /// measurements.
    #[arg(long, hide = true)]
    kill_from_stdin: bool,
}

/// The reason why `sendpi dev` failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevError {
    /// A setting cannot be used.
    #[error(transparent)]
    Settings(#[from] NodeArgsError),
    /// The gateway of a node cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The data folder cannot be used.
    #[error("cannot use {path}: {source}")]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The disk of the data folder is full, or almost.
    #[error(transparent)]
    Space(#[from] NotEnoughSpace),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The store in a database cannot be opened.
    #[error(transparent)]
    Cql(#[from] CqlOpenError),
    /// There is no NATS server.
    #[error(transparent)]
    Nats(#[from] nats_server::NatsServerError),
    /// A node could not start.
    #[error(transparent)]
    Node(#[from] node::NodeError),
    /// The runtime of a node could not be created, or the node's task ended during its start.
    #[error("cannot run a node: {0}")]
    Runtime(std::io::Error),
    /// The worker ended without being stopped.
    #[error("the worker that runs the rooms ended; this is a defect, please report what was logged before")]
    Worker,
    /// A second signal came while the nodes were stopping.
    #[error("ended at once by a second signal, {0}")]
    SecondSignal(&'static str),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

/// Runs all nodes until a signal ends them or the worker fails.
pub(crate) async fn run(args: DevArgs) -> Result<(), DevError> {
    args.node.check()?;
    let data = |source| DevError::Data { path: args.data.clone(), source };
    std::fs::create_dir_all(&args.data).map_err(data)?;
    let path = args.data.canonicalize().map_err(data)?;
    free_space::check(&path, args.nats.is_none())?;
    let key = token_key::read_or_create(&path).map_err(data)?;
    // The ports come before anything is started, because the most frequent problem is a port that is in use.
    let servers = bind(&args, &key).await?;
    let store: Arc<dyn Store> = match &args.cql {
        Some(address) => Arc::new(Cql::open(&address.config()).await?),
        None => Arc::new(Embedded::open(path.join("store"))?),
    };
    // From here on a signal no longer ends the process by itself, because it would leave the NATS server running.
    let mut signals = EndSignals::receive().map_err(DevError::Signals)?;
    let nats = match &args.nats {
        Some(_) => None,
        None => {
            let folder = path.join("nats");
            tokio::select! {
                nats = NatsChild::start(args.nats_server.clone(), &folder) => Some(nats?),
                signal = signals.next() => {
                    tracing::info!(signal, "ended while the NATS server started");
                    return Ok(());
                }
            }
        }
    };
    let url = args.nats.clone().or_else(|| nats.as_ref().map(|nats| nats.url().to_owned())).unwrap_or_default();
    ask::note_nats(&path, &url).map_err(data)?;
    let ended = serve(&args, &url, &store, servers, &mut signals).await;
    let (nodes, mut nats) = match (ended, nats) {
        (Ok(nodes), nats) => (nodes, nats),
        (Err(error), None) => return Err(error),
        (Err(error), Some(nats)) => {
            nats.kill().await;
            return Err(error);
        }
    };
    let second = tokio::select! {
        () = stop(nodes, nats.as_mut()) => return Ok(()),
        second = signals.next(), if !mutant(Mutant::SecondSignalOff) => second,
    };
    if let Some(nats) = nats {
        nats.kill().await;
    }
    Err(DevError::SecondSignal(second))
}

/// Starts all nodes and serves until a signal comes. Returns the nodes that run then.
async fn serve(
    args: &DevArgs,
    url: &str,
    store: &Arc<dyn Store>,
    gateways: Vec<Gateway>,
    signals: &mut EndSignals,
) -> Result<Vec<NodeRuntime>, DevError> {
    let mut nodes = Vec::new();
    for (index, gateway) in gateways.into_iter().enumerate() {
        let start = NodeRuntime::start(plan(args, url, store, gateway, index == 0)?, args.nodes > 1);
        tokio::select! {
            node = start => nodes.push(node?),
            signal = signals.next() => {
                tracing::info!(signal, "stopping while a node starts; a second signal ends the process at once");
                return Ok(nodes);
            }
        }
    }
    for context in &nodes {
        say(format_args!("listening on http://{}", context.node.address()));
    }
    say(format_args!("services publish at {url}"));
    if let Some(first) = nodes.first() {
        say(format_args!("open http://{}/ in two browsers and talk; end with Ctrl-C", first.node.address()));
    }
    let worker_ended = nodes.iter().find_map(|context| context.node.worker_ended()).unwrap_or_default();
    tokio::select! {
        signal = wait_for_end(&mut nodes, signals, args.kill_from_stdin) => {
            let signal = signal.map_err(DevError::Signals)?;
            tracing::info!(signal, "stopping; a second signal ends the process at once");
            Ok(nodes)
        }
        // Ending is better than running without rooms, because a supervisor can then restart the process.
        () = worker_ended.cancelled() => Err(DevError::Worker),
    }
}

/// Stops everything in order.
async fn stop(mut nodes: Vec<NodeRuntime>, nats: Option<&mut NatsChild>) {
    // The first node owns the rooms, so it is stopped last.
    while let Some(context) = nodes.pop() {
        context.node.stop().await;
    }
    if let Some(nats) = nats {
        nats.stop().await;
    }
}

/// A node. If there are several nodes, each has a runtime of its own, so that it can be killed alone.
struct NodeRuntime {
    node: Node,
    runtime: OwnRuntime,
}

/// A runtime of one node, if it has one. It ends without waiting when this is dropped.
struct OwnRuntime(Option<Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl NodeRuntime {
    async fn start(plan: NodeOptions, apart: bool) -> Result<Self, DevError> {
        if !apart {
            return Ok(Self { node: Node::start(plan).await?, runtime: OwnRuntime(None) });
        }
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(DevError::Runtime)?;
        let start = runtime.spawn(Node::start(plan));
        // A runtime that is dropped by a task must not wait for its end, and this one is if the start fails.
        let runtime = OwnRuntime(Some(runtime));
        let node = start.await.map_err(|e| DevError::Runtime(e.into()))??;
        Ok(Self { node, runtime })
    }
}

/// Waits for a signal. With `kill_from_stdin`, kills a node as a power cut would whenever standard input reads
/// `kill <number>` (from 0).
async fn wait_for_end(
    nodes: &mut Vec<NodeRuntime>,
    signals: &mut EndSignals,
    kill_from_stdin: bool,
) -> std::io::Result<&'static str> {
    if !kill_from_stdin {
        return Ok(signals.next().await);
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        let line = tokio::select! {
            signal = signals.next() => return Ok(signal),
            line = lines.next_line() => line?,
        };
        let Some(line) = line else { return Ok(signals.next().await) };
        let number = line.strip_prefix("kill ").and_then(|number| number.trim().parse().ok());
        if let Some(number) = number.filter(|number: &usize| *number < nodes.len()) {
            let NodeRuntime { node, runtime } = nodes.remove(number);
            drop(runtime);
            say(format_args!("killed http://{}", node.address()));
        }
    }
}

async fn bind(args: &DevArgs, secret: &[u8]) -> Result<Vec<Gateway>, DevError> {
    let mut servers = Vec::new();
    for index in 0..args.nodes {
        let port = if args.port == 0 { 0 } else { args.port.saturating_add(index) };
        let mut config = args.node.gateway(secret)?;
        config.listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        config.page = true;
        config.dev_tokens = !args.node.has_token_keys();
        servers.push(Gateway::bind(config).await?);
    }
    Ok(servers)
}

fn plan(
    args: &DevArgs,
    url: &str,
    store: &Arc<dyn Store>,
    gateway: Gateway,
    worker: bool,
) -> Result<NodeOptions, DevError> {
    Ok(NodeOptions {
        bus: args.node.nats_access.config(url, NatsRole::Node).map_err(NodeArgsError::from)?,
        store: Arc::clone(store),
        partitions: Partitions::new(args.partition_count).unwrap_or(Partitions::DEFAULT),
        replicas: 1,
        sessions: args.node.sessions()?,
        channel: if worker { Some((args.node.channel()?, WorkerShare::default())) } else { None },
        push: if worker { args.node.push()? } else { None },
        gateway,
    })
}
