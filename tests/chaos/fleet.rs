//! The fleet that a script acts on: NATS servers, a database, gateways and workers, each a process, with proxies on
//! every connection between them.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use sendpi_bus::{Bus, BusConfig};
use sendpi_client::EventFrame;
use sendpi_model::NodeId;
use sendpi_store::cql::{Cql, CqlConfig};
use sendpi_tests::{CassandraServer, Keyspace, NatsCluster, Proxy, PushRecorder, ServedNode, loopback_network, within};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::run::ChaosStage;
use crate::script::{ChaosAction, ChaosCast, ChaosPart, Line};
use crate::seat::Seat;
use crate::truth;

/// How many there are.
pub(crate) const GATEWAYS: usize = 2;
pub(crate) const WORKERS: usize = 3;
pub(crate) const NATS: usize = 3;
/// How soon everything is up again when nothing more happens.
const HEALED: Duration = Duration::from_secs(90);

/// A fleet, and the proxies in it.
#[derive(Debug)]
pub(crate) struct ChaosFleet {
    pub(crate) nats: NatsCluster,
    database: Arc<Mutex<CassandraServer>>,
    /// What the database is doing now.
    database_task: Option<JoinHandle<()>>,
    keyspace: Arc<Keyspace>,
    /// For those who are not part of the fleet.
    _direct: Proxy,
    pub(crate) seats: BTreeMap<ChaosPart, Seat>,
    /// The lines of the devices.
    devices: Vec<Arc<Proxy>>,
}

impl ChaosFleet {
    /// Starts everything, and waits until it is up.
    pub(crate) async fn start() -> Self {
        let nats = NatsCluster::start_with_routes().await;
        let (database, told) = CassandraServer::start_for_proxies().await;
        let direct = Proxy::start_at(told, &database.addresses()[0], None).await;
        let keyspace = Arc::new(Keyspace::make_in(&[told.to_string()], 1).await);
        let network = loopback_network();
        let gateways = (0..GATEWAYS).map(|n| (ChaosPart::Gateway(n), "gateway", 101 + n));
        let workers = (0..WORKERS).map(|n| (ChaosPart::Worker(n), "channel", 201 + n));
        let mut seats = BTreeMap::new();
        for (part, role, host) in gateways.chain(workers) {
            let address = |port| -> SocketAddrV4 {
                format!("{network}.{host}:{port}").parse().unwrap_or_else(|error| panic!("{error}"))
            };
            let database = Proxy::start_at(address(told.port()), &database.addresses()[0], Some(*told.ip())).await;
            let mut lines = Vec::new();
            for server in nats.addresses() {
                lines.push(Proxy::start(&server).await);
            }
            let mut seat = Seat::new(role, address(8080), lines, database, Arc::clone(&keyspace));
            seat.start();
            seats.insert(part, seat);
        }
        let database = Arc::new(Mutex::new(database));
        let mut fleet =
            Self { nats, database, database_task: None, keyspace, _direct: direct, seats, devices: Vec::new() };
        fleet.heal().await;
        fleet
    }

    /// Returns the nodes that are up.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &ServedNode> {
        self.seats.values().filter_map(Seat::node)
    }

    /// Connects to NATS on a line that nothing happens to.
    pub(crate) async fn bus(&self) -> Bus {
        let config = BusConfig { servers: self.nats.urls(), ..BusConfig::default() };
        let node = NodeId::parse("chaos").unwrap_or_else(|error| panic!("{error}"));
        Bus::connect(&config, node).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns where its keyspace is, without proxies.
    pub(crate) fn keyspace_config(&self) -> &CqlConfig {
        self.keyspace.config()
    }

    fn seat(&mut self, part: ChaosPart) -> &mut Seat {
        self.seats.get_mut(&part).unwrap_or_else(|| panic!("there is no {part:?}"))
    }

    fn on_line(&mut self, line: Line, action: ChaosAction) {
        let change = |proxy: &Proxy| action.change(proxy);
        match line {
            Line::ToNats(part) => self.seat(part).nats.iter().for_each(change),
            Line::ToDatabase(part) => change(&self.seat(part).database),
            Line::Device(device) => change(&self.devices[device]),
            Line::RoutesOf(ChaosPart::Nats(n)) => self.nats.routes(Some(n)).for_each(change),
            Line::AllRoutes => self.nats.routes(None).for_each(change),
            Line::RoutesOf(_) => unreachable!("only NATS servers have routes"),
        }
    }

    /// Has something happen to the database after what happens to it now.
    fn on_database(&mut self, action: ChaosAction) {
        let (database, before) = (Arc::clone(&self.database), self.database_task.take());
        self.database_task = Some(tokio::spawn(async move {
            if let Some(before) = before {
                before.await.unwrap_or_else(|error| panic!("{error}"));
            }
            let mut database = database.lock().await;
            match action {
                ChaosAction::Kill(_) => database.kill9(0).await,
                ChaosAction::Start(_) => database.start_again(0).await,
                ChaosAction::Freeze(_) => database.signal(0, "STOP"),
                _ => database.signal(0, "CONT"),
            }
        }));
    }
}

impl ChaosStage for ChaosFleet {
    fn cast(&self) -> ChaosCast {
        let devices = self.devices.len();
        ChaosCast { gateways: GATEWAYS, workers: WORKERS, nats: NATS, devices, is_one_process: false }
    }

    fn gateways(&self) -> Vec<String> {
        (0..GATEWAYS).filter_map(|n| Some(self.seats.get(&ChaosPart::Gateway(n))?.url())).collect()
    }

    fn set_devices(&mut self, devices: Vec<Arc<Proxy>>) {
        self.devices = devices;
    }

    async fn token(&self, user: &str) -> String {
        ServedNode::token(user)
    }

    async fn pushes(&self) -> PushRecorder {
        PushRecorder::start_on(self.bus().await).await
    }

    async fn before_script(&mut self, seed: u64, rooms: &[String]) -> Vec<String> {
        self.two_owners(seed, rooms).await
    }

    async fn perform(&mut self, action: ChaosAction) {
        if let Some(line) = action.line() {
            return self.on_line(line, action);
        }
        match action {
            ChaosAction::Kill(ChaosPart::Nats(n)) => self.nats.kill9(n).await,
            ChaosAction::Start(ChaosPart::Nats(n)) => {
                // One that said good-bye may not have ended yet.
                self.nats.kill9(n).await;
                self.nats.start_again(n);
            }
            ChaosAction::Freeze(ChaosPart::Nats(n)) => self.nats.signal(n, "STOP"),
            ChaosAction::Thaw(ChaosPart::Nats(n)) => self.nats.signal(n, "CONT"),
            ChaosAction::LameDuck(ChaosPart::Nats(n)) => self.nats.signal(n, "USR2"),
            ChaosAction::Kill(ChaosPart::Database)
            | ChaosAction::Start(ChaosPart::Database)
            | ChaosAction::Freeze(ChaosPart::Database)
            | ChaosAction::Thaw(ChaosPart::Database) => self.on_database(action),
            ChaosAction::Kill(part) => self.seat(part).kill().await,
            ChaosAction::Stop(part) => self.seat(part).stop().await,
            ChaosAction::Start(part) => self.seat(part).start(),
            ChaosAction::Freeze(part) => self.seat(part).signal("STOP").await,
            ChaosAction::Thaw(part) => self.seat(part).signal("CONT").await,
            _ => unreachable!("{action:?} is not for a fleet"),
        }
    }

    async fn heal(&mut self) {
        if let Some(task) = self.database_task.take() {
            within(HEALED, "the database is up", task).await.unwrap_or_else(|error| panic!("{error}"));
        }
        for server in 0..NATS {
            self.nats.until_well(server).await;
        }
        for seat in self.seats.values_mut() {
            within(HEALED, "a node is up", seat.until_up()).await;
        }
    }

    fn printed(&self) -> Vec<String> {
        self.nodes().flat_map(ServedNode::printed).collect()
    }

    fn violations(&mut self) -> Vec<String> {
        self.seats
            .iter_mut()
            .flat_map(|(part, seat)| {
                seat.violations().into_iter().map(move |violation| format!("{part:?}: {violation}"))
            })
            .collect()
    }

    async fn truth(&mut self, rooms: &[String]) -> BTreeMap<String, Vec<EventFrame>> {
        let store = Cql::open(self.keyspace_config()).await;
        truth::of(&store.unwrap_or_else(|error| panic!("cannot open the store: {error}")), rooms).await
    }
}
