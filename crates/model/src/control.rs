//! What operators ask workers, and what they answer, as JSON with a version.

use serde::{Deserialize, Serialize};

use crate::{NodeId, Partition, RoomId};

/// The version of this format.
pub const VERSION: u8 = 1;

/// What an operator asks a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ControlVerb {
    /// What it owns and does: [`WorkerStatus`].
    Status,
    /// The live rooms of a partition of its own: [`LiveRooms`].
    Rooms {
        /// The partition.
        partition: Partition,
    },
    /// To hand over all that it owns, or to take part again: [`ControlDone`].
    Drain {
        /// Whether it takes part again.
        undo: bool,
    },
}

/// A request of an operator to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRequest {
    /// The version of this format.
    pub v: u8,
    /// What is asked.
    #[serde(flatten)]
    pub verb: ControlVerb,
}

/// What a worker owns and does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// The worker.
    pub node: NodeId,
    /// Whether it hands over all that it owns.
    pub draining: bool,
    /// Partitions that it claimed because their owner was dead, since it started.
    pub takeovers: u64,
    /// Partitions that it handed over, since it started.
    pub moves: u64,
    /// What it owns.
    pub partitions: Vec<PartitionStatus>,
}

/// A partition as its owner sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The partition.
    pub partition: Partition,
    /// The epoch of its owner.
    pub epoch: u64,
    /// What happens to it.
    pub state: PartitionState,
    /// How many of its rooms are in memory.
    pub rooms: usize,
    /// Durable events a second, over the last few seconds.
    pub events: f64,
    /// Rooms in which an earlier owner may have left something that is not dispatched again yet.
    pub recovering: usize,
}

/// What happens to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionState {
    /// It is served.
    Serving,
    /// It is not served until the lease is written again.
    Suspended,
    /// It is being handed over.
    Moving,
}

/// The live rooms of a partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveRooms {
    /// The busiest of its rooms in memory, the busiest first.
    pub rooms: Vec<LiveRoom>,
    /// How many there are in all.
    pub all: usize,
}

/// A room in memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveRoom {
    /// The room.
    pub room: RoomId,
    /// Whether its channel is active.
    pub active: bool,
    /// Its members.
    pub members: usize,
    /// Those of them who are online.
    pub online: usize,
    /// The requests that wait for it.
    pub queue: usize,
    /// Durable events a second, by the mean gap between them.
    pub events: f64,
}

/// That what was asked is done, or has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlDone {
    /// Whether it is.
    pub done: bool,
}

/// That a worker does not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRefusal {
    /// Why.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_op_beside_the_version() {
        let request = WorkerRequest { v: VERSION, verb: ControlVerb::Rooms { partition: Partition(7) } };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"v":1,"op":"rooms","partition":7}"#);
        assert_eq!(serde_json::from_str::<WorkerRequest>(&text).unwrap(), request);
    }
}
