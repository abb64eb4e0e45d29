//! The channel tier: workers that own partitions and run the channels of their rooms.
//!
//! [`start`] claims the partitions and runs one executor, which owns all state: rooms, flows, links. What a room
//! decides is pure (`room`). What the executor asks of the store is a job (`job`). What it sends to nodes goes over
//! links.

mod claim;
mod config;
mod dispatch;
mod executor;
mod job;
mod outbound_links;
mod owned_partition;
mod pending_pushes;
mod room;
mod tenure;
mod worker;

pub use config::ChannelConfig;
pub use room::IdleConfig;
pub use worker::{Worker, WorkerStartError, start};
