//! A test's own cluster of three NATS servers, which sync each write, as `nats/cluster.conf` has them.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Process, loopback_network, nats_server};
use crate::{Proxy, get, within};

const START: Duration = Duration::from_secs(30);
/// The number of servers.
const SERVERS: u8 = 3;

/// Three NATS servers, each on a loopback address of its own. Dropping it ends them and deletes their data.
#[derive(Debug)]
pub struct NatsCluster {
    servers: Vec<Process>,
    /// The first three numbers of all addresses.
    network: String,
    /// What the servers reach each other by, with the two that each proxy connects. Empty if they do directly.
    routes: Vec<(u8, u8, Proxy)>,
    data: TempDir,
}

impl NatsCluster {
    /// Starts the servers, and waits until they have a leader.
    ///
    /// # Panics
    /// If there is no nats-server or one does not start.
    pub async fn start() -> Self {
        Self::start_with(loopback_network(), Vec::new()).await
    }

    /// Starts servers that reach each other by proxies, which are [`Self::routes`], so that a test can keep them apart.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub async fn start_with_routes() -> Self {
        let network = loopback_network();
        let mut routes = Vec::new();
        for from in 1..=SERVERS {
            for to in (1..=SERVERS).filter(|to| *to != from) {
                routes.push((from, to, Proxy::start(&format!("{network}.{to}:6222")).await));
            }
        }
        Self::start_with(network, routes).await
    }

    async fn start_with(network: String, routes: Vec<(u8, u8, Proxy)>) -> Self {
        let data = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a folder for NATS: {error}"));
        let route = |from: u8, to: u8| match routes.iter().find(|(a, b, _)| (*a, *b) == (from, to)) {
            Some((_, _, proxy)) => proxy.address(),
            None => format!("{network}.{to}:6222"),
        };
        let mut servers = Vec::new();
        for n in 1..=SERVERS {
            let (folder, address) = (data.path().join(n.to_string()), format!("{network}.{n}"));
            let others = (1..=SERVERS).filter(|to| *to != n).map(|to| format!("nats://{}", route(n, to)));
            let config = format!(
                "server_name: nats-{n}\nlisten: \"{address}:4222\"\nhttp: \"{address}:8222\"\n\
                 jetstream {{ store_dir: \"{}\", sync_interval: always }}\n\
                 lame_duck_duration: 30s\nlame_duck_grace_period: 2s\n\
                 cluster {{ name: sendpi, listen: \"{address}:6222\", advertise: \"{address}:{}\", routes: [{}], \
                 no_advertise: true }}\n",
                folder.display(),
                // Where others would come without their proxies nobody listens.
                if routes.is_empty() { 6222 } else { 1 },
                others.collect::<Vec<_>>().join(", ")
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
        Self { servers, network, routes, data }
    }

    /// Returns the proxies by which a server, counted from 0, and the others reach each other, or all that there are if
    /// it is `None`. To cut them loses what is under way between servers, and tells no client.
    pub fn routes(&self, server: Option<usize>) -> impl Iterator<Item = &Proxy> {
        let is_of = move |n: u8| server.is_none_or(|server| usize::from(n) == server + 1);
        self.routes.iter().filter(move |(from, to, _)| is_of(*from) || is_of(*to)).map(|(_, _, proxy)| proxy)
    }

    /// Kills a server, counted from 0, and starts it again. Waits until it has everything that the others have.
    ///
    /// # Panics
    /// If it does not in time.
    pub async fn restart(&mut self, server: usize) {
        self.kill9(server).await;
        self.start_again(server);
        self.until_well(server).await;
    }

    /// Kills a server at once, and waits until it has ended.
    pub async fn kill9(&mut self, server: usize) {
        self.servers[server].kill_group();
        self.servers[server].ended().await;
    }

    /// Starts a server again that has ended, and does not wait for it.
    pub fn start_again(&mut self, server: usize) {
        self.servers[server] = launch(&self.data.path().join(format!("{}.conf", server + 1)));
    }

    /// Sends a signal to a server: `STOP` freezes it, `CONT` lets it go on, and `USR2` has it say good-bye to its
    /// clients, one after the other within 30 seconds, and end (lame duck mode).
    pub fn signal(&self, server: usize, signal: &str) {
        self.servers[server].signal(signal);
    }

    /// Waits until a server has everything that the others have.
    ///
    /// # Panics
    /// If it does not in time.
    pub async fn until_well(&self, server: usize) {
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
        self.addresses().iter().map(|address| format!("nats://{address}")).collect::<Vec<_>>().join(",")
    }

    /// Returns the addresses of all servers, as `host:port`.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        (1..=SERVERS).map(|n| format!("{}.{n}:4222", self.network)).collect()
    }
}

fn launch(config: &Path) -> Process {
    let mut command = Command::new(nats_server());
    command.arg("-c").arg(config);
    Process::start("nats-server", command)
}
