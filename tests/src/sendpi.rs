//! A test's own Sendpi, which is a `sendpi dev`. If the variable `SENDPI_TEST_STORE` is `cql`, it keeps everything in a
//! keyspace of its own, unless the test is about the embedded store.

use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sendpi_model::faults::{BusFault, FailPoint, Mutant};
use sendpi_store::Store;
use sendpi_store::cql::Cql;
use sendpi_store::embedded::Embedded;
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Process, kill, libfaketime, nats_server};
use crate::test_store::is_cql;
use crate::{Keyspace, SmallDisk, get, within};

const START: Duration = Duration::from_secs(60);

/// How to start a Sendpi.
#[derive(Debug, Clone)]
pub struct SendpiSetup {
    /// The number of nodes.
    pub nodes: usize,
    /// How often the server sends each session a heartbeat.
    pub heartbeat: Duration,
    /// The promise to break. If `None`, the environment variable `SENDPI_MUTANT` decides.
    pub mutant: Option<Mutant>,
    /// The URL of a running NATS server. If `None`, Sendpi starts its own.
    pub nats: Option<String>,
    /// The size of a disk of its own for the store. If `None`, the store is where the other data is.
    pub store_mib: Option<u32>,
    /// The keyspace of its store. If `None`, the variable `SENDPI_TEST_STORE` decides.
    pub keyspace: Option<Arc<Keyspace>>,
    /// Whether [`Sendpi::set_clock`] sets the clock of Sendpi. This needs libfaketime.
    pub own_clock: bool,
    /// Further arguments of `sendpi dev`.
    pub args: Vec<String>,
    /// Whether clients are held to the rates.
    pub rates: bool,
    /// Whether it posts push notifications. If not, push jobs stay in their queue.
    pub push: bool,
    /// Whether nobody reads its standard output, which is closed at once.
    pub unread_output: bool,
}

impl Default for SendpiSetup {
    fn default() -> Self {
        Self {
            nodes: 1,
            heartbeat: Duration::from_secs(25),
            mutant: None,
            nats: None,
            store_mib: None,
            keyspace: None,
            own_clock: false,
            args: Vec::new(),
            push: false,
            rates: false,
            unread_output: false,
        }
    }
}

/// A running `sendpi dev` with its own data and, unless the setup names one, its own NATS server.
/// Dropping it ends every process that it started.
#[derive(Debug)]
pub struct Sendpi {
    setup: SendpiSetup,
    process: Process,
    urls: Vec<String>,
    store_disk: Option<SmallDisk>,
    data: TempDir,
}

impl Sendpi {
    /// Starts a Sendpi with one node.
    ///
    /// # Panics
    /// If the binary has not been built or does not start.
    pub async fn start() -> Self {
        Self::start_with(SendpiSetup::default()).await
    }

    /// Starts a Sendpi as `setup` says.
    ///
    /// # Panics
    /// If the binary has not been built or does not start.
    pub async fn start_with(mut setup: SendpiSetup) -> Self {
        if setup.keyspace.is_none() && setup.store_mib.is_none() && is_cql() {
            setup.keyspace = Some(Arc::new(Keyspace::make().await));
        }
        Self::start_as(setup).await
    }

    async fn start_as(setup: SendpiSetup) -> Self {
        let data = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder for Sendpi: {error}"));
        let store_disk = setup.store_mib.map(|mib| SmallDisk::mount(&data.path().join("sendpi/store"), mib));
        set_clock(&data, 0);
        let (process, urls) = launch(&setup, &data, 0).await;
        Self { setup, process, urls, store_disk, data }
    }

    /// Starts a Sendpi with the embedded store, whatever the variable `SENDPI_TEST_STORE` says.
    ///
    /// # Panics
    /// If the binary has not been built or does not start.
    pub async fn start_embedded(setup: SendpiSetup) -> Self {
        Self::start_as(setup).await
    }

    /// Returns the disk of the store.
    ///
    /// # Panics
    /// If the setup asked for none.
    #[must_use]
    pub fn store_disk(&self) -> &SmallDisk {
        self.store_disk.as_ref().unwrap_or_else(|| panic!("the setup has no disk for the store"))
    }

    /// Returns the address of the first node.
    #[must_use]
    pub fn url(&self) -> &str {
        self.node(0)
    }

    /// Returns the address of the node with this index, counted from 0.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn node(&self, index: usize) -> &str {
        &self.urls[index]
    }

    /// Returns a token for `user`.
    ///
    /// # Panics
    /// If the server does not issue one.
    pub async fn token(&self, user: &str) -> String {
        token(self.url(), user, "").await
    }

    /// Returns a token for a service.
    ///
    /// # Panics
    /// If the server does not issue one.
    pub async fn service_token(&self, service: &str) -> String {
        token(self.url(), service, "&service=true").await
    }

    /// Returns a token for `user` that expires after `seconds`.
    ///
    /// # Panics
    /// If the server does not issue one.
    pub async fn short_token(&self, user: &str, seconds: u64) -> String {
        token(self.url(), user, &format!("&seconds={seconds}")).await
    }

    /// Stops Sendpi as an operator would, waits until it has ended, and returns how.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.process.signal("TERM");
        self.process.ended().await
    }

    /// Kills Sendpi at once, and waits until it has ended. Its NATS server lives on until Sendpi is started again.
    pub async fn kill9(&mut self) {
        self.process.kill_group();
        self.process.ended().await;
    }

    /// Kills Sendpi at once, and then its NATS server.
    pub async fn kill9_all(&mut self) {
        self.kill9().await;
        self.kill_nats();
    }

    /// Kills the NATS server that Sendpi started. A running Sendpi starts it again.
    pub fn kill_nats(&self) {
        let folder = self.data.path().join("sendpi/nats");
        let Ok(pid) = std::fs::read_to_string(folder.join("pid")) else { return };
        // Another process may have this pid by now.
        let command = std::fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains(&*folder.to_string_lossy()) {
            kill("KILL", pid.trim());
        }
    }

    /// Kills one of several nodes, as a power cut would. The others go on.
    ///
    /// # Panics
    /// If the process does not say that it did.
    pub async fn kill_node(&mut self, index: usize) {
        self.process.write_line(&format!("kill {index}")).await;
        let killed = format!("killed {}", self.urls[index]);
        self.process.printed(START, &killed, |lines| lines.iter().find(|line| **line == killed).map(drop)).await;
    }

    /// Sends a signal to the process (`STOP` freezes it, `CONT` lets it go on).
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Starts Sendpi again on the same data after it has ended. A single node keeps its address.
    pub async fn start_again(&mut self) {
        let _ = std::fs::remove_file(self.fail_point_file());
        let port = match self.urls.as_slice() {
            [url] => url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0),
            _ => 0,
        };
        (self.process, self.urls) = launch(&self.setup, &self.data, port).await;
    }

    /// Sets the wall clock of Sendpi this many seconds ahead of the machine's. Clocks that never fall are not changed.
    ///
    /// # Panics
    /// If the setup does not give Sendpi a clock of its own, or the file that sets it cannot be written.
    pub fn set_clock(&self, ahead: u64) {
        assert!(self.setup.own_clock, "this Sendpi has no clock of its own");
        set_clock(&self.data, ahead);
    }

    /// Makes the process end, as if it were killed, when it next reaches `point`. [`Sendpi::ended`] waits for that.
    ///
    /// # Panics
    /// If the file that arms the fail point cannot be written.
    pub fn fail_at(&self, point: FailPoint) {
        let written = std::fs::write(self.fail_point_file(), format!("{point:?}"));
        written.unwrap_or_else(|error| panic!("cannot set a fail point: {error}"));
    }

    /// Plays a failure of the bus until [`Sendpi::all_well`]. A failure that happens only once ends by itself.
    ///
    /// # Panics
    /// If the file that names the failure cannot be written.
    pub fn play(&self, bus_fault: BusFault) {
        let written = std::fs::write(self.fail_point_file(), format!("{bus_fault:?}"));
        written.unwrap_or_else(|error| panic!("cannot play a failure: {error}"));
    }

    /// Ends what [`Sendpi::play`] began.
    pub fn all_well(&self) {
        let _ = std::fs::remove_file(self.fail_point_file());
    }

    /// Waits until the process has printed at least `times` lines that contain `text`.
    ///
    /// # Panics
    /// If it does not do so in time.
    pub async fn until_logged(&mut self, text: &str, times: usize) {
        let enough =
            |lines: &[String]| (lines.iter().filter(|line| line.contains(text)).count() >= times).then_some(());
        self.process.printed(START, text, enough).await;
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

    /// Runs the binary with these arguments until it ends by itself, and returns its output.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn run(args: &[&str]) -> Output {
        let running = Command::new(sendpi_binary()).args(args).stdin(Stdio::null()).kill_on_drop(true).output();
        within(START, "sendpi ends by itself", running).await.unwrap_or_else(|error| panic!("cannot run it: {error}"))
    }

    /// Returns the folder with its data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.data.path().join("sendpi")
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self) {
        self.process.ended().await;
    }

    /// Opens the store, after Sendpi has ended.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub async fn store(&self) -> Arc<dyn Store> {
        match &self.setup.keyspace {
            Some(keyspace) => {
                let store = Cql::open(keyspace.config()).await;
                Arc::new(store.unwrap_or_else(|error| panic!("cannot open the store: {error}")))
            }
            None => {
                let store = Embedded::open(self.data.path().join("sendpi/store"));
                Arc::new(store.unwrap_or_else(|error| panic!("cannot open the store: {error}")))
            }
        }
    }

    fn fail_point_file(&self) -> PathBuf {
        self.data.path().join("fail-point")
    }
}

impl Drop for Sendpi {
    fn drop(&mut self) {
        // Sendpi goes first, because a running one would start NATS again.
        self.process.kill_group();
        self.kill_nats();
    }
}

async fn launch(setup: &SendpiSetup, data: &TempDir, port: u16) -> (Process, Vec<String>) {
    let mut command = Command::new(sendpi_binary());
    command.args(["dev", "--kill-from-stdin", "--port", &port.to_string(), "--nodes", &setup.nodes.to_string()]);
    command.args(["--heartbeat", &format!("{}ms", setup.heartbeat.as_millis())]).args(&setup.args);
    command.arg("--data").arg(data.path().join("sendpi")).arg("--nats-server").arg(nats_server());
    command.env("SENDPI_FAIL_POINT_FILE", data.path().join("fail-point"));
    command.env("RUST_LOG", "info,sendpi_channel=debug,async_nats=warn,fjall=warn,lsm_tree=warn");
    if !setup.rates {
        command.arg("--no-rates");
    }
    if !setup.push {
        command.arg("--no-push");
    }
    if let Some(nats) = &setup.nats {
        command.args(["--nats", nats]);
    }
    if let Some(keyspace) = &setup.keyspace {
        command.args(["--cql", &keyspace.address()]);
    }
    if let Some(mutant) = setup.mutant {
        command.env("SENDPI_MUTANT", format!("{mutant:?}"));
    }
    if setup.own_clock {
        command.env("LD_PRELOAD", libfaketime()).env("FAKETIME_TIMESTAMP_FILE", clock_file(data));
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
    // With `--nats` there is no such file.
    let pid_file = data.path().join("sendpi/nats/pid");
    let mut process = Process::start_with("sendpi", command, Some(&pid_file), !setup.unread_output);
    let nodes = setup.nodes;
    // Without its standard output the log says it as well.
    let address = if setup.unread_output { logged_address } else { listening };
    let urls = process
        .printed(START, "where it listens", |lines| {
            let urls: Vec<_> = lines.iter().filter_map(|line| address(line)).collect();
            (urls.len() == nodes).then_some(urls)
        })
        .await;
    (process, urls)
}

fn clock_file(data: &TempDir) -> PathBuf {
    data.path().join("clock")
}

fn set_clock(data: &TempDir, ahead: u64) {
    let written = std::fs::write(clock_file(data), format!("+{ahead}"));
    written.unwrap_or_else(|error| panic!("cannot set the clock: {error}"));
}

/// Returns the address in a line that contains text like `listening on http://127.0.0.1:8080`.
pub(crate) fn listening(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("listening on http://")?;
    let address = rest.split(|c: char| c.is_whitespace() || c == '\u{1b}').next()?;
    Some(format!("http://{}", address.trim_end_matches(['/', '.', ',', '"'])))
}

/// Returns the address in the log line of a node that is up.
fn logged_address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("a node is up")?.1.split_once("address=")?;
    Some(format!("http://{}", rest.split_whitespace().next()?))
}

/// Returns the path of the binary that was built beside this test.
///
/// # Panics
/// If it was not built.
#[must_use]
pub fn sendpi_binary() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_else(|error| panic!("cannot find the path of this test: {error}"));
    let binary = test.parent().and_then(|deps| deps.parent()).map(|profile| profile.join("sendpi"));
    match binary.filter(|file| file.is_file()) {
        Some(file) => file,
        None => {
            panic!("the sendpi binary is not built; run `make test`, or cargo build --features sendpi/faults first")
        }
    }
}

async fn token(url: &str, user: &str, options: &str) -> String {
    let user: String = user.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let path = format!("/dev/token?user={user}{options}");
    let answer = within(Duration::from_secs(10), "a token", get(url, &path, &[])).await;
    let answer = answer.unwrap_or_else(|error| panic!("no token: {error}"));
    assert_eq!(answer.status, 200, "no token: {}", answer.body);
    answer.body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_a_log_line() {
        for line in ["node n1 listening on http://127.0.0.1:8080", "x listening on http://127.0.0.1:8080/ (dev)"] {
            assert_eq!(listening(line).as_deref(), Some("http://127.0.0.1:8080"));
        }
        assert_eq!(listening("listening on nats://127.0.0.1:1"), None);
    }
}
