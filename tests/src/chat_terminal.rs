//! `sendpi chat` in a pseudo-terminal, which `script` of util-linux provides.

use std::time::Duration;

use tokio::process::Command;

use crate::process::Process;
use crate::sendpi_binary;

/// How long something may take to show up.
const SHOWN: Duration = Duration::from_secs(20);

/// A user at a terminal.
#[derive(Debug)]
pub struct ChatTerminal(Process);

impl ChatTerminal {
    /// Starts `sendpi chat` with these arguments at the server at `url`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(url: &str, args: &str) -> Self {
        Self::run(&format!("'{}' chat --url {url} {args}", sendpi_binary().display()))
    }

    /// Runs a line of a shell.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn run(line: &str) -> Self {
        let mut command = Command::new("script");
        command.args(["-qfec", line, "/dev/null"]).env("TERM", "xterm");
        Self(Process::start("sendpi at a terminal", command))
    }

    /// Types a line, or keys, and presses Enter.
    pub async fn enter(&mut self, keys: &str) {
        self.0.write_line(keys).await;
    }

    /// Waits until the terminal has shown a text.
    ///
    /// # Panics
    /// If it does not show it in time.
    pub async fn until_shows(&mut self, text: &str) {
        let shows = |lines: &[String]| lines.iter().any(|line| line.contains(text)).then_some(());
        self.0.printed(SHOWN, &format!("{text:?}"), shows).await;
    }

    /// Returns how many lines with a text the terminal has shown.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        self.0.lines().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits until the program has ended, and returns whether it succeeded.
    pub async fn ended(&mut self) -> bool {
        self.0.ended().await.success()
    }
}
