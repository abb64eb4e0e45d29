//! The cases in which members send messages.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::BenchError;
use crate::case::Shape;
use crate::crowd::Crowd;
use crate::histogram::Histogram;
use crate::load::Phase;
use crate::progress::BenchProgress;
use crate::server::{BenchServer, Parts};

/// The outcome of one run of a case.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TalkOutcome {
    pub(crate) seconds: f64,
    pub(crate) messages: u64,
    pub(crate) deliveries: u64,
    /// The CPU seconds used in that time.
    pub(crate) cpu: Option<Parts<f64>>,
    pub(crate) deliveries_per_cpu_second: Option<f64>,
    pub(crate) latency_us: Option<Quantiles>,
    pub(crate) answer_us: Option<Quantiles>,
    pub(crate) refused: u64,
    pub(crate) gaps: u64,
    pub(crate) repeats: u64,
    pub(crate) missing: u64,
    pub(crate) fsync_us: Option<f64>,
}

impl TalkOutcome {
    /// Returns the number of errors in the deliveries.
    pub(crate) fn wrong(&self) -> u64 {
        self.gaps + self.repeats + self.missing
    }
}

/// The median, the 99th percentile and the longest of times, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) longest: f64,
}

impl Quantiles {
    pub(crate) fn of(times: &Histogram) -> Option<Self> {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let (p50, p99) = (times.quantile(0.5)?, times.quantile(0.99)?);
        Some(Self { p50: micros(p50), p99: micros(p99), longest: micros(times.longest()) })
    }
}

/// The durations of the phases of a case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spans {
    /// The time before anything is counted.
    pub(crate) warm: Duration,
    /// The time in which the load is counted.
    pub(crate) counted: Duration,
}

/// Runs a case once against `server`.
pub(crate) async fn run(
    server: &BenchServer,
    shape: Shape,
    spans: Spans,
    progress: &BenchProgress,
) -> Result<TalkOutcome, BenchError> {
    let fsync = server.fsync();
    let mut crowd = Crowd::gather(&server.nodes, shape, progress).await?;
    let load = crowd.load.clone();
    crowd.begin().await?;
    sleep(spans.warm).await;
    load.enter(Phase::Counted);
    let (start, cpu) = (Instant::now(), server.cpu());
    while start.elapsed() < spans.counted {
        let rest = spans.counted.saturating_sub(start.elapsed());
        sleep(rest.min(Duration::from_secs(1))).await;
        progress.say(&format!("{} deliveries in {} s", load.tally().deliveries, start.elapsed().as_secs()));
    }
    load.enter(Phase::Over);
    let (seconds, cpu) =
        (start.elapsed().as_secs_f64(), server.cpu().zip(cpu).map(|(after, before)| after.since(before)));
    crowd.end().await?;
    let tally = load.tally();
    Ok(TalkOutcome {
        seconds,
        messages: tally.answered,
        deliveries: tally.deliveries,
        cpu: cpu.map(|cpu| Parts { server: cpu.server.as_secs_f64(), nats: cpu.nats.as_secs_f64() }),
        deliveries_per_cpu_second: cpu.map(|cpu| tally.deliveries as f64 / cpu.seconds()),
        latency_us: Quantiles::of(&tally.latency),
        answer_us: Quantiles::of(&tally.answers),
        refused: tally.refused,
        gaps: tally.gaps,
        repeats: tally.repeats,
        missing: tally.missing(),
        fsync_us: fsync.map(|time| time.as_secs_f64() * 1e6),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::CasePace;
    use crate::limit;

    const SPANS: Spans = Spans { warm: Duration::from_millis(100), counted: Duration::from_millis(400) };

    async fn outcome(pace: CasePace) -> TalkOutcome {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = BenchServer::running(listener.local_addr().unwrap().to_string());
        let serving = tokio::spawn(limit::serve_on(listener));
        let shape = Shape { rooms: 3, members: 120, pace };
        let outcome = run(&server, shape, SPANS, &BenchProgress::new(String::new())).await.unwrap();
        serving.abort();
        outcome
    }

    #[tokio::test]
    async fn in_an_open_loop_every_member_gets_every_event() {
        let outcome = outcome(CasePace::PerSecond(200)).await;
        assert!(outcome.messages > 20 && outcome.deliveries > 20 * 120, "{outcome:?}");
        assert_eq!((outcome.wrong(), outcome.refused), (0, 0));
    }

    #[tokio::test]
    async fn in_a_closed_loop_every_member_gets_every_event() {
        let outcome = outcome(CasePace::Closed { senders: 5, under_way: 2 }).await;
        assert!(outcome.messages > 20 && outcome.latency_us.is_some() && outcome.answer_us.is_some(), "{outcome:?}");
        assert_eq!(outcome.wrong(), 0);
    }
}
