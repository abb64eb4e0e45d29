//! The server to be measured: a child process that runs this same program, or a server that is running already.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::time::{Instant, timeout};

use crate::database::BenchKeyspace;
use crate::{BenchArgs, BenchError, proc};

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(15);
const BROKER: &str = "nats-server";

/// How a Sendpi is started that a case needs in a special form.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ServerShape {
    /// How many nodes there are beside the first.
    pub(crate) more_nodes: usize,
    /// Further arguments for `sendpi dev`.
    pub(crate) args: &'static [&'static str],
}

/// The CPU time or memory of each part of a server.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Parts<T> {
    /// The part of the process that clients connect to.
    pub(crate) server: T,
    /// The part of the nats-server that it started.
    pub(crate) nats: T,
}

impl Parts<Duration> {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { server: self.server.saturating_sub(earlier.server), nats: self.nats.saturating_sub(earlier.nats) }
    }

    pub(crate) fn seconds(self) -> f64 {
        (self.server + self.nats).as_secs_f64()
    }
}

#[derive(Debug)]
struct ServerProcess {
    child: Child,
    pid: u32,
    /// Where a server with several nodes is told which one to kill.
    stdin: Option<ChildStdin>,
    nats: Vec<u32>,
    dir: TempDir,
}

#[derive(Debug)]
pub(crate) struct BenchServer {
    /// The host and port of each node.
    pub(crate) nodes: Vec<String>,
    process: Option<ServerProcess>,
    /// Where it keeps everything, if that is not its own store.
    pub(crate) keyspace: Option<BenchKeyspace>,
}

impl BenchServer {
    /// Returns a server that is running already.
    pub(crate) fn running(address: String) -> Self {
        Self { nodes: vec![address], process: None, keyspace: None }
    }

    /// Returns the Sendpi to be measured. Starts it, unless `args` gives an address.
    pub(crate) async fn sendpi(args: &BenchArgs, shape: ServerShape) -> Result<Self, BenchError> {
        if let Some(url) = &args.url {
            let address = url.strip_prefix("http://").ok_or_else(|| BenchError::Url(url.clone()))?;
            return Ok(Self::running(address.trim_end_matches('/').to_owned()));
        }
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["dev", "--no-push", "--no-rates", "--port", "0", "--data"]).arg(dir.path().join("data"));
        if shape.more_nodes > 0 {
            command.args(["--kill-from-stdin", "--nodes", &(shape.more_nodes + 1).to_string()]);
        }
        command.args(shape.args).args(&args.server_args);
        let keyspace = if args.cql.is_empty() { None } else { Some(BenchKeyspace::make(&args.cql).await?) };
        if let Some(keyspace) = &keyspace {
            command.args(["--cql", &keyspace.address()]);
        }
        let mut server = Self::start("sendpi dev", command, shape.more_nodes + 1, dir).await?;
        server.keyspace = keyspace;
        Ok(server)
    }

    /// Starts the limit.
    pub(crate) async fn limit() -> Result<Self, BenchError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "--serve-limit", "0"]);
        Self::start("the limit", command, 1, tempfile::tempdir()?).await
    }

    /// Starts a server that says for each of its nodes where it listens.
    async fn start(what: &'static str, mut command: Command, nodes: usize, dir: TempDir) -> Result<Self, BenchError> {
        let log = std::fs::File::create(dir.path().join("log"))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let failed =
            |why: &str| BenchError::Start { what, why: format!("{why}\n{}", last_lines(&dir.path().join("log"))) };
        let (Some(pid), Some(stdout)) = (child.id(), child.stdout.take()) else {
            return Err(failed("it ended at once"));
        };
        let mut lines = BufReader::new(stdout).lines();
        let wait = async {
            let mut addresses = Vec::new();
            while addresses.len() < nodes
                && let Some(line) = lines.next_line().await?
            {
                addresses.extend(line.split_once("listening on http://").map(|(_, address)| address.trim().to_owned()));
            }
            Ok::<_, std::io::Error>(addresses)
        };
        let addresses = match timeout(START, wait).await {
            Ok(Ok(addresses)) if addresses.len() == nodes => addresses,
            Ok(_) => return Err(failed("it ended")),
            Err(_) => return Err(failed("it did not say in time that it listens")),
        };
        // Later output is not needed, but it must be read, because a full pipe would stop the server.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let (stdin, nats) = (child.stdin.take(), proc::children(pid, BROKER));
        Ok(Self { nodes: addresses, process: Some(ServerProcess { child, pid, stdin, nats, dir }), keyspace: None })
    }

    /// Returns the host and port of the first node.
    pub(crate) fn address(&self) -> &str {
        self.nodes.first().map_or("", String::as_str)
    }

    /// Kills a node as a power cut would. Only a server with several nodes takes this.
    pub(crate) async fn kill_node(&mut self, index: usize) -> Result<(), BenchError> {
        let stdin = self.process.as_mut().and_then(|process| process.stdin.as_mut());
        let Some(stdin) = stdin else { return Err(BenchError::protocol("a server of others cannot be killed")) };
        Ok(stdin.write_all(format!("kill {index}\n").as_bytes()).await?)
    }

    /// Returns the URL of the nats-server that this server started, or `None` if there is none.
    pub(crate) fn nats_url(&self) -> Option<String> {
        let ports = self.process.as_ref()?.dir.path().join("data/nats/ports");
        let file = std::fs::read_dir(ports).ok()?.flatten().next()?.path();
        let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        Some(ports["nats"][0].as_str()?.to_owned())
    }

    /// Returns the most memory that was ever resident in the server, without its nats-server, in bytes.
    pub(crate) fn peak(&self) -> Option<u64> {
        proc::peak(self.process.as_ref()?.pid)
    }

    /// Returns the CPU time so far, or `None` for a server that this program did not start.
    pub(crate) fn cpu(&self) -> Option<Parts<Duration>> {
        let process = self.process.as_ref()?;
        let nats = process.nats.iter().filter_map(|pid| proc::cpu(*pid)).sum();
        Some(Parts { server: proc::cpu(process.pid)?, nats })
    }

    /// Returns the resident memory in bytes, or `None` for a server that this program did not start.
    pub(crate) fn resident(&self) -> Option<Parts<u64>> {
        let process = self.process.as_ref()?;
        let nats = process.nats.iter().filter_map(|pid| proc::resident(*pid)).sum();
        Some(Parts { server: proc::resident(process.pid)?, nats })
    }

    /// Returns how long the server's disk takes to sync 512 bytes, or `None` if that is not known.
    pub(crate) fn fsync(&self) -> Option<Duration> {
        fsync(self.process.as_ref()?.dir.path()).ok()
    }

    /// Ends the processes that were started, and waits for the server's.
    pub(crate) async fn stop(mut self) {
        let Some(mut process) = self.process.take() else { return };
        signal("-TERM", process.pid);
        if timeout(STOP, process.child.wait()).await.is_err() {
            // The process may be gone by now, which is just as good.
            let _ = process.child.kill().await;
        }
        process.end_brokers();
        if let Some(keyspace) = self.keyspace.take()
            && let Err(error) = keyspace.drop().await
        {
            eprintln!("the keyspace of the measurement is left over: {error}");
        }
    }
}

impl ServerProcess {
    /// Ends the nats-servers that outlived the process that started them.
    fn end_brokers(&mut self) {
        for pid in self.nats.drain(..) {
            if proc::cpu(pid).is_some() {
                signal("-KILL", pid);
            }
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.end_brokers();
    }
}

fn signal(which: &str, pid: u32) {
    // The shell has a `kill` of its own, even if no program of that name is installed. If the process is gone, it
    // needs no signal.
    let _ = Command::new("sh").args(["-c", &format!("kill {which} {pid}")]).stderr(Stdio::null()).status();
}

fn last_lines(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// Returns the median time of 21 syncs of 512 bytes each.
fn fsync(dir: &Path) -> std::io::Result<Duration> {
    use std::io::Write;
    let mut file = std::fs::File::create(dir.join("fsync"))?;
    let mut times = Vec::new();
    for _ in 0..21 {
        file.write_all(&[1; 512])?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}
