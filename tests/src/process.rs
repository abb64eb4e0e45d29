//! Child processes that end with the test, however it ends.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use crate::test_log::TestLog;
use crate::within::{at_step, within};

/// How many lines of each process's output a failed test shows.
const SHOWN: usize = 80;
/// How long a process may take to end after it was told to end.
const END: Duration = Duration::from_secs(30);

/// Returns the first three numbers of loopback addresses that nobody else on this machine uses, except by a chance of
/// one in 32,768.
#[must_use]
pub fn loopback_network() -> String {
    let [a, b] = rand::random::<[u8; 2]>();
    format!("127.{}.{b}", a | 1)
}

/// A running child, the leader of its own process group, with everything that it printed.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    /// Kept apart from `child`, because waiting for a child closes its standard input.
    stdin: Option<ChildStdin>,
    group: u32,
    output: watch::Sender<Vec<String>>,
    watchdog: Watchdog,
}

impl Process {
    /// Starts `command`.
    ///
    /// # Panics
    /// If the command cannot be started.
    pub(crate) fn start(name: &str, command: Command) -> Self {
        Self::start_with(name, command, None, true)
    }

    /// Starts `command`. `pid_file` is that of a server that it starts and that outlives it. Its standard output is
    /// closed at once unless `read_output` is set.
    ///
    /// # Panics
    /// If the command cannot be started.
    pub(crate) fn start_with(name: &str, mut command: Command, pid_file: Option<&Path>, read_output: bool) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let output = watch::Sender::new(Vec::new());
        let (stdin, group) = (child.stdin.take(), child.id().unwrap_or_default());
        let log = TestLog::open(&format!("{group}-{name}"));
        if let Some(stdout) = child.stdout.take().filter(|_| read_output) {
            tokio::spawn(pump(stdout, output.clone(), log.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(pump(stderr, output.clone(), log));
        }
        Self { name: name.to_owned(), child, stdin, group, output, watchdog: Watchdog::start(group, pid_file) }
    }

    /// Waits until `find` returns `Some` for the lines printed so far, and returns the value.
    ///
    /// # Panics
    /// If the process ends before that, or if it takes longer than `limit`.
    pub(crate) async fn printed<T>(&mut self, limit: Duration, what: &str, find: impl Fn(&[String]) -> Option<T>) -> T {
        self.try_printed(limit, what, find).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits like [`Self::printed`], and returns as an error why there is nothing to wait for.
    pub(crate) async fn try_printed<T>(
        &mut self,
        limit: Duration,
        what: &str,
        find: impl Fn(&[String]) -> Option<T>,
    ) -> Result<T, String> {
        let mut output = self.output.subscribe();
        let found = async {
            loop {
                if let Some(found) = find(&output.borrow_and_update()) {
                    return Ok(found);
                }
                tokio::select! {
                    _ = output.changed() => {}
                    status = self.child.wait() => return Err(status),
                }
            }
        };
        match tokio::time::timeout(limit, found).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(status)) => Err(format!("{} ended before it printed {what}: {status:?}", self.name)),
            Err(_) => Err(format!("not within {limit:?}: {} prints {what}{}", self.name, at_step())),
        }
    }

    /// Returns the lines printed so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.output.borrow().clone()
    }

    /// Writes a line to the process's standard input.
    ///
    /// # Panics
    /// If the process no longer reads its input.
    pub(crate) async fn write_line(&mut self, line: &str) {
        let Some(stdin) = self.stdin.as_mut() else { panic!("{} has no standard input", self.name) };
        let written = stdin.write_all(format!("{line}\n").as_bytes()).await;
        written.unwrap_or_else(|error| panic!("{} no longer reads its input: {error}", self.name));
    }

    /// Sends a signal to the process, not to its group.
    pub(crate) fn signal(&self, signal: &str) {
        if let Some(pid) = self.child.id() {
            kill(signal, &pid.to_string());
        }
    }

    /// Returns whether the process is frozen.
    pub(crate) fn is_frozen(&self) -> bool {
        let Some(pid) = self.child.id() else { return false };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Its name may contain anything, and is in brackets.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Kills the process and everything that it started in its group.
    pub(crate) fn kill_group(&self) {
        if self.group != 0 {
            kill("KILL", &format!("-{}", self.group));
        }
    }

    /// Returns whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until the process has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let ended = within(END, &format!("{} ends", self.name), self.child.wait()).await;
        ended.unwrap_or_else(|error| panic!("cannot wait for {}: {error}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.output.borrow();
            let shown = &lines[lines.len().saturating_sub(SHOWN)..];
            eprintln!("---- the end of what {} printed ----\n{}\n----", self.name, shown.join("\n"));
        }
        self.kill_group();
        self.watchdog.dismiss();
    }
}

/// A shell that kills a process group, and the server whose pid is in a file, when this test process is killed. It
/// waits for the end of its standard input, which the kernel closes with the only process that holds the other end.
#[derive(Debug)]
struct Watchdog(std::process::Child);

/// Any line ends the watchdog without killing. The command line shows whether the pid is still the server's.
const WATCHDOG: &str = r#"
read -r line && exit
kill -s KILL -- "-$1"
[ -n "$2" ] && pid=$(cat "$2") && grep -qF -- "${2%/*}" "/proc/$pid/cmdline" && kill -s KILL "$pid"
"#;

impl Watchdog {
    fn start(group: u32, pid_file: Option<&Path>) -> Self {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", WATCHDOG, "watchdog", &group.to_string()]).args(pid_file);
        // What ends the test from a terminal must not end the watchdog too.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("cannot start a shell: {error}")))
    }

    /// Ends the watchdog.
    fn dismiss(&mut self) {
        if let Some(stdin) = self.0.stdin.as_mut() {
            // If this fails, the watchdog was killed.
            let _ = stdin.write_all(b"\n");
        }
        let _ = self.0.wait();
    }
}

/// Sends a signal with the shell's builtin `kill`, because not every machine has the program of that name.
pub(crate) fn kill(signal: &str, target: &str) {
    let command = format!("kill -s {signal} -- {target}");
    // If this fails, the process is already gone, which serves as well.
    let _ = std::process::Command::new("sh").args(["-c", &command]).stderr(Stdio::null()).status();
}

/// How many lines of a process are kept.
const KEPT: usize = 100_000;

async fn pump(from: impl AsyncRead + Unpin, output: watch::Sender<Vec<String>>, log: TestLog) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        log.write(&line);
        output.send_modify(|lines| {
            if lines.len() >= KEPT {
                lines.drain(..KEPT / 2);
            }
            lines.push(line);
        });
    }
}

/// Returns the path of the program `name` if there is one in PATH.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Returns the path of nats-server: the one that `SENDPI_NATS_SERVER` names, else the one in PATH, else the one that
/// `tests/tools` installed.
///
/// # Panics
/// If there is none. The message says how to get one.
pub fn nats_server() -> PathBuf {
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/nats-server");
    let told = std::env::var_os("SENDPI_NATS_SERVER").map(PathBuf::from);
    told.into_iter()
        .chain(in_path("nats-server"))
        .chain([local])
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("there is no nats-server; run: tests/tools nats"))
}

/// Returns the path of the library that sets the clock of a process.
///
/// # Panics
/// If it is not installed. The message says how to get it.
pub(crate) fn libfaketime() -> PathBuf {
    let folders = ["x86_64-linux-gnu", "aarch64-linux-gnu", "."].map(|folder| Path::new("/usr/lib").join(folder));
    folders
        .into_iter()
        .map(|folder| folder.join("faketime/libfaketimeMT.so.1"))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("there is no libfaketime; run: tests/tools test"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variable that tells the test below that it is the process to be killed.
    const KILLED: &str = "SENDPI_KILLED_TEST";

    #[tokio::test]
    async fn the_process_that_is_killed() {
        if std::env::var_os(KILLED).is_none() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("pid");
        // The server is in a group of its own, and its command line names its folder.
        let mut server = Command::new("sleep");
        server.arg0(folder.path().join("server")).arg("600").process_group(0);
        let server = server.spawn().unwrap().id().unwrap();
        std::fs::write(&pid_file, format!("{server}\n")).unwrap();
        let mut command = Command::new("sleep");
        command.arg("600");
        let process = Process::start_with("sleep", command, Some(&pid_file), true);
        println!("\nchildren {} {server}", process.group);
        std::future::pending::<()>().await;
    }

    #[tokio::test]
    async fn children_end_with_a_test_process_that_is_killed() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "process::tests::the_process_that_is_killed", "--nocapture"]).env(KILLED, "1");
        let mut test = Process::start("a test", command);
        let children = test
            .printed(END, "its children", |lines| {
                let (_, pids) = lines.iter().find_map(|line| line.split_once("children "))?;
                pids.split(' ').map(|pid| pid.parse::<u32>().ok()).collect::<Option<Vec<_>>>()
            })
            .await;
        assert_eq!(children.len(), 2);
        test.signal("KILL");
        test.ended().await;
        // Nobody may have waited for a process that has ended.
        let ended = |pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.trim_start().starts_with('Z'))
        };
        for pid in children {
            within(END, &format!("{pid} ends"), async {
                while !ended(pid) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
            .await;
        }
    }
}
