//! NATS: everything that crosses between processes. This is the only crate that names `async-nats`.
//!
//! The crate holds the subjects, the connection, buckets with compare-and-set, presence that is read behind a
//! barrier, the leases of partitions, flows and links. Decisions are pure ([`flow::FlowSender`],
//! [`flow::FlowReceiver`], [`link::LinkSender`], [`link::LinkReceiver`]). The rest moves bytes.

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
