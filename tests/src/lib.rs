//! The tools of the tests: servers for each test, and clients that notice if an event is lost, repeated or
//! out of order.
//!
//! [`Sendpi`], [`ServedNode`], [`NatsServer`] and [`CassandraServer`] run real processes on free ports and end them on
//! drop. A [`Keyspace`] is a test's own, in a database that the tests share. [`SmallDisk`] can be filled.
//! A [`WorkerNode`] runs workers within the test, on a [`TestStore`], or a [`DisturbedStore`] if they are to meet a
//! bad one.
//! A [`TestFleet`] is a gateway and workers, each a process.
//! [`OperatorPages`] is what operators open in a browser. [`Browser`] is a headless Chromium, [`ChatTerminal`] a user
//! at a terminal. A [`Proxy`] is a bad network, a [`CqlProxy`] one between Sendpi and its database. A [`Recording`]
//! is a client that remembers what it received and checks it against the promises of the protocol.

mod browser;
mod cassandra;
mod certificates;
mod chat_terminal;
mod cql_proxy;
mod disturbed_store;
mod fleet;
mod http;
mod keyspace;
mod load;
mod nats;
mod nats_client;
mod nats_cluster;
mod nats_rights;
mod node_program;
mod operator_pages;
mod process;
mod proxy;
mod pushes;
mod recording;
mod sendpi;
mod served_node;
mod small_disk;
mod test_log;
mod test_store;
mod timelines;
mod tls_proxy;
mod token_issuer;
mod webhook;
mod within;
mod worker_node;

pub use browser::{Browser, BrowserPage};
pub use cassandra::CassandraServer;
pub use certificates::TestCertificates;
pub use chat_terminal::ChatTerminal;
pub use cql_proxy::CqlProxy;
pub use disturbed_store::DisturbedStore;
pub use fleet::{FleetNats, TestFleet};
pub use http::{HttpAnswer, api, get, metric, request};
pub use keyspace::Keyspace;
pub use load::{Messages, SteadyLoad};
pub use nats::NatsServer;
pub use nats_client::NatsClient;
pub use nats_cluster::NatsCluster;
pub use nats_rights::NatsWithRights;
pub use node_program::NodeProgram;
pub use operator_pages::OperatorPages;
pub use process::{loopback_network, nats_server};
pub use proxy::{HalfOpen, Proxy};
pub use pushes::{Push, PushRecorder, limit_push_stream, put_push_job};
pub use recording::Recording;
pub use sendpi::{Sendpi, SendpiSetup, sendpi_binary};
pub use served_node::ServedNode;
pub use small_disk::SmallDisk;
pub use test_store::TestStore;
pub use timelines::{Timeline, Timelines};
pub use tls_proxy::TlsProxy;
pub use token_issuer::{IssuerKey, TokenIssuer};
pub use webhook::{PostedPush, WebhookServer};
pub use within::{step, until, within};
pub use worker_node::WorkerNode;
