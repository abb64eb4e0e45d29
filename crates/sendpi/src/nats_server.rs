//! The NATS server that `sendpi dev` runs as a child process. If it ends, it is started again on the same port.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sendpi_bus::{NATS_VERSIONS, is_safe_nats};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// How long the server may take to become ready.
const READY: Duration = Duration::from_secs(20);
/// How long the server may take to stop.
const STOP: Duration = Duration::from_secs(10);

/// The reason why there is no NATS server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NatsServerError {
    /// No program was found.
    #[error("no nats-server was found in PATH or .tools/bin; `make run` installs one, or name it with --nats-server")]
    Missing,
    /// The server could not be started, or its files could not be prepared.
    #[error("cannot start {path}: {source}")]
    Start {
        /// The program.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The program is too old to be trusted with durable data.
    #[error("{path} is nats-server {found}; it must be {NATS_VERSIONS}")]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// A server that an earlier run left behind does not end, and two servers must never write the same files.
    #[error("the nats-server of an earlier run, process {pid}, does not stop; end it, then start Sendpi again")]
    EarlierRuns {
        /// Its process id.
        pid: String,
    },
    /// The server did not become ready. Holds the last line of its output, or what failed.
    #[error("nats-server did not become ready: {0}")]
    NotReady(String),
}

/// A running NATS server.
#[derive(Debug)]
pub(crate) struct NatsChild {
    url: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl NatsChild {
    /// Starts the server on a free port of the loopback address, with its files in `dir`. If `path` is `None`, looks
    /// for the program in PATH and `.tools/bin`.
    ///
    /// # Errors
    /// [`NatsServerError`], which says what to install or to change.
    pub(crate) async fn start(path: Option<PathBuf>, dir: &Path) -> Result<Self, NatsServerError> {
        let path = path.or_else(find).ok_or(NatsServerError::Missing)?;
        check_version(&path).await?;
        let started = |source| NatsServerError::Start { path: path.clone(), source };
        std::fs::create_dir_all(dir).map_err(started)?;
        end_earlier(&path, dir, STOP).await?;
        let launch = Launch { path: path.clone(), dir: dir.to_owned() };
        let (child, port) = launch.start(None).await?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(launch.keep(child, port, stop.clone()));
        Ok(Self { url: format!("nats://127.0.0.1:{port}"), stop, task })
    }

    /// Returns the URL to which clients of NATS connect.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Stops the server in order.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::warn!(%error, "the task that keeps nats-server running failed");
        }
    }

    /// Kills the server.
    pub(crate) async fn kill(self) {
        // The task drops the child, which kills it.
        self.task.abort();
        self.task.await.ok();
    }
}

fn find() -> Option<PathBuf> {
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&in_path)
        .map(|dir| dir.join("nats-server"))
        .chain([PathBuf::from(".tools/bin/nats-server")])
        .find(|path| path.is_file())
}

async fn check_version(path: &Path) -> Result<(), NatsServerError> {
    let output = Command::new(path)
        .arg("--version")
        .output()
        .await
        .map_err(|source| NatsServerError::Start { path: path.to_owned(), source })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.trim().rsplit(['v', ' ']).next().unwrap_or_default().to_owned();
    if is_safe_nats(&found) { Ok(()) } else { Err(NatsServerError::TooOld { path: path.to_owned(), found }) }
}

/// Ends a server that may still run because its `sendpi` was killed. Fails if it does not end within `limit`.
async fn end_earlier(path: &Path, dir: &Path, limit: Duration) -> Result<(), NatsServerError> {
    let pid_file = dir.join("pid");
    let Ok(pid) = std::fs::read_to_string(&pid_file) else { return Ok(()) };
    let proc = PathBuf::from("/proc").join(pid.trim());
    let ours = || {
        std::fs::read(proc.join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&*dir.join("nats.conf").to_string_lossy()))
    };
    if !ours() {
        return Ok(());
    }
    tracing::info!(pid = pid.trim(), "stopping the NATS server that an earlier run left behind");
    let stopped = Command::new(path).arg("--signal").arg(format!("stop={}", pid_file.display())).output().await;
    if let Err(error) = stopped {
        tracing::warn!(%error, "cannot tell the earlier NATS server to stop");
    }
    let end = Instant::now() + limit;
    while ours() {
        if Instant::now() >= end {
            return Err(NatsServerError::EarlierRuns { pid: pid.trim().to_owned() });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

struct Launch {
    path: PathBuf,
    dir: PathBuf,
}

impl Launch {
    /// Starts the server on `port`, or on a free one, and waits until it is ready. Returns its process and port.
    async fn start(&self, port: Option<u16>) -> Result<(Child, u16), NatsServerError> {
        let started = |source| NatsServerError::Start { path: self.path.clone(), source };
        let config = self.dir.join("nats.conf");
        std::fs::write(&config, config_text(port, &self.dir)).map_err(started)?;
        let ports = self.dir.join("ports");
        if ports.exists() {
            // A server that was killed leaves its file behind.
            std::fs::remove_dir_all(&ports).map_err(started)?;
        }
        std::fs::create_dir(&ports).map_err(started)?;
        let mut child = Command::new(&self.path)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A terminal signals the whole process group. Only Sendpi must get the signal, and then it ends its server.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(started)?;
        let Some(stderr) = child.stderr.take() else {
            return Err(NatsServerError::NotReady("its output cannot be read".to_owned()));
        };
        let mut lines = BufReader::new(stderr).lines();
        let mut last = String::new();
        let ready = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("Server is ready") {
                    return wait_for_port(&ports).await;
                }
                last = line;
            }
            None
        };
        let Ok(Some(port)) = timeout(READY, ready).await else { return Err(NatsServerError::NotReady(last)) };
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("[ERR]") || line.contains("[FTL]") || line.contains("[WRN]") {
                    tracing::warn!("nats-server: {line}");
                }
            }
        });
        Ok((child, port))
    }

    /// Restarts the server whenever it ends, until `stop` is cancelled.
    async fn keep(self, mut child: Child, port: u16, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                status = child.wait() => tracing::error!(?status, "nats-server ended; restarting it"),
            }
            loop {
                match self.start(Some(port)).await {
                    Ok((again, _)) => {
                        child = again;
                        break;
                    }
                    Err(error) => tracing::error!(%error, "nats-server does not start; trying again"),
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
                if stop.is_cancelled() {
                    return;
                }
            }
        }
        let pid_file = self.dir.join("pid");
        let stopped =
            Command::new(&self.path).arg("--signal").arg(format!("stop={}", pid_file.display())).output().await;
        let ended = timeout(STOP, child.wait()).await;
        if stopped.is_err() || ended.is_err() {
            tracing::warn!("nats-server did not stop when it was told to; killing it");
        }
    }
}

/// Waits for the file that the server writes into `dir` once it listens, and returns the port that it names.
async fn wait_for_port(dir: &Path) -> Option<u16> {
    loop {
        // The file may be there and not be complete yet.
        if let Some(port) = std::fs::read_dir(dir).ok()?.flatten().find_map(|file| port_in(&file.path())) {
            return Some(port);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns the port for clients in `{"nats":["nats://127.0.0.1:4222"]}`.
fn port_in(file: &Path) -> Option<u16> {
    let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
}

fn config_text(port: Option<u16>, dir: &Path) -> String {
    // The server picks a free port itself: one that was found before it starts may be taken meanwhile.
    let port = port.map_or("-1".to_owned(), |port| port.to_string());
    let dir = dir.display();
    format!(
        r#"# Written by `sendpi dev` at each start.
listen: "127.0.0.1:{port}"
pid_file: "{dir}/pid"
ports_file_dir: "{dir}/ports"
ping_interval: "5s"
ping_max: 2
jetstream {{
  store_dir: "{dir}/jetstream"
  sync_interval: always
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_earlier_server_that_does_not_stop_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        // The command line shows that it is ours, and `true --signal` does not end it.
        let mut earlier = Command::new("sleep");
        earlier.arg0(dir.path().join("nats.conf")).arg("60").kill_on_drop(true);
        let mut earlier = earlier.spawn().unwrap();
        let pid = earlier.id().unwrap().to_string();
        std::fs::write(dir.path().join("pid"), &pid).unwrap();
        // The kernel shows a command line only a moment after the process was started.
        let shown = || std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
        timeout(READY, async {
            while !shown() {
                tokio::task::yield_now().await
            }
        })
        .await
        .unwrap();
        let limit = Duration::from_millis(100);
        let ended = end_earlier(Path::new("true"), dir.path(), limit).await;
        assert!(matches!(ended, Err(NatsServerError::EarlierRuns { pid: told }) if told == pid));
        earlier.kill().await.unwrap();
        assert!(end_earlier(Path::new("true"), dir.path(), limit).await.is_ok());
    }
}
