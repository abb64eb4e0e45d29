//! What is seen of the fleet: the nodes by their keys, the leases, and what each worker says of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use sendpi_bus::lease::Lease;
use sendpi_bus::presence::NodeInfo;
use sendpi_model::control::{PartitionState, PartitionStatus, WorkerStatus};
use sendpi_model::{Millis, NodeId, Partition};
use serde_json::{Value, json};

use super::CtlError;
use super::table::TextTable;

/// A worker that lives, as far as its key shows.
#[derive(Debug)]
pub(super) struct SeenWorker {
    pub(super) info: NodeInfo,
    /// What it says of itself. `None` if it does not answer.
    pub(super) status: Option<WorkerStatus>,
}

/// What is seen of the fleet.
#[derive(Debug)]
pub(super) struct FleetView {
    workers: BTreeMap<NodeId, SeenWorker>,
    leases: BTreeMap<Partition, Lease>,
}

impl FleetView {
    pub(super) fn new(workers: BTreeMap<NodeId, SeenWorker>, leases: BTreeMap<Partition, Lease>) -> Self {
        Self { workers, leases }
    }

    /// Returns a fleet with these workers, of which those with a `?` are silent, and these owners and epochs of the
    /// partitions from 0 on.
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
        let worker = |name: &&str| {
            let node = id(name.trim_end_matches('?'));
            let answer =
                WorkerStatus { node: node.clone(), draining: false, takeovers: 0, moves: 0, partitions: vec![] };
            (node, SeenWorker { info: info(), status: (!name.ends_with('?')).then_some(answer) })
        };
        Self::new(workers.iter().map(worker).collect(), (0..).map(Partition).zip(owners.iter().map(lease)).collect())
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

    /// Returns how many partitions have an owner that answers, and how many there are.
    pub(super) fn owned(&self) -> (usize, usize) {
        let owned =
            self.leases.keys().filter(|partition| self.owner(**partition).is_some_and(|node| self.answers(node)));
        (owned.count(), self.leases.len())
    }

    /// Returns how many durable events there are a second.
    pub(super) fn events(&self) -> f64 {
        self.statuses().map(|status| status.events).sum()
    }

    /// Returns how many durable events there are a second in what each worker owns: none if it does not answer.
    pub(super) fn events_by_worker(&self) -> impl Iterator<Item = (&NodeId, f64)> {
        self.workers.iter().map(|(node, worker)| (node, worker.status.as_ref().map_or(0.0, events_of)))
    }

    fn statuses(&self) -> impl Iterator<Item = &PartitionStatus> {
        self.workers.values().filter_map(|worker| worker.status.as_ref()).flat_map(|status| &status.partitions)
    }

    fn status_of(&self, partition: Partition) -> Option<&PartitionStatus> {
        let status = self.workers.get(self.owner(partition)?)?.status.as_ref()?;
        status.partitions.iter().find(|status| status.partition == partition)
    }

    /// Returns what a person reads first.
    pub(super) fn summary(&self) -> String {
        let (owned, all) = self.owned();
        format!(
            "{} workers, {owned} of {all} partitions owned, {} live rooms, {:.0} events/s, {} failovers",
            self.workers.len(),
            self.statuses().map(|status| status.rooms).sum::<usize>(),
            self.events(),
            self.workers
                .values()
                .filter_map(|worker| worker.status.as_ref())
                .map(|status| status.takeovers)
                .sum::<u64>(),
        )
    }

    /// Returns what happens to a partition, in a word.
    fn state_of(&self, partition: Partition) -> &'static str {
        match (self.owner(partition), self.status_of(partition).map(|status| status.state)) {
            (None, _) => "released",
            (_, None) => "unknown",
            (_, Some(PartitionState::Serving)) => "serving",
            (_, Some(PartitionState::Suspended)) => "suspended",
            (_, Some(PartitionState::Moving)) => "moving",
        }
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
                "state": state_of(status.as_ref()),
                "rooms": status.as_ref().map(rooms_of),
                "events": status.as_ref().map(events_of),
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
            let share = info.share.as_ref();
            table.row([
                node.to_string(),
                state_of(status.as_ref()).to_owned(),
                of(|status| status.partitions.len().to_string()),
                of(|status| rooms_of(status).to_string()),
                of(|status| format!("{:.1}", events_of(status))),
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
                "state": self.state_of(*partition),
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
            table.row([
                partition.to_string(),
                self.owner(*partition).map_or_else(|| "-".to_owned(), NodeId::to_string),
                lease.epoch.to_string(),
                self.state_of(*partition).to_owned(),
                of(|status| status.rooms.to_string()),
                of(|status| status.recovering.to_string()),
                of(|status| format!("{:.1}", status.events)),
            ]);
        }
        table
    }
}

/// Returns what a worker does, in a word.
fn state_of(status: Option<&WorkerStatus>) -> &'static str {
    match status {
        None => "silent",
        Some(status) if status.draining => "drained",
        Some(_) => "up",
    }
}

fn rooms_of(status: &WorkerStatus) -> usize {
    status.partitions.iter().map(|partition| partition.rooms).sum()
}

fn events_of(status: &WorkerStatus) -> f64 {
    status.partitions.iter().map(|partition| partition.events).sum()
}
