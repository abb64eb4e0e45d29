//! The place of a node in a fleet: what runs there now, and the proxies that lead from there.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use sendpi_tests::{Keyspace, Proxy, ServedNode};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How soon a node that could not start is started again.
const AGAIN: Duration = Duration::from_secs(1);

/// What runs at a place.
#[derive(Debug)]
enum SeatState {
    Up(Box<ServedNode>),
    /// It starts or ends. What comes of it is a node, or none.
    Changes(JoinHandle<Option<ServedNode>>),
    Down,
}

/// A place for a node.
#[derive(Debug)]
pub(crate) struct Seat {
    role: &'static str,
    listen: SocketAddrV4,
    /// The lines to the NATS servers.
    pub(crate) nats: Vec<Proxy>,
    /// The line to the database.
    pub(crate) database: Proxy,
    keyspace: Arc<Keyspace>,
    state: SeatState,
    violations: Vec<String>,
}

impl Seat {
    pub(crate) fn new(
        role: &'static str,
        listen: SocketAddrV4,
        nats: Vec<Proxy>,
        database: Proxy,
        keyspace: Arc<Keyspace>,
    ) -> Self {
        Self { role, listen, nats, database, keyspace, state: SeatState::Down, violations: Vec::new() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Returns the node, if one is up.
    pub(crate) fn node(&self) -> Option<&ServedNode> {
        match &self.state {
            SeatState::Up(node) => Some(node),
            SeatState::Changes(_) | SeatState::Down => None,
        }
    }

    /// Starts a node after what happens here now, as often as it must, like a supervisor.
    pub(crate) fn start(&mut self) {
        let before = std::mem::replace(&mut self.state, SeatState::Down);
        let servers: Vec<String> = self.nats.iter().map(|proxy| format!("nats://{}", proxy.address())).collect();
        let (servers, keyspace) = (servers.join(","), Arc::clone(&self.keyspace));
        let args = ["--role", self.role, "--listen", &self.listen.to_string(), "--cql", &self.database.address()];
        let mut args: Vec<String> = args.map(str::to_owned).into();
        if self.role == "gateway" {
            args.extend(["--no-rates", "--heartbeat", "4s"].map(str::to_owned));
        }
        self.state = SeatState::Changes(tokio::spawn(async move {
            match before {
                SeatState::Changes(ending) => drop(ending.await.unwrap_or_else(|error| panic!("{error}"))),
                SeatState::Up(_) | SeatState::Down => {}
            }
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            loop {
                let lines = "durability = \"relaxed\"";
                match ServedNode::try_start_on(&servers, 3, &keyspace, lines, &args).await {
                    Ok(node) => return Some(node),
                    Err(why) => {
                        println!("a node could not start: {why}");
                        sleep(AGAIN).await;
                    }
                }
            }
        }));
    }

    /// Kills what is here at once.
    pub(crate) async fn kill(&mut self) {
        self.settle().await;
        self.note();
        match std::mem::replace(&mut self.state, SeatState::Down) {
            SeatState::Up(mut node) => node.kill9().await,
            SeatState::Changes(task) => {
                task.abort();
                drop(task.await);
            }
            SeatState::Down => {}
        }
    }

    /// Stops the node that is up as an operator does, and does not wait for its end.
    pub(crate) async fn stop(&mut self) {
        self.settle().await;
        self.note();
        match std::mem::replace(&mut self.state, SeatState::Down) {
            SeatState::Up(mut node) => {
                self.state = SeatState::Changes(tokio::spawn(async move {
                    node.terminate().await;
                    None
                }));
            }
            changes => self.state = changes,
        }
    }

    /// Sends a signal to the node, if one is up.
    pub(crate) async fn signal(&mut self, signal: &str) {
        self.settle().await;
        if let Some(node) = self.node() {
            node.signal(signal);
        }
    }

    /// Waits until the node is up that was started last.
    pub(crate) async fn until_up(&mut self) {
        self.until_settled().await;
        assert!(self.node().is_some(), "nothing was started here");
    }

    /// Returns what the nodes here did that no fault explains.
    pub(crate) fn violations(&mut self) -> Vec<String> {
        self.note();
        std::mem::take(&mut self.violations)
    }

    /// Takes the node that has started meanwhile.
    async fn settle(&mut self) {
        if let SeatState::Changes(task) = &self.state
            && task.is_finished()
        {
            self.until_settled().await;
        }
    }

    async fn until_settled(&mut self) {
        if let SeatState::Changes(task) = &mut self.state {
            let node = task.await.unwrap_or_else(|error| panic!("{error}"));
            self.state = node.map_or(SeatState::Down, |node| SeatState::Up(Box::new(node)));
        }
    }

    fn note(&mut self) {
        let SeatState::Up(node) = &mut self.state else { return };
        if node.has_ended() {
            self.violations.push("the node ended by itself".to_owned());
        }
        if node.logged("panicked at") > 0 {
            self.violations.push("the node panicked".to_owned());
        }
    }
}
