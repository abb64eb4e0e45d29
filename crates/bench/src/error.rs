//! What can go wrong.

use std::io;

/// Why a benchmark ended early, or what it found.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The address cannot be used.
    #[error("{0:?} is not of the form http://host:port")]
    Url(String),
    /// The process to be measured did not come up.
    #[error("{what} did not start: {why}")]
    Start {
        /// Which.
        what: &'static str,
        /// What it said last.
        why: String,
    },
    /// The open-files limit is too low for so many connections.
    #[error("{needed} connections need an open-files limit above {limit}: raise it with `ulimit -n`")]
    OpenFiles {
        /// How many connections.
        needed: usize,
        /// The limit of this process.
        limit: usize,
    },
    /// A connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server said what this program does not understand.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The server refused a request that has to succeed.
    #[error("{op} was refused: {answer}")]
    Refused {
        /// Which request.
        op: String,
        /// The answer.
        answer: String,
    },
    /// Members did not get every event once and in order.
    #[error("deliveries are not right: {0}")]
    Deliveries(String),
}

impl BenchError {
    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }
}
