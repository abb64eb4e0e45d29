//! A test's own page of operators, which is a `sendpi ctl pages`.

use std::time::Duration;

use tokio::process::Command;

use crate::NatsServer;
use crate::process::Process;
use crate::sendpi::{listening, sendpi_binary};

const START: Duration = Duration::from_secs(20);

/// A running `sendpi ctl pages`. Dropping it ends it.
#[derive(Debug)]
pub struct OperatorPages {
    _process: Process,
    /// Where it listens, as `http://host:port`.
    pub url: String,
    /// Its token.
    pub token: String,
}

impl OperatorPages {
    /// Starts it, with a token of its own.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(nats: &NatsServer) -> Self {
        let mut command = Command::new(sendpi_binary());
        command.args(["ctl", "--nats", &nats.url(), "pages", "--listen", "127.0.0.1:0"]);
        let mut process = Process::start("sendpi ctl pages", command);
        let printed = |lines: &[String]| {
            let token = lines.iter().find_map(|line| line.strip_prefix("the token of this start is "));
            Some((token?.to_owned(), lines.iter().find_map(|line| listening(line))?))
        };
        let (token, url) = process.printed(START, "its token and where it listens", printed).await;
        Self { _process: process, url, token }
    }
}
