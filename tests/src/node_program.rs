//! A program on `sendpi.js` in Node.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Process, in_path};
use crate::{Sendpi, get, within};

/// How long the program may take for one thing.
const LIMIT: Duration = Duration::from_secs(60);

/// A running program, which follows one room. Dropping it ends the process.
#[derive(Debug)]
pub struct NodeProgram {
    process: Process,
    _folder: TempDir,
}

impl NodeProgram {
    /// Starts the program with the client that `server` serves. It connects to `url`, and its tokens last `seconds`.
    ///
    /// # Panics
    /// If there is no Node that has WebSockets, in which case the message says what to install.
    pub async fn start(server: &Sendpi, url: &str, user: &str, room: &str, seconds: u64) -> Self {
        let node = in_path("node").unwrap_or_else(|| panic!("there is no Node; install Node 20.10 or newer"));
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder: {error}"));
        save_client(server, folder.path()).await;
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/src/node_program.mjs");
        let mut command = Command::new(node);
        command.args(["--experimental-websocket", "--no-warnings", program]).arg(folder.path()).args([url, user, room]);
        command.env("TOKENS", server.url()).env("SECONDS", seconds.to_string());
        let process = Process::start("node", command);
        Self { process, _folder: folder }
    }

    /// Gives the program a command: `send <text>`, `typing`, `read` or `close`.
    pub async fn tell(&mut self, command: &str) {
        self.process.write_line(command).await;
    }

    /// Waits until the program has printed a line that begins so.
    ///
    /// # Panics
    /// If it does not do so in time.
    pub async fn until(&mut self, line: &str) {
        self.process
            .printed(LIMIT, line, |lines| lines.iter().find(|printed| printed.starts_with(line)).map(drop))
            .await;
    }

    /// Returns how many lines that begin so the program has printed.
    #[must_use]
    pub fn count(&self, line: &str) -> usize {
        self.process.lines().iter().filter(|printed| printed.starts_with(line)).count()
    }

    /// Returns the events that were printed, in order: seq and text.
    #[must_use]
    pub fn events(&self) -> Vec<(u64, String)> {
        let event = |line: &String| {
            let (seq, text) = line.strip_prefix("event ")?.split_once(' ')?;
            Some((seq.parse().ok()?, text.to_owned()))
        };
        self.process.lines().iter().filter_map(event).collect()
    }
}

/// Saves the client that a server serves, as a module that Node can load.
async fn save_client(server: &Sendpi, folder: &Path) {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        let made = path.parent().map(std::fs::create_dir_all).transpose().and_then(|_| std::fs::write(path, text));
        made.unwrap_or_else(|error| panic!("cannot save {name}: {error}"));
    };
    write("package.json", r#"{"type":"module"}"#);
    for name in ["sendpi.js", "sendpi/connection.js", "sendpi/outbox.js", "sendpi/room.js"] {
        let answer = within(LIMIT, "the client", get(server.url(), &format!("/v1/{name}"), &[])).await;
        let answer = answer.unwrap_or_else(|error| panic!("no {name}: {error}"));
        assert_eq!(answer.status, 200, "{name}");
        write(name, &answer.body);
    }
}
