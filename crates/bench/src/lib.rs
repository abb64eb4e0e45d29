//! The load generator: what Sendpi does with a CPU second, beside what a bare broadcast over the same sockets does with one.
//!
//! [`run`] starts what it measures (`sendpi dev` on an empty directory), connects users over the client protocol, and checks
//! while it measures: each member of a room has to get each event once and in order, or the run fails.

mod args;
mod case;
mod connection;
mod error;
mod frame;
mod histogram;
mod idle;
mod limit;
mod load;
mod proc;
mod progress;
mod receiver;
mod report;
mod run;
mod server;
mod signin;
mod talk;
mod token;
mod websocket;

pub use args::{BenchArgs, CaseName};
pub use error::BenchError;
pub use run::run;
