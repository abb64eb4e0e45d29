//! NATS: everything that crosses between processes. This is the only crate that names `async-nats`.
//!
//! The crate holds the subjects, the connection, buckets with compare-and-set, presence that is read behind a
//! barrier, the leases of partitions, flows and links. Decisions are pure ([`flow::FlowSender`],
//! [`flow::FlowReceiver`], [`link::LinkSender`], [`link::LinkReceiver`]). The rest moves bytes.
//!
//! # Map
//! - `subject`: every subject, stream name and key.
//! - `rights`: what each role may publish and subscribe to.
//! - `connection`: a node's connection, with its `login`, its `pulse`, and the `version` of the server. `hearing`:
//!   whether this process hears others.
//! - `bucket`: a KV bucket with compare-and-set, with its `watch` and its `batch` of last values. `streams`: makes
//!   buckets and streams, and with its `keeper` makes anew what is lost.
//! - `flow`: `sender` (the node's half) and `receiver` (the owner's half). *Pure.*
//! - `link`: `sender` (the worker's half, with `unsettled`) and `receiver` (the node's half). *Pure.*
//! - `lease`: the leases of partitions.
//! - `presence`: `node_key` (this node's own, with its `node_info`), `user_keys` (of its users, with the pure `plan`),
//!   `barrier` (reads who is online), `node_watch` (which nodes come and go), `node_poll` (which are gone), `liveness`
//!   (`alive` and what dead nodes left).
//! - `push_stream`: push jobs. `push_log`: what became of them. `ingest_stream`: system events of services, and dead
//!   letters.
//! - `user_subject`: the subjects of this node's users, with a `reader` of its own. `about_user`: what sessions a user
//!   has on nodes.

pub mod about_user;
mod bucket;
mod connection;
pub mod flow;
mod hearing;
pub mod ingest_stream;
pub mod lease;
pub mod link;
pub mod presence;
pub mod push_log;
pub mod push_stream;
pub mod rights;
mod streams;
pub mod subject;
mod user_subject;

pub use bucket::{Bucket, KeyEntry, PutError, Revision};
pub use connection::{
    Bus, BusConfig, ConnectError, ConnectionState, NATS_VERSIONS, NatsLogin, NatsLoginError, NatsMessage, RequestError,
    SendError, Subscription, is_safe_nats,
};
pub use hearing::Hearing;
pub use streams::{RESERVED_BYTES, SetupError, StreamLosses, keep_streams, setup};
pub use user_subject::{UserMessage, UserSubjects, UserSubscription};
