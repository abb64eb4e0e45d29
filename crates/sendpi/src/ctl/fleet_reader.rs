//! Looks at the fleet: once, or once a second.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use sendpi_bus::Bus;
use sendpi_bus::lease::Leases;
use sendpi_bus::presence::{NodeChange, NodeInfo, watch_nodes};
use sendpi_model::NodeId;
use sendpi_model::control::ControlVerb;
use sendpi_model::timing::NODE_KEY_TTL;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::CtlError;
use super::control::ask;
use super::fleet_view::{FleetView, SeenWorker};

/// How often the fleet is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the list of nodes may take.
const NODES: Duration = Duration::from_secs(5);

/// Looks at the fleet, with one watch on the keys of nodes for all looks.
#[derive(Debug)]
pub(super) struct FleetReader {
    bus: Bus,
    changes: mpsc::Receiver<NodeChange>,
    /// The nodes with a key, what they say there, and when they last did.
    nodes: BTreeMap<NodeId, (NodeInfo, Instant)>,
    all_known: bool,
    _stop: DropGuard,
}

impl FleetReader {
    pub(super) fn new(bus: &Bus) -> Self {
        let stop = CancellationToken::new();
        let changes = watch_nodes(bus, stop.clone());
        Self { bus: bus.clone(), changes, nodes: BTreeMap::new(), all_known: false, _stop: stop.drop_guard() }
    }

    /// Looks at the fleet.
    pub(super) async fn look(&mut self) -> Result<FleetView, CtlError> {
        self.learn_nodes().await?;
        let is_worker = |info: &NodeInfo| info.roles.iter().any(|role| role == "channel");
        let workers = self.nodes.iter().filter(|(_, (info, _))| is_worker(info));
        let asked = workers.map(|(node, (info, _))| async {
            let status = ask(&self.bus, node, ControlVerb::Status).await.ok();
            (node.clone(), SeenWorker { info: info.clone(), status })
        });
        let leases = Leases::new(&self.bus);
        let (workers, leases) = tokio::join!(join_all(asked), leases.all());
        Ok(FleetView::new(workers.into_iter().collect(), leases.map_err(CtlError::Leases)?))
    }

    async fn learn_nodes(&mut self) -> Result<(), CtlError> {
        let listed = async {
            while !self.all_known {
                let Some(change) = self.changes.recv().await else { return };
                self.note(change);
            }
        };
        timeout(NODES, listed).await.map_err(|_| CtlError::NoNodes)?;
        while let Ok(change) = self.changes.try_recv() {
            self.note(change);
        }
        // A watch that was begun anew says nothing of those that went in the meantime. Keys are refreshed all the time.
        let newest = self.nodes.values().map(|(_, heard)| *heard).max();
        self.nodes.retain(|_, (_, heard)| newest.is_none_or(|newest| newest - *heard < 2 * NODE_KEY_TTL));
        Ok(())
    }

    fn note(&mut self, change: NodeChange) {
        match change {
            NodeChange::Alive(node, Some(info)) => drop(self.nodes.insert(node, (info, Instant::now()))),
            NodeChange::Alive(_, None) => {}
            NodeChange::Gone(node, _) => drop(self.nodes.remove(&node)),
            NodeChange::AllKnown => self.all_known = true,
        }
    }
}

/// Looks at the fleet once a second, until what is returned is dropped. One look waits to be received.
pub(super) fn looks(bus: &Bus) -> mpsc::Receiver<Result<FleetView, CtlError>> {
    let (tell, looks) = mpsc::channel(1);
    let mut reader = FleetReader::new(bus);
    tokio::spawn(async move {
        let mut turns = interval(LOOK_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !tell.is_closed() {
            turns.tick().await;
            if tell.send(reader.look().await).await.is_err() {
                return;
            }
        }
    });
    looks
}
