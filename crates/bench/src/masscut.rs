//! All connections of busy rooms are cut at once, and nobody comes back. How do new users fare?

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::case::{CasePace, Shape};
use crate::connection::Connection;
use crate::crowd::{Crowd, fresh_name};
use crate::histogram::Histogram;
use crate::load::Phase;
use crate::progress::BenchProgress;
use crate::push_jobs::{self, PushJobs};
use crate::server::BenchServer;
use crate::talk::Quantiles;
use crate::{BenchError, token};

/// What is cut: 100 rooms of 10.
pub(crate) const BUSY: Shape = Shape { rooms: 100, members: 10, pace: CasePace::PerSecond(18_000) };
/// How many newcomers come at a time.
const AT_A_TIME: usize = 4;
/// The pause between one newcomer and the next.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a newcomer waits for one step.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the case takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MassCutSpans {
    /// The time before the cut, in which the rooms are busy.
    pub(crate) busy: Duration,
    /// The time after the cut, in which newcomers come.
    pub(crate) newcomers: Duration,
}

impl Default for MassCutSpans {
    fn default() -> Self {
        Self { busy: Duration::from_secs(8), newcomers: Duration::from_secs(30) }
    }
}

/// What the machine gave before the cut, and what newcomers got after it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct MassCutOutcome {
    /// The messages that were answered before the cut, and in how many seconds.
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
    pub(crate) refused: u64,
    /// How many events members missed or got twice before the cut.
    pub(crate) wrong: u64,
    /// How many newcomers sent their first message, and how many failed or gave up.
    pub(crate) newcomers: u64,
    pub(crate) failed: u64,
    pub(crate) sign_in_us: Option<Quantiles>,
    pub(crate) create_us: Option<Quantiles>,
    pub(crate) send_us: Option<Quantiles>,
    /// The peak of the server's resident memory up to the cut, and up to the end.
    pub(crate) peak_at_cut: Option<u64>,
    pub(crate) peak: Option<u64>,
    pub(crate) push_jobs: Option<PushJobs>,
}

/// The times of the newcomers' steps.
#[derive(Debug, Default)]
struct Newcomers {
    sign_in: Histogram,
    create: Histogram,
    send: Histogram,
    served: u64,
    failed: u64,
}

impl Newcomers {
    fn ended(&mut self, served: bool) {
        self.served += u64::from(served);
        self.failed += u64::from(!served);
    }
}

/// Runs the case once against `server`.
pub(crate) async fn run(
    server: &BenchServer,
    shape: Shape,
    spans: MassCutSpans,
    progress: &BenchProgress,
) -> Result<MassCutOutcome, BenchError> {
    let mut crowd = Crowd::gather(&server.nodes, shape, progress).await?;
    let load = crowd.load.clone();
    crowd.begin().await?;
    load.enter(Phase::Counted);
    let start = Instant::now();
    progress.say("the rooms are busy");
    sleep(spans.busy).await;
    let seconds = start.elapsed().as_secs_f64();
    load.check()?;
    let peak_at_cut = server.peak();
    crowd.cut().await;

    let newcomers = RefCell::new(Newcomers::default());
    let (name, end) = (fresh_name(), Instant::now() + spans.newcomers);
    let comers = (0..AT_A_TIME).map(|lane| come(server.address(), format!("{name}-{lane}"), end, &newcomers, progress));
    join_all(comers).await;
    progress.say("waiting for push jobs");
    let push_jobs = match server.nats_url() {
        Some(url) => Some(push_jobs::count(&url).await?),
        None => None,
    };
    let (tally, newcomers) = (load.tally(), newcomers.into_inner());
    Ok(MassCutOutcome {
        messages: tally.answered,
        seconds,
        refused: tally.refused,
        wrong: tally.gaps + tally.repeats,
        newcomers: newcomers.served,
        failed: newcomers.failed,
        sign_in_us: Quantiles::of(&newcomers.sign_in),
        create_us: Quantiles::of(&newcomers.create),
        send_us: Quantiles::of(&newcomers.send),
        peak_at_cut,
        peak: server.peak(),
        push_jobs,
    })
}

/// Lets one newcomer after the other come, until `end`.
async fn come(address: &str, name: String, end: Instant, newcomers: &RefCell<Newcomers>, progress: &BenchProgress) {
    for n in 0.. {
        if Instant::now() >= end {
            return;
        }
        let served = newcomer(address, &format!("{name}-{n}"), newcomers).await.is_some();
        newcomers.borrow_mut().ended(served);
        progress.say(&format!("{} newcomers", newcomers.borrow().served));
        sleep(PAUSE).await;
    }
}

/// Signs a new user in, makes a room, and sends the first message. Returns `None` if a step failed.
async fn newcomer(address: &str, user: &str, newcomers: &RefCell<Newcomers>) -> Option<()> {
    // The page of tokens is a thing of development, and its time does not count.
    let token = timeout(PATIENCE, token::fetch(address, &[user.to_owned()])).await.ok()?.ok()?.pop()?;
    let signing_in = Connection::sign_in(address, &token, 10);
    let mut connection = timed(signing_in, |time| newcomers.borrow_mut().sign_in.record(time)).await?.connection;
    let create = connection.ask(json!({"op": "create", "room": format!("{user}-r"), "name": "new"}));
    timed(create, |time| newcomers.borrow_mut().create.record(time)).await?;
    let send = json!({"op": "send", "room": format!("{user}-r"), "nonce": "first", "body": {"text": "hello"}});
    timed(connection.ask(send), |time| newcomers.borrow_mut().send.record(time)).await?;
    connection.close().await.ok()
}

/// Tells how many nanoseconds a step took, also if it failed or was given up. Returns `None` then.
async fn timed<T>(step: impl Future<Output = Result<T, BenchError>>, tell: impl FnOnce(u64)) -> Option<T> {
    let start = Instant::now();
    let done = timeout(PATIENCE, step).await;
    tell(start.elapsed().as_nanos() as u64);
    done.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit;

    #[tokio::test]
    async fn newcomers_are_served_after_the_cut() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = BenchServer::running(listener.local_addr().unwrap().to_string());
        let serving = tokio::spawn(limit::serve_on(listener));
        let shape = Shape { rooms: 3, members: 4, pace: CasePace::PerSecond(300) };
        let spans = MassCutSpans { busy: Duration::from_millis(300), newcomers: Duration::from_millis(300) };
        let outcome = run(&server, shape, spans, &BenchProgress::new(String::new())).await.unwrap();
        serving.abort();
        assert!(outcome.messages > 20 && outcome.newcomers > 3, "{outcome:?}");
        assert!(outcome.sign_in_us.is_some() && outcome.create_us.is_some() && outcome.send_us.is_some());
        assert_eq!((outcome.failed, outcome.wrong, outcome.refused), (0, 0, 0));
    }
}
