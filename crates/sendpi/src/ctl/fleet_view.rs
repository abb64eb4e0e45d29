//! What is seen of the fleet: the nodes by their keys, the leases, and what each worker says of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use sendpi_bus::Bus;
use sendpi_bus::lease::{Lease, Leases};
use sendpi_bus::presence::{NodeChange, NodeInfo, watch_nodes};
use sendpi_model::control::{ControlVerb, PartitionState, PartitionStatus, WorkerStatus};
use sendpi_model::{Millis, NodeId, Partition};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::CtlError;
use super::control::ask;
use super::table::TextTable;

/// How long the list of nodes may take.
const NODES: Duration = Duration::from_secs(5);

/// A worker that lives, as far as its key shows.
#[derive(Debug)]
struct SeenWorker {
    info: NodeInfo,
    /// What it says of itself. `None` if it does not answer.
    status: Option<WorkerStatus>,
}

/// What is seen of the fleet.
#[derive(Debug)]
pub(super) struct FleetView {
    workers: BTreeMap<NodeId, SeenWorker>,
    leases: BTreeMap<Partition, Lease>,
}

impl FleetView {
    /// Looks at the fleet.
    pub(super) async fn read(bus: &Bus) -> Result<Self, CtlError> {
        let nodes = nodes(bus).await?;
        let is_worker = |info: &NodeInfo| info.roles.iter().any(|role| role == "channel");
        let workers = nodes.into_iter().filter(|(_, info)| is_worker(info));
        let asked = workers.map(|(node, info)| async move {
            let status = ask(bus, &node, ControlVerb::Status).await.ok();
            (node, SeenWorker { info, status })
        });
        let workers = join_all(asked).await.into_iter().collect();
        let leases = Leases::new(bus).all().await.map_err(|_| CtlError::Nodes("the leases could not be read"))?;
        Ok(Self { workers, leases })
    }

    /// Returns a fleet with these silent workers, and these owners and epochs of the partitions from 0 on.
    #[cfg(test)]
    pub(super) fn of(workers: &[&str], owners: &[(&str, u64)]) -> Self {
        let id = |name: &str| NodeId::parse(name).unwrap();
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 8080));
        let info = || NodeInfo::starting(vec!["channel".to_owned()], address);
        let lease = |(owner, epoch): &(&str, u64)| Lease {
            owner: id(owner),
            claim: "c".to_owned(),
            epoch: *epoch,
            released: false,
        };
        Self {
            workers: workers.iter().map(|name| (id(name), SeenWorker { info: info(), status: None })).collect(),
            leases: (0..).map(Partition).zip(owners.iter().map(lease)).collect(),
        }
    }

    /// Returns the only worker whose id begins so.
    pub(super) fn worker(&self, named: &str) -> Result<NodeId, CtlError> {
        let found: Vec<&NodeId> = self.workers.keys().filter(|node| node.as_str().starts_with(named)).collect();
        match found.as_slice() {
            [node] => Ok((*node).clone()),
            _ => Err(CtlError::Worker { named: named.to_owned(), found: found.len() }),
        }
    }

    /// Returns whether there is such a partition. Each has a lease as soon as it was claimed once.
    pub(super) fn has(&self, partition: Partition) -> bool {
        self.leases.contains_key(&partition)
    }

    /// Returns who owns a partition.
    pub(super) fn owner(&self, partition: Partition) -> Option<&NodeId> {
        self.leases.get(&partition).filter(|lease| !lease.released).map(|lease| &lease.owner)
    }

    /// Returns the lease of each partition.
    pub(super) fn leases(&self) -> impl Iterator<Item = (&Partition, &Lease)> {
        self.leases.iter()
    }

    /// Returns whether a worker lives.
    pub(super) fn is_live(&self, node: &NodeId) -> bool {
        self.workers.contains_key(node)
    }

    /// Returns whether a worker answers. The key of one that was killed outlives it.
    pub(super) fn answers(&self, node: &NodeId) -> bool {
        self.workers.get(node).is_some_and(|worker| worker.status.is_some())
    }

    /// Returns how many workers live.
    pub(super) fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// Returns how many partitions have a live owner, and how many there are.
    pub(super) fn owned(&self) -> (usize, usize) {
        let owned =
            self.leases.keys().filter(|partition| self.owner(**partition).is_some_and(|node| self.is_live(node)));
        (owned.count(), self.leases.len())
    }

    /// Returns how many rooms are in memory.
    pub(super) fn rooms(&self) -> usize {
        self.statuses().map(|status| status.rooms).sum()
    }

    /// Returns how many durable events there are a second.
    pub(super) fn events(&self) -> f64 {
        self.statuses().map(|status| status.events).sum()
    }

    /// Returns how many durable events there are a second in what each worker owns, which is none if it does not answer.
    pub(super) fn events_by_worker(&self) -> impl Iterator<Item = (&NodeId, f64)> {
        self.workers.iter().map(|(node, worker)| {
            let partitions = worker.status.iter().flat_map(|status| &status.partitions);
            (node, partitions.map(|partition| partition.events).sum())
        })
    }

    /// Returns how many partitions the live workers claimed because their owner was dead, since they started.
    pub(super) fn takeovers(&self) -> u64 {
        self.workers.values().filter_map(|worker| worker.status.as_ref()).map(|status| status.takeovers).sum()
    }

    fn statuses(&self) -> impl Iterator<Item = &PartitionStatus> {
        self.workers.values().filter_map(|worker| worker.status.as_ref()).flat_map(|status| &status.partitions)
    }

    fn status_of(&self, partition: Partition) -> Option<&PartitionStatus> {
        let status = self.workers.get(self.owner(partition)?)?.status.as_ref()?;
        status.partitions.iter().find(|status| status.partition == partition)
    }

    /// Returns what a person looks at first.
    pub(super) fn summary_json(&self) -> Value {
        let (owned, all) = self.owned();
        json!({
            "workers": self.worker_count(),
            "owned": owned,
            "partitions": all,
            "rooms": self.rooms(),
            "events": self.events(),
            "takeovers": self.takeovers(),
        })
    }

    pub(super) fn workers_json(&self) -> Value {
        let workers = self.workers.iter().map(|(node, SeenWorker { info, status })| {
            json!({
                "node": node,
                "roles": info.roles,
                "address": info.address,
                "started": info.started,
                "weight": info.share.as_ref().map(|share| share.weight),
                "pinned": info.share.as_ref().map(|share| share.pinned.to_string()),
                "status": status,
            })
        });
        workers.collect()
    }

    pub(super) fn workers_table(&self) -> TextTable {
        let mut table = TextTable::new(&[
            "WORKER",
            "STATE",
            "PARTITIONS",
            "ROOMS",
            "EVENTS/S",
            "TAKEN OVER",
            "MOVED",
            "WEIGHT",
            "PINNED",
            "UP",
            "ADDRESS",
        ]);
        for (node, SeenWorker { info, status }) in &self.workers {
            let of = |show: fn(&WorkerStatus) -> String| status.as_ref().map_or_else(|| "?".to_owned(), show);
            let state = match status {
                None => "silent",
                Some(status) if status.draining => "drained",
                Some(_) => "up",
            };
            let share = info.share.as_ref();
            table.row([
                node.to_string(),
                state.to_owned(),
                of(|status| status.partitions.len().to_string()),
                of(|status| status.partitions.iter().map(|p| p.rooms).sum::<usize>().to_string()),
                of(|status| format!("{:.1}", status.partitions.iter().map(|p| p.events).sum::<f64>())),
                of(|status| status.takeovers.to_string()),
                of(|status| status.moves.to_string()),
                share.map_or_else(|| "-".to_owned(), |share| share.weight.to_string()),
                share.map_or_else(|| "-".to_owned(), |share| share.pinned.to_string()),
                humantime::format_duration(Duration::from_secs(Millis::now().since(info.started).as_secs()))
                    .to_string(),
                info.address.to_string(),
            ]);
        }
        table
    }

    pub(super) fn partitions_json(&self) -> Value {
        let partitions = self.leases.iter().map(|(partition, lease)| {
            json!({
                "partition": partition,
                "owner": self.owner(*partition),
                "epoch": lease.epoch,
                "status": self.status_of(*partition),
            })
        });
        partitions.collect()
    }

    pub(super) fn partitions_table(&self) -> TextTable {
        let mut table = TextTable::new(&["PARTITION", "OWNER", "EPOCH", "STATE", "ROOMS", "RECOVERING", "EVENTS/S"]);
        for (partition, lease) in &self.leases {
            let status = self.status_of(*partition);
            let of = |show: fn(&PartitionStatus) -> String| status.map_or_else(|| "-".to_owned(), show);
            let state = match (self.owner(*partition), status.map(|status| status.state)) {
                (None, _) => "released",
                (_, None) => "unknown",
                (_, Some(PartitionState::Serving)) => "serving",
                (_, Some(PartitionState::Suspended)) => "suspended",
                (_, Some(PartitionState::Moving)) => "moving",
            };
            table.row([
                partition.to_string(),
                self.owner(*partition).map_or_else(|| "-".to_owned(), NodeId::to_string),
                lease.epoch.to_string(),
                state.to_owned(),
                of(|status| status.rooms.to_string()),
                of(|status| status.recovering.to_string()),
                of(|status| format!("{:.1}", status.events)),
            ]);
        }
        table
    }
}

/// Returns the nodes with a key, with what they say there.
async fn nodes(bus: &Bus) -> Result<BTreeMap<NodeId, NodeInfo>, CtlError> {
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let mut changes = watch_nodes(bus, stop);
    let mut nodes = BTreeMap::new();
    let listed = async {
        while let Some(change) = changes.recv().await {
            match change {
                NodeChange::Alive(node, Some(info)) => drop(nodes.insert(node, info)),
                NodeChange::Alive(_, None) | NodeChange::Gone(..) => {}
                NodeChange::AllKnown => return,
            }
        }
    };
    tokio::time::timeout(NODES, listed).await.map_err(|_| CtlError::Nodes("there is no node, or no such bucket"))?;
    Ok(nodes)
}
