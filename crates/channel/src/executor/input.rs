//! What an executor waits for, and what took longest in one of its rounds.

use sendpi_bus::NatsMessage;
use sendpi_bus::lease::PartitionChange;
use sendpi_bus::presence::NodeChange;
use sendpi_model::Partition;
use tokio::time::{Duration, Instant};

use super::job_result::FinishedJob;
use super::push_queue::PushRound;
use crate::ingest::OwnRequest;

/// What took longest in a round.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SlowestArm {
    pub(super) took: Duration,
    pub(super) arm: &'static str,
}

impl SlowestArm {
    /// Notes how long an arm took that began then.
    pub(super) fn note(&mut self, began: Instant, arm: &'static str) {
        let took = began.elapsed();
        if took > self.took {
            *self = Self { took, arm };
        }
    }
}

/// What an executor waits for.
#[derive(Debug)]
pub(super) enum ExecutorInput {
    Requests(Partition, NatsMessage),
    Result(FinishedJob),
    LinkAnswer(NatsMessage),
    Pushed(PushRound),
    Own(OwnRequest),
    Node(NodeChange),
    Lease(PartitionChange),
    Orphan(NatsMessage),
    Control(NatsMessage),
    Stop,
    Connection,
    Store,
    Streams,
    Tick,
}

impl ExecutorInput {
    /// Returns what log lines call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Requests(..) => "requests",
            Self::Result(finished) => finished.result.name(),
            Self::LinkAnswer(_) => "answer to a link",
            Self::Pushed(_) => "push job kept",
            Self::Own(_) => "own request",
            Self::Node(_) => "node came or went",
            Self::Lease(_) => "a lease changed",
            Self::Orphan(_) => "nobody answers for a partition",
            Self::Control(_) => "an operator asks",
            Self::Stop => "the worker stops",
            Self::Connection => "connection to NATS",
            Self::Store => "store failed or open again",
            Self::Streams => "a stream was made anew",
            Self::Tick => "tick",
        }
    }
}
