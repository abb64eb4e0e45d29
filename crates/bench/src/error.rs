//! The errors of the load generator.

use std::io;

/// The reason why a benchmark failed.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The address cannot be used.
    #[error("{0:?} is not of the form http://host:port")]
    Url(String),
    /// The process to be measured did not start.
    #[error("{what} did not start: {why}")]
    Start {
        /// The process.
        what: &'static str,
        /// What failed, and the last lines of its log.
        why: String,
    },
    /// The open-files limit is too low for so many connections.
    #[error("{needed} connections need an open-files limit above {limit}: raise it with `ulimit -n`")]
    OpenFiles {
        /// The number of connections.
        needed: usize,
        /// The limit of this process.
        limit: usize,
    },
    /// A connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server sent something that this program does not understand, or ended a connection.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The server refused a request that has to succeed.
    #[error("{op} was refused: {answer}")]
    Refused {
        /// The request.
        op: String,
        /// The answer.
        answer: String,
    },
    /// The database of the server failed.
    #[error("the database: {0}")]
    Database(String),
    /// The push stream cannot be read.
    #[error("the push jobs cannot be counted: {0}")]
    PushJobs(String),
    /// Members did not receive every event once and in order, or a connection under load failed.
    #[error("deliveries are wrong: {0}")]
    Deliveries(String),
}

impl BenchError {
    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }
}
