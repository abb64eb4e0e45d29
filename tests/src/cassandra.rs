//! A database that speaks CQL: nodes of Apache Cassandra of a test's own, or one that all tests of a process share.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::process::{Process, in_path, loopback_network};
use crate::{CqlProxy, TestCertificates, within};

/// How long a node may take to start. It takes about 5 s alone on a machine.
const START: Duration = Duration::from_secs(120);
/// The port at which nodes listen for CQL. Each has an address of its own.
const PORT: u16 = 9042;
/// Has a node start although the last mark of its commit log is half written, as it is if the node is killed in just
/// that moment. It read everything before that; what would come behind was not acknowledged. Without this it refuses to
/// start ("Encountered bad header … with invalid CRC").
const TORN_END: &str = "-Dcassandra.commitlog.ignorereplayerrors=true";

/// A cluster of Cassandra nodes, each on a loopback address of its own. Dropping it ends them and deletes their data.
#[derive(Debug)]
pub struct CassandraServer {
    kind: Kind,
    nodes: Vec<Process>,
    /// The first three numbers of all addresses.
    network: String,
    data: TempDir,
}

/// What a cluster is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It keeps what it acknowledged when it is killed.
    Durable,
    /// It does too, and clients reach it through a proxy.
    BehindProxy,
    /// It does too, and lets in only who has a certificate and a password.
    Guarded,
    /// All tests of a process share it. It need not outlive them, which makes tables and writes cheap.
    Shared,
}

impl Kind {
    /// Returns how the commit log is synced. With `periodic` the end of the log is marked only every 100 ms, and what
    /// comes behind it is lost with the process (CASSANDRA-13987).
    fn commitlog_sync(self) -> &'static str {
        match self {
            Self::Durable | Self::BehindProxy | Self::Guarded => "commitlog_sync: batch",
            Self::Shared => "commitlog_sync: periodic\ncommitlog_sync_period: 10000ms",
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Durable | Self::BehindProxy | Self::Guarded => &[],
            Self::Shared => &["-Dcassandra.test.flush_local_schema_changes=false"],
        }
    }
}

impl CassandraServer {
    /// Starts a cluster of so many nodes, one after the other.
    ///
    /// # Panics
    /// If Java or Cassandra are missing (the message says how to get them), or if a node does not start.
    pub async fn start(nodes: u8) -> Self {
        Self::start_as(Kind::Durable, nodes).await
    }

    /// Starts one node that tells its clients an address at which nobody listens yet, for a proxy. Returns the address.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub async fn start_for_proxies() -> (Self, SocketAddrV4) {
        let server = Self::start_as(Kind::BehindProxy, 1).await;
        let told = server.broadcast(0).parse().unwrap_or_else(|error| panic!("{error}"));
        (server, told)
    }

    /// Starts one node that clients reach through a proxy.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub async fn start_behind_proxy() -> (Self, CqlProxy) {
        let server = Self::start_as(Kind::BehindProxy, 1).await;
        let proxy = CqlProxy::start(&server.broadcast(0), &server.addresses()[0]).await;
        (server, proxy)
    }

    /// Starts one node that lets in only who trusts its certificate, has one itself, and knows the password of the user
    /// `cassandra`, which is `cassandra`. Returns the certificates.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub async fn start_guarded() -> (Self, TestCertificates) {
        let server = Self::start_as(Kind::Guarded, 1).await;
        let certificates = TestCertificates::in_folder(server.data.path());
        (server, certificates)
    }

    async fn start_as(kind: Kind, nodes: u8) -> Self {
        let data = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder for Cassandra: {error}"));
        let network = loopback_network();
        let mut server = Self { kind, nodes: Vec::new(), network, data };
        if kind == Kind::Guarded {
            TestCertificates::make(server.data.path(), &server.address(0));
        }
        for node in 0..nodes {
            let process = server.launch(usize::from(node), &[]).await;
            server.nodes.push(process);
        }
        server.until_all_are_up().await;
        server
    }

    fn address(&self, node: usize) -> String {
        format!("{}.{}", self.network, node + 1)
    }

    /// Returns the address that the node tells its clients.
    fn broadcast(&self, node: usize) -> String {
        match self.kind {
            Kind::BehindProxy => format!("{}.{}:{PORT}", self.network, node + 101),
            Kind::Durable | Kind::Guarded | Kind::Shared => format!("{}:{PORT}", self.address(node)),
        }
    }

    /// Returns the addresses of all nodes for CQL, as `host:port`.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        (0..self.nodes.len()).map(|node| format!("{}:{PORT}", self.address(node))).collect()
    }

    /// Sends a signal to a node (`STOP` freezes it, `CONT` lets it go on).
    pub fn signal(&self, node: usize, signal: &str) {
        self.nodes[node].signal(signal);
    }

    /// Kills a node at once, and waits until it has ended.
    pub async fn kill9(&mut self, node: usize) {
        self.nodes[node].kill_group();
        self.nodes[node].ended().await;
    }

    /// Starts a node again on its address and data, after [`CassandraServer::kill9`].
    pub async fn start_again(&mut self, node: usize) {
        self.nodes[node] = self.launch(node, &[TORN_END]).await;
        self.until_all_are_up().await;
    }

    /// Waits until each node sees that all others are up.
    async fn until_all_are_up(&mut self) {
        let addresses: Vec<String> = (0..self.nodes.len()).map(|node| format!("/{}:", self.address(node))).collect();
        for (node, process) in self.nodes.iter_mut().enumerate() {
            for (_, peer) in addresses.iter().enumerate().filter(|(other, _)| *other != node) {
                let is_up = |lines: &[String]| {
                    let said = lines.iter().rfind(|line| line.contains(peer) && line.contains(" is now "))?;
                    said.contains(" is now UP").then_some(())
                };
                process.printed(START, &format!("that {peer} is up"), is_up).await;
            }
        }
    }

    async fn launch(&self, node: usize, options: &[&str]) -> Process {
        let data = self.data.path().join(node.to_string());
        let written = std::fs::create_dir_all(&data).and_then(|()| write_config(self, node, &data));
        written.unwrap_or_else(|error| panic!("cannot write the configuration of Cassandra: {error}"));
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("cassandra");
        let mut command = Command::new(java());
        command
            .arg(format!("@{}", sources.join("jvm.options").display()))
            .arg(format!("-Dlogback.configurationFile={}", sources.join("logback.xml").display()))
            .arg(format!("-Dcassandra.config=file:{}", data.join("cassandra.yaml").display()))
            .arg(format!("-Dcassandra.storagedir={}", data.display()))
            .args(self.kind.options())
            .args(options)
            .args(["-cp", &format!("{}/*", jars().display()), "org.apache.cassandra.service.CassandraDaemon"])
            .current_dir(&data);
        let mut process = Process::start("Cassandra", command);
        let is_ready = |lines: &[String]| {
            lines.iter().any(|line| line.contains("Starting listening for CQL clients")).then_some(())
        };
        process.printed(START, "that it listens", is_ready).await;
        // It prints that before it does.
        let address = format!("{}:{PORT}", self.address(node));
        within(START, "Cassandra takes connections", async {
            while TcpStream::connect(&address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        process
    }
}

fn write_config(server: &CassandraServer, node: usize, data: &Path) -> std::io::Result<()> {
    let config = include_str!("../cassandra/cassandra.yaml")
        .replace("@seed@", &server.address(0))
        .replace("@address@", &server.address(node))
        .replace("@broadcast@", server.broadcast(node).trim_end_matches(&format!(":{PORT}")))
        .replace("@commitlog_sync@", server.kind.commitlog_sync())
        .replace("@auto_bootstrap@", if node == 0 { "true" } else { "false" })
        .replace("@data@", &data.display().to_string());
    let guarded = match server.kind {
        Kind::Guarded => format!("{config}{}", TestCertificates::in_folder(server.data.path()).settings()),
        _ => config,
    };
    std::fs::write(data.join("cassandra.yaml"), guarded)
}

fn java() -> PathBuf {
    in_path("java").unwrap_or_else(|| panic!("there is no Java; run: tests/tools cassandra"))
}

fn jars() -> PathBuf {
    let jars = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/cassandra/lib");
    assert!(jars.is_dir(), "there is no Cassandra; run: tests/tools cassandra");
    jars
}

/// Returns the addresses of the database that all tests of this process share: the one that `SENDPI_TEST_CQL` names
/// (`host:port`, or several with commas), else a node of Cassandra that ends with the process.
pub(crate) fn shared() -> &'static [String] {
    static SHARED: OnceLock<Vec<String>> = OnceLock::new();
    SHARED.get_or_init(|| {
        if let Ok(named) = std::env::var("SENDPI_TEST_CQL")
            && !named.is_empty()
        {
            return named.split(',').map(str::to_owned).collect();
        }
        let (tell, told) = std::sync::mpsc::channel();
        // The runtime of a test ends with the test.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap_or_else(|error| panic!("cannot start a runtime: {error}")).block_on(async {
                let server = CassandraServer::start_as(Kind::Shared, 1).await;
                let _ = tell.send(server.addresses());
                std::future::pending::<()>().await;
            });
        });
        told.recv().unwrap_or_else(|_| panic!("Cassandra did not start"))
    })
}
