//! The server to be measured: a child process that runs this same program, or a server that is running already.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::time::{Instant, timeout};

use crate::{BenchArgs, BenchError, proc};

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(15);
const BROKER: &str = "nats-server";

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
    nats: Vec<u32>,
    dir: TempDir,
}

#[derive(Debug)]
pub(crate) struct BenchServer {
    /// The host and port.
    pub(crate) address: String,
    process: Option<ServerProcess>,
}

impl BenchServer {
    /// Returns a server that is running already.
    pub(crate) fn running(address: String) -> Self {
        Self { address, process: None }
    }

    /// Returns the Sendpi to be measured. Starts it, unless `args` gives an address.
    pub(crate) async fn sendpi(args: &BenchArgs) -> Result<Self, BenchError> {
        if let Some(url) = &args.url {
            let address = url.strip_prefix("http://").ok_or_else(|| BenchError::Url(url.clone()))?;
            return Ok(Self::running(address.trim_end_matches('/').to_owned()));
        }
        let (port, dir) = (free_port()?, tempfile::tempdir()?);
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["dev", "--port", &port.to_string(), "--data"])
            .arg(dir.path().join("data"))
            .args(&args.server_args);
        Self::start("sendpi dev", command, port, dir).await
    }

    /// Starts the limit.
    pub(crate) async fn limit() -> Result<Self, BenchError> {
        let (port, dir) = (free_port()?, tempfile::tempdir()?);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "--serve-limit", &port.to_string()]);
        Self::start("the limit", command, port, dir).await
    }

    async fn start(what: &'static str, mut command: Command, port: u16, dir: TempDir) -> Result<Self, BenchError> {
        let log = std::fs::File::create(dir.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let failed =
            |why: &str| BenchError::Start { what, why: format!("{why}\n{}", last_lines(&dir.path().join("log"))) };
        let (Some(pid), Some(stdout)) = (child.id(), child.stdout.take()) else {
            return Err(failed("it ended at once"));
        };
        let address = format!("127.0.0.1:{port}");
        let ready = format!("listening on http://{address}");
        let mut lines = BufReader::new(stdout).lines();
        let wait = async {
            while let Some(line) = lines.next_line().await? {
                if line.contains(&ready) {
                    return Ok(true);
                }
            }
            Ok::<_, std::io::Error>(false)
        };
        match timeout(START, wait).await {
            Ok(Ok(true)) => {}
            Ok(_) => return Err(failed("it ended")),
            Err(_) => return Err(failed("it did not say in time that it listens")),
        }
        // Later output is not needed, but it must be read, because a full pipe would stop the server.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let process = ServerProcess { nats: proc::children(pid, BROKER), child, pid, dir };
        Ok(Self { address, process: Some(process) })
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

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
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
