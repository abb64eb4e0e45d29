//! The load generator. It compares what Sendpi does with a CPU second to what a bare broadcast over WebSockets does
//! with one.
//!
//! [`run`] starts the server to be measured (`sendpi dev` on an empty directory, unless an address is given) and
//! connects users over the client protocol. It checks while it measures: each member of a room has to receive each
//! event once and in order, or the run fails.
//!
//! # Map
//! - `run`: runs the chosen cases. `args`: the arguments. `report`, `progress`: what is printed. `error`: why it
//!   failed.
//! - `case`: the cases. `talk`: members send messages. `signin`: the time to the welcome. `idle`: memory per user.
//!   `live_rooms`: memory per live room. `writes`: what a room writes. `masscut`: all connections are cut at once.
//!   `deadnode`: a node dies.
//! - `crowd`: the users of a case and their rooms. `push_jobs`: how many push jobs there are.
//! - `database`: the keyspace of a server that is measured on a database.
//! - `limit`: the bare server that Sendpi is compared with. `server`: the server to be measured.
//! - `load`: what the connections of a case share, and the check of what arrives. `receiver`: a member under load.
//! - `connection`: requests that are not measured. `websocket`, `frame`: the protocol, as cheap as it gets.
//! - `token`: fetches tokens. `histogram`: times. `proc`: what the kernel knows about a process.

mod args;
mod case;
mod connection;
mod crowd;
mod database;
mod deadnode;
mod error;
mod frame;
mod histogram;
mod idle;
mod limit;
mod live_rooms;
mod load;
mod masscut;
mod proc;
mod progress;
mod push_jobs;
mod receiver;
mod report;
mod run;
mod server;
mod signin;
mod talk;
mod token;
mod websocket;
mod writes;

pub use args::{BenchArgs, CaseName};
pub use error::BenchError;
pub use run::run;
