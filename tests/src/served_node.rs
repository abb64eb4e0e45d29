//! A test's own node of a cluster, which is a `sendpi serve`.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::time::Duration;

use sendpi_model::RoomId;
use sendpi_model::faults::FreezePoint;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::Process;
use crate::sendpi::{listening, sendpi_binary};
use crate::{IssuerKey, Keyspace, NatsServer, within};

const START: Duration = Duration::from_secs(60);

/// A running `sendpi serve`. Dropping it ends it.
#[derive(Debug)]
pub struct ServedNode {
    process: Process,
    url: String,
    folder: TempDir,
}

impl ServedNode {
    /// Starts a node with these further lines of its configuration file, and these arguments.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(nats: &NatsServer, keyspace: &Keyspace, lines: &str, args: &[&str]) -> Self {
        Self::start_on(&nats.url(), 1, keyspace, lines, args).await
    }

    /// Starts a node on a cluster of NATS servers that keep each bucket and stream so many times.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start_on(nats: &str, replicas: u8, keyspace: &Keyspace, lines: &str, args: &[&str]) -> Self {
        let started = Self::try_start_on(nats, replicas, keyspace, lines, args).await;
        started.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a node like [`Self::start_on`], where what it needs may be away.
    ///
    /// # Errors
    /// What it printed, if it ends instead, or does not serve in time.
    pub async fn try_start_on(
        nats: &str,
        replicas: u8,
        keyspace: &Keyspace,
        lines: &str,
        args: &[&str],
    ) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("cannot make a folder: {error}"))?;
        let command = command(folder.path(), (nats, replicas), keyspace, lines, args);
        let mut process = Process::start("sendpi serve", command);
        let url = process.try_printed(START, "where it listens", |lines| lines.iter().find_map(|line| listening(line)));
        let url = url.await?;
        Ok(Self { process, url, folder })
    }

    /// Starts a node that does not start, and returns what it printed.
    ///
    /// # Panics
    /// If it runs on.
    pub async fn refused(nats: &NatsServer, keyspace: &Keyspace, lines: &str, args: &[&str]) -> Output {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder: {error}"));
        let mut command = command(folder.path(), (&nats.url(), 1), keyspace, lines, args);
        let ended = within(START, "sendpi serve ends by itself", command.kill_on_drop(true).output()).await;
        ended.unwrap_or_else(|error| panic!("cannot run it: {error}"))
    }

    /// Returns the address of the node.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns a token with which a user signs in.
    #[must_use]
    pub fn token(user: &str) -> String {
        IssuerKey::Rsa.sign(None, &json!({"sub": user, "exp": 4_000_000_000_u64}))
    }

    /// Kills the node at once, and waits until it has ended.
    pub async fn kill9(&mut self) {
        self.process.kill_group();
        self.process.ended().await;
    }

    /// Sends a signal to the process (`STOP` freezes it, `CONT` lets it go on).
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Has the node freeze itself when it next reaches a point with this room, or at no point. It goes on with the
    /// signal `CONT`.
    ///
    /// # Panics
    /// If the file that says so cannot be written.
    pub fn freeze_at(&self, point: Option<(FreezePoint, &RoomId)>) {
        let text = point.map(|(point, room)| format!("{point:?} {room}")).unwrap_or_default();
        let written = std::fs::write(fail_point_file(self.folder.path()), text);
        written.unwrap_or_else(|error| panic!("cannot set a freeze point: {error}"));
    }

    /// Returns whether the node is frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.process.is_frozen()
    }

    /// Returns what the process has printed so far.
    #[must_use]
    pub fn printed(&self) -> Vec<String> {
        self.process.lines()
    }

    /// Returns how many lines that contain `text` the process has printed so far.
    #[must_use]
    pub fn logged(&self, text: &str) -> usize {
        self.process.lines().iter().filter(|line| line.contains(text)).count()
    }

    /// Returns whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// Stops the node as an operator would, waits until it has ended, and returns how.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.process.signal("TERM");
        self.process.ended().await
    }
}

fn fail_point_file(folder: &Path) -> PathBuf {
    folder.join("fail-point")
}

fn command(folder: &Path, (nats, replicas): (&str, u8), keyspace: &Keyspace, lines: &str, args: &[&str]) -> Command {
    let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/keys/rs.pub");
    let config = keyspace.config();
    let text = format!(
        "listen = \"127.0.0.1:0\"\nnats = \"{nats}\"\nnats-replicas = {replicas}\ncql = {:?}\nkeyspace = \"{}\"\n\
         token-key = [\"RS256={}\"]\n{lines}\n",
        config.nodes,
        config.keyspace,
        key.display()
    );
    let file: PathBuf = folder.join("sendpi.toml");
    std::fs::write(&file, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    let mut command = Command::new(sendpi_binary());
    command.arg("serve").arg("--config").arg(file).args(args).env("RUST_LOG", "info,async_nats=warn");
    command.env("SENDPI_FAIL_POINT_FILE", fail_point_file(folder));
    command
}
