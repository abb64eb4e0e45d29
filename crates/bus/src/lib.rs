//! NATS: everything that crosses between processes, and the only crate that names `async-nats`.
//!
//! Subjects, the connection, buckets with compare-and-set, presence read behind a barrier, leases of partitions, flows and links.
//! What is decided is pure ([`flow::Sender`], [`flow::Receiver`], [`link::Sender`], [`link::Receiver`]); the rest moves bytes.

mod bucket;
mod connection;
pub mod flow;
pub mod lease;
pub mod link;
pub mod presence;
pub mod push_stream;
mod streams;
pub mod subject;
mod user_subject;

pub use bucket::{Bucket, KeyEntry, PutError, Revision};
pub use connection::{
    Bus, BusConfig, ConnectError, ConnectionState, NatsMessage, RequestError, SendError, Subscription,
};
pub use streams::{SetupError, setup};
pub use user_subject::{UserMessage, UserSubjects, UserSubscription};
