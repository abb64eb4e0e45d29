//! A database that speaks CQL: nodes of Apache Cassandra of a test's own, or one that all tests of a process share.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::process::{Process, in_path};
use crate::until;

/// How long a node may take to start. It takes about 5 s alone on a machine.
const START: Duration = Duration::from_secs(120);
/// The port at which nodes listen for CQL. Each has an address of its own.
const PORT: u16 = 9042;

/// A cluster of Cassandra nodes, each on a loopback address of its own. Dropping it ends them and deletes their data.
#[derive(Debug)]
pub struct CassandraServer {
    nodes: Vec<Process>,
    addresses: Vec<String>,
    data: TempDir,
}

impl CassandraServer {
    /// Starts a cluster of so many nodes, one after the other.
    ///
    /// # Panics
    /// If Java or Cassandra are missing (the message says how to get them), or if a node does not start.
    pub async fn start(nodes: u8) -> Self {
        let data = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder for Cassandra: {error}"));
        // Nobody else on this machine uses this network, except by a chance of one in 65,000.
        let [a, b] = rand::random::<[u8; 2]>();
        let addresses: Vec<String> = (1..=nodes).map(|node| format!("127.{}.{b}.{node}", a | 1)).collect();
        let mut server = Self { nodes: Vec::new(), addresses, data };
        for node in 0..usize::from(nodes) {
            let process = server.launch(node).await;
            server.nodes.push(process);
        }
        server
    }

    /// Returns the addresses of all nodes for CQL, as `host:port`.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.addresses.iter().map(|address| format!("{address}:{PORT}")).collect()
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
        self.nodes[node] = self.launch(node).await;
    }

    async fn launch(&self, node: usize) -> Process {
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
            .args(["-cp", &format!("{}/*", jars().display()), "org.apache.cassandra.service.CassandraDaemon"])
            .current_dir(&data);
        let mut process = Process::start("Cassandra", command);
        let is_ready = |lines: &[String]| {
            lines.iter().any(|line| line.contains("Starting listening for CQL clients")).then_some(())
        };
        process.printed(START, "that it listens", is_ready).await;
        // It prints that before it does.
        let address = (self.addresses[node].as_str(), PORT);
        until("Cassandra to take connections", async || TcpStream::connect(address).await.is_ok()).await;
        process
    }
}

fn write_config(server: &CassandraServer, node: usize, data: &Path) -> std::io::Result<()> {
    let config = include_str!("../cassandra/cassandra.yaml")
        .replace("@seed@", &server.addresses[0])
        .replace("@address@", &server.addresses[node])
        .replace("@auto_bootstrap@", if node == 0 { "true" } else { "false" })
        .replace("@data@", &data.display().to_string());
    std::fs::write(data.join("cassandra.yaml"), config)
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
                let server = CassandraServer::start(1).await;
                let _ = tell.send(server.addresses());
                std::future::pending::<()>().await;
            });
        });
        told.recv().unwrap_or_else(|_| panic!("Cassandra did not start"))
    })
}
