//! The channel tier: workers that own partitions and run the channels of their rooms.
//!
//! [`start`] runs one executor, which claims partitions and owns all state: rooms, flows, links. What a room
//! decides is pure (`room`). What the executor asks of the store is a job (`job`). What it sends to nodes goes over
//! links.
//!
//! # Map
//! - `worker`: starts and stops the channel role. `config`: its settings.
//! - `fleet`: which worker should own which partition. *Pure.* `claim`: claims a partition. `owned_partition`: one that
//!   is owned. `tenure`: one holding of it. `liveness`: whether the executor runs.
//! - `executor`: the task that owns all state.
//!   - `executor/input`: what it waits for.
//!   - `executor/requests`: from a flow's message to the rooms where its requests wait.
//!   - `executor/live_entry`: a room in the live table, and its stages.
//!   - `executor/aside`: what cannot be decided yet, and the batch that can be.
//!   - `executor/reads`: what users ask of rooms. `executor/read_queue`: whose turn it is. *Pure.*
//!   - `executor/schedule`: the next job of each room. `executor/job_result`, `executor/results`: the
//!     results of jobs, and what they lead to.
//!   - `executor/store_failure`: a store that failed. `executor/open_backoff`: rooms that cannot be opened.
//!   - `executor/claims`: what is claimed, and when. `executor/leases`: taking over, keeping and losing partitions.
//!     `executor/moves`: handing them over. `executor/inboxes`: the subscriptions to their requests.
//!   - `executor/control`: what operators ask.
//!   - `executor/recovery`: rooms that are opened because an earlier owner may have left something.
//!   - `executor/settle`, `executor/evict`: what is settled, and channels that end.
//!   - `executor/removal`: what is left of deleted rooms.
//!   - `executor/link_output`: links to nodes. `executor/dead_nodes`: nodes that die. `executor/bounces`: the worker's
//!     own bounces, and long ones. `executor/push_queue`: push jobs.
//! - `ingest`: system events of services, with the pure `ingest/queue`, and `ingest/read`: what an event asks.
//! - `job`: what the executor asks of the store and of presence: `open`, `commit`, `read`, `scan`.
//! - `room`: the core of one room. *Pure.*
//!   - `room/decide`, `room/batch`: decides what waits, and the batch that it becomes. `room/membership`: who comes,
//!     `room/leaving`: who goes. `room/revise`: edits, deletions, reactions. `room/change`: names, access, roles, and
//!     what is pushed to whom. `room/lookup`: what the tail does not know. `room/open`: a room as its rows say.
//!   - `room/audience`: L1. `room/offline`: L2. `room/bounce`: what of a range a member wants. `room/tail`: the newest
//!     events. `room/idle`: when to evict. `room/retention`: how long events are kept. `room/page`, `room/members`:
//!     pages. `room/pushed`: what is in the push stream.
//! - `metrics`: what operators are told of a worker.
//! - `room_counts`: in how many rooms users are, for the limit. *Pure.*
//! - `dispatch`: what a batch does once it is stored: links, push orders, answers.
//! - `protocol_model`: the model of the protocol, for the tests.
//! - `outbound_links`: the links of this worker. `pending_pushes`: what is not pushed yet.

mod claim;
mod config;
mod dispatch;
mod executor;
mod fleet;
mod ingest;
mod job;
mod liveness;
mod metrics;
mod outbound_links;
mod owned_partition;
mod pending_pushes;
#[cfg(test)]
mod protocol_model;
mod room;
mod room_counts;
mod tenure;
mod worker;

pub use config::ChannelConfig;
pub use room::IdleConfig;
pub use worker::{Worker, WorkerStartError, start};
