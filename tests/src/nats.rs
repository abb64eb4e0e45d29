//! A test's own nats-server.

use std::path::Path;
use std::time::Duration;

use sendpi_bus::{Bus, BusConfig};
use sendpi_model::NodeId;
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Process, nats_server};

const START: Duration = Duration::from_secs(20);

/// A nats-server with JetStream on a free port of this machine. Dropping it ends the process and deletes its data.
#[derive(Debug)]
pub struct NatsServer {
    process: Process,
    port: u16,
    data: TempDir,
}

impl NatsServer {
    /// Starts a server.
    ///
    /// # Panics
    /// If there is no nats-server or it does not start.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts a server with these further lines of configuration.
    ///
    /// # Panics
    /// If there is no nats-server or it does not start.
    pub async fn start_with(config: &str) -> Self {
        let data = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder for NATS: {error}"));
        let written = std::fs::write(data.path().join("nats.conf"), config);
        written.unwrap_or_else(|error| panic!("cannot write the configuration of NATS: {error}"));
        let (process, port) = launch(&data, None).await;
        Self { process, port, data }
    }

    /// Returns the URL that clients connect to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Connects to the server as `node`, to see and change what Sendpi keeps there.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn connect(&self, node: &str) -> Bus {
        let config = BusConfig { servers: self.url(), ..BusConfig::default() };
        let node = NodeId::parse(node).unwrap_or_else(|error| panic!("{error}"));
        Bus::connect(&config, node).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Deletes a stream, as a slip of an operator does.
    ///
    /// # Panics
    /// If the server does not do it.
    pub async fn delete_stream(&self, name: &str) {
        let deleted = self.connect("operator").await.request(format!("$JS.API.STREAM.DELETE.{name}"), "".into()).await;
        let answer = deleted.unwrap_or_else(|error| panic!("{name} is not deleted: {error}"));
        let text = String::from_utf8_lossy(answer.payload());
        assert!(text.contains("\"success\":true"), "{name} is not deleted: {text}");
    }

    /// Sends a signal to the server (`STOP` freezes it, `CONT` lets it go on).
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Stops the server as an operator would, and starts it again on the same port and data.
    pub async fn restart(&mut self) {
        self.process.signal("TERM");
        self.process.ended().await;
        self.start_again().await;
    }

    /// Kills the server at once, and waits until it has ended.
    pub async fn kill9(&mut self) {
        self.process.kill_group();
        self.process.ended().await;
    }

    /// Returns a copy of its data, as an operator's backup has it. The server ends for that, and starts again.
    ///
    /// # Panics
    /// If the data cannot be copied.
    pub async fn back_up(&mut self) -> TempDir {
        self.kill9().await;
        let copy = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder for NATS: {error}"));
        copy_folder(self.data.path(), copy.path());
        self.start_again().await;
        copy
    }

    /// Kills the server, and starts it again with what it had when `copy` was made.
    ///
    /// # Panics
    /// If the data cannot be replaced.
    pub async fn restore(&mut self, copy: TempDir) {
        self.kill9().await;
        self.data = copy;
        self.start_again().await;
    }

    /// Starts the server again on the same port and data, after [`NatsServer::kill9`].
    pub async fn start_again(&mut self) {
        (self.process, self.port) = launch(&self.data, Some(self.port)).await;
    }
}

fn copy_folder(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "cannot copy {}", from.display());
}

async fn launch(data: &TempDir, port: Option<u16>) -> (Process, u16) {
    let mut command = Command::new(nats_server());
    command.args(["-a", "127.0.0.1", "-p", &port.map_or("-1".to_owned(), |port| port.to_string()), "-js", "-sd"]);
    command.arg(data.path()).arg("-c").arg(data.path().join("nats.conf"));
    let mut process = Process::start("nats-server", command);
    let port = process
        .printed(START, "that it is ready", |lines| {
            lines.iter().find(|line| line.contains("Server is ready"))?;
            let line = lines.iter().find(|line| line.contains("Listening for client connections"))?;
            line.rsplit(':').next()?.trim().parse().ok()
        })
        .await;
    (process, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_comes_back_on_its_port() {
        let mut server = NatsServer::start().await;
        let url = server.url();
        server.restart().await;
        assert_eq!(server.url(), url);
        server.kill9().await;
        server.start_again().await;
        assert_eq!(server.url(), url);
    }
}
