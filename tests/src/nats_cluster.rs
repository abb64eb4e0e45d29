//! A test's own cluster of three NATS servers, which sync each write, as `nats/cluster.conf` has them.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Process, loopback_network, nats_server};
use crate::{get, within};

const START: Duration = Duration::from_secs(30);
/// The number of servers.
const SERVERS: u8 = 3;

/// Three NATS servers, each on a loopback address of its own. Dropping it ends them and deletes their data.
#[derive(Debug)]
pub struct NatsCluster {
    servers: Vec<Process>,
    /// The first three numbers of all addresses.
    network: String,
    data: TempDir,
}

impl NatsCluster {
    /// Starts the servers, and waits until they have a leader.
    ///
    /// # Panics
    /// If there is no nats-server or one does not start.
    pub async fn start() -> Self {
        let data = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder for NATS: {error}"));
        let network = loopback_network();
        let routes: Vec<String> = (1..=SERVERS).map(|n| format!("nats://{network}.{n}:6222")).collect();
        let mut servers = Vec::new();
        for n in 1..=SERVERS {
            let (folder, address) = (data.path().join(n.to_string()), format!("{network}.{n}"));
            let config = format!(
                "server_name: nats-{n}\nlisten: \"{address}:4222\"\nhttp: \"{address}:8222\"\n\
                 jetstream {{ store_dir: \"{}\", sync_interval: always }}\n\
                 cluster {{ name: sendpi, listen: \"{address}:6222\", routes: [{}] }}\n",
                folder.display(),
                routes.join(", ")
            );
            let file = data.path().join(format!("{n}.conf"));
            std::fs::write(&file, config).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
            servers.push(launch(&file));
        }
        for server in &mut servers {
            let has_leader = |lines: &[String]| {
                lines
                    .iter()
                    .any(|line| {
                        line.contains("JetStream cluster new metadata leader")
                            || line.contains("Self is new JetStream cluster metadata leader")
                    })
                    .then_some(())
            };
            server.printed(START, "who leads the cluster", has_leader).await;
        }
        Self { servers, network, data }
    }

    /// Kills a server, counted from 0, and starts it again. Waits until it has everything that the others have.
    ///
    /// # Panics
    /// If it does not in time.
    pub async fn restart(&mut self, server: usize) {
        self.servers[server].kill_group();
        self.servers[server].ended().await;
        self.servers[server] = launch(&self.data.path().join(format!("{}.conf", server + 1)));
        let monitor = format!("http://{}.{}:8222", self.network, server + 1);
        within(2 * START, "a server is well", async {
            while !get(&monitor, "/healthz", &[]).await.is_ok_and(|answer| answer.status == 200) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }

    /// Returns the URLs of all servers, with commas.
    #[must_use]
    pub fn urls(&self) -> String {
        let urls: Vec<String> = (1..=SERVERS).map(|n| format!("nats://{}.{n}:4222", self.network)).collect();
        urls.join(",")
    }
}

fn launch(config: &Path) -> Process {
    let mut command = Command::new(nats_server());
    command.arg("-c").arg(config);
    Process::start("nats-server", command)
}
