//! How many push jobs Sendpi leaves in the push stream.

use std::time::Duration;

use sendpi_bus::push_stream::count_jobs;
use sendpi_bus::{Bus, BusConfig};
use sendpi_model::NodeId;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::BenchError;

/// The number is final if it has not changed for this long.
const QUIET: Duration = Duration::from_secs(3);
/// How long to wait for the final number.
const PATIENCE: Duration = Duration::from_secs(120);

/// The jobs in the push stream.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct PushJobs {
    pub(crate) jobs: u64,
    /// Whether no more jobs came. Otherwise the server was still making jobs when the wait ended.
    pub(crate) all: bool,
}

/// Waits until the number of jobs in the push stream is final, and returns it.
pub(crate) async fn count(nats_url: &str) -> Result<PushJobs, BenchError> {
    let failed = |error: &dyn std::fmt::Display| BenchError::PushJobs(error.to_string());
    let config = BusConfig { servers: nats_url.to_owned(), ..BusConfig::default() };
    let node = NodeId::parse("bench").map_err(|error| failed(&error))?;
    let bus = Bus::connect(&config, node).await.map_err(|error| failed(&error))?;
    let (begun, mut last, mut since) = (Instant::now(), None, Instant::now());
    loop {
        let jobs = count_jobs(&bus).await.map_err(|error| failed(&error))?;
        if last != Some(jobs) {
            (last, since) = (Some(jobs), Instant::now());
        }
        let all = since.elapsed() > QUIET;
        if all || begun.elapsed() > PATIENCE {
            return Ok(PushJobs { jobs, all });
        }
        sleep(Duration::from_millis(250)).await;
    }
}
