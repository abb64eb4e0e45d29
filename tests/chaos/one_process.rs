//! A Sendpi that is one process with the embedded store, and is killed and started again as its script says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sendpi_client::EventFrame;
use sendpi_tests::{NatsServer, Proxy, PushRecorder, Sendpi, SendpiSetup};

use crate::run::ChaosStage;
use crate::script::{ChaosAction, ChaosCast, ChaosPart, Line};
use crate::truth;

/// How many nodes the process has.
const NODES: usize = 3;

/// One process with several nodes, and its NATS server.
#[derive(Debug)]
pub(crate) struct OneProcess {
    server: Sendpi,
    nats: NatsServer,
    devices: Vec<Arc<Proxy>>,
}

impl OneProcess {
    pub(crate) async fn start() -> Self {
        let nats = NatsServer::start().await;
        let heartbeat = Duration::from_secs(4);
        let setup = SendpiSetup { nodes: NODES, heartbeat, nats: Some(nats.url()), ..SendpiSetup::default() };
        let server = Sendpi::start_embedded(setup).await;
        Self { server, nats, devices: Vec::new() }
    }
}

impl ChaosStage for OneProcess {
    fn cast(&self) -> ChaosCast {
        ChaosCast { gateways: 0, workers: 1, nats: 1, devices: self.devices.len(), is_one_process: true }
    }

    fn gateways(&self) -> Vec<String> {
        (0..NODES).map(|node| self.server.node(node).to_owned()).collect()
    }

    fn set_devices(&mut self, devices: Vec<Arc<Proxy>>) {
        self.devices = devices;
    }

    async fn token(&self, user: &str) -> String {
        self.server.token(user).await
    }

    async fn pushes(&self) -> PushRecorder {
        PushRecorder::start(&self.nats).await
    }

    async fn before_script(&mut self, _: u64, _: &[String]) -> Vec<String> {
        Vec::new()
    }

    async fn perform(&mut self, action: ChaosAction) {
        if let Some(Line::Device(device)) = action.line() {
            return action.change(&self.devices[device]);
        }
        match action {
            ChaosAction::Kill(ChaosPart::Nats(_)) => self.nats.kill9().await,
            ChaosAction::Start(ChaosPart::Nats(_)) => self.nats.start_again().await,
            ChaosAction::Kill(_) => self.server.kill9().await,
            ChaosAction::Stop(_) => drop(self.server.terminate().await),
            ChaosAction::Start(_) => self.server.start_again().await,
            ChaosAction::Freeze(_) => self.server.signal("STOP"),
            ChaosAction::Thaw(_) => self.server.signal("CONT"),
            _ => unreachable!("{action:?} is not for one process"),
        }
    }

    async fn heal(&mut self) {}

    fn printed(&self) -> Vec<String> {
        self.server.printed()
    }

    fn violations(&mut self) -> Vec<String> {
        let panicked = self.server.logged("panicked at") > 0;
        panicked.then(|| "the process panicked".to_owned()).into_iter().collect()
    }

    async fn truth(&mut self, rooms: &[String]) -> BTreeMap<String, Vec<EventFrame>> {
        self.server.terminate().await;
        let truth = truth::of(&*self.server.store().await, rooms).await;
        self.server.start_again().await;
        truth
    }
}
