//! The task that fetches jobs and posts notifications.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt};
use prometheus_client::registry::Registry;
use sendpi_bus::ingest_stream::keep_dead_letter;
use sendpi_bus::presence::{Barrier, NodeKey};
use sendpi_bus::push_log::{PushLogEntry, PushOutcome, log_push, read_push_log};
use sendpi_bus::push_stream::{FetchedJob, fetch_jobs};
use sendpi_bus::{Bus, RequestError, SendError, subject};
use sendpi_fetch::FetchError;
use sendpi_model::{Millis, encode_json};
use sendpi_store::Store;
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::collapse::{Collapse, Due, JobNumber, Target};
use crate::config::PushConfig;
use crate::control;
use crate::gate::WebhookGate;
use crate::metrics::PushMetrics;
use crate::notification::prepare;
use crate::webhook::{Posted, Webhook};

/// The most notifications that are posted at one time.
const POSTS: usize = 64;
/// The most users for whom something waits. Further jobs stay in the queue.
const WAITING: usize = 50_000;
/// The most jobs that are fetched and not done.
const JOBS: usize = 1_000;
/// How often the queue is told that jobs are still being worked on.
const PROGRESS: Duration = Duration::from_secs(5);
/// The pause after something failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the pause doubles for one that the webhook does not answer.
const LONGEST_TRY: u32 = 10;
/// A notification that the webhook refused so often becomes a dead letter.
const REFUSALS: u32 = 5;
/// A job that came so often ended its worker each time. It becomes a dead letter, before the queue drops it.
const DELIVERIES: u64 = 10;
/// How long a worker that stops waits for what is under way.
const STOP: Duration = Duration::from_secs(2);

/// Why a push worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum PushWorkerStartError {
    /// The webhook cannot be used.
    #[error(transparent)]
    Webhook(#[from] FetchError),
    /// The connection to NATS is closed.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// A running push worker.
#[derive(Debug)]
pub struct PushWorker {
    stop: CancellationToken,
    metrics: PushMetrics,
    task: JoinHandle<()>,
}

impl PushWorker {
    /// Registers the metrics of the worker.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Stops fetching jobs, waits shortly for what is under way, and gives the rest back to the queue.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the push worker's task failed");
        }
    }
}

/// What the tasks of a push worker share.
#[derive(Debug, Clone)]
pub(crate) struct PushContext {
    pub(crate) bus: Bus,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) presence: Barrier,
    pub(crate) webhook: Option<Webhook>,
    give_up: Duration,
}

/// Starts a push worker.
///
/// # Errors
/// [`PushWorkerStartError`] if the webhook cannot be used, or if the connection to NATS is closed.
pub async fn start(
    bus: Bus,
    store: Arc<dyn Store>,
    key: NodeKey,
    config: PushConfig,
) -> Result<PushWorker, PushWorkerStartError> {
    let PushConfig { webhook, collapse, timeout, give_up } = config;
    let webhook = webhook.map(|webhook| Webhook::new(webhook, timeout)).transpose()?;
    let presence = Barrier::start(&bus, key);
    let context = PushContext { bus, store, presence, webhook, give_up };
    let stop = CancellationToken::new();
    control::answer(context.clone(), stop.clone()).await?;
    let metrics = PushMetrics::default();
    let worker = PushLoop {
        context,
        collapse: Collapse::new(collapse),
        gate: WebhookGate::default(),
        metrics: metrics.clone(),
        jobs: HashMap::new(),
        last_job: 0,
        under_way: FuturesUnordered::new(),
        acks: TaskTracker::new(),
    };
    let task = tokio::spawn(worker.run(stop.clone()));
    Ok(PushWorker { stop, metrics, task })
}

/// What became of one notification.
#[derive(Debug)]
enum Outcome {
    /// It is settled.
    Settled(PushOutcome),
    /// It is to be tried again. `Some` names what the webhook did.
    Later(String, Option<Duration>, FailedPart),
    /// The webhook refused it.
    Refused(String),
}

/// What could not be reached.
#[derive(Debug, PartialEq, Eq)]
enum FailedPart {
    Webhook,
    Store,
}

type Attempt = Pin<Box<dyn Future<Output = (Target, Due, Outcome)> + Send>>;

/// A job that was fetched, and how many of its users are not settled.
#[derive(Debug)]
struct OpenJob {
    job: Arc<FetchedJob>,
    users: usize,
}

struct PushLoop {
    context: PushContext,
    collapse: Collapse,
    gate: WebhookGate,
    metrics: PushMetrics,
    jobs: HashMap<JobNumber, OpenJob>,
    last_job: JobNumber,
    under_way: FuturesUnordered<Attempt>,
    acks: TaskTracker,
}

impl PushLoop {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            match fetch_jobs(&self.context.bus).await {
                Ok(jobs) => {
                    if self.serve(jobs, &stop).await {
                        break;
                    }
                }
                Err(error) => tracing::warn!(%error, "push jobs cannot be fetched now; it is tried again"),
            }
            if stop.run_until_cancelled(sleep(PAUSE)).await.is_none() {
                break;
            }
        }
        self.end().await;
    }

    /// Serves until the jobs end or the worker is stopped. Returns whether it is stopped.
    async fn serve(
        &mut self,
        mut jobs: impl Stream<Item = Result<FetchedJob, RequestError>> + Unpin,
        stop: &CancellationToken,
    ) -> bool {
        let mut progress = interval(PROGRESS);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.start_due(Instant::now());
            self.metrics.waiting.set(self.collapse.len() as i64);
            let next = self.next_at(Instant::now());
            let has_room = self.collapse.len() < WAITING && self.jobs.len() < JOBS;
            tokio::select! {
                () = stop.cancelled() => return true,
                job = jobs.next(), if has_room => match job {
                    Some(Ok(job)) => self.add(job),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "push jobs cannot be fetched now; it is tried again");
                        return false;
                    }
                    None => return false,
                },
                Some((target, due, outcome)) = self.under_way.next() => self.attempted(target, due, outcome),
                () = sleep_until(next) => {}
                _ = progress.tick() => {
                    for open in self.jobs.values() {
                        open.job.is_under_way().await;
                    }
                }
            }
        }
    }

    /// Returns when something may be due that is not now.
    fn next_at(&self, now: Instant) -> Instant {
        // What ends wakes the loop as well, so a minute is soon enough where nothing is known to be due.
        let idle = now + Duration::from_secs(60);
        if self.under_way.len() >= POSTS {
            return idle;
        }
        let due = self.collapse.next_at().unwrap_or(idle);
        match self.gate.until().filter(|until| *until > now) {
            Some(until) => until.max(due),
            None if !self.gate.lets(self.under_way.len(), now) => idle,
            None => due,
        }
    }

    fn add(&mut self, job: FetchedJob) {
        self.last_job += 1;
        let now = Instant::now();
        let fetched = &job.job;
        for user in &fetched.users {
            let due = Due {
                first: fetched.first,
                last: fetched.last,
                count: fetched.count,
                since: job.published(),
                jobs: vec![self.last_job],
                tries: 0,
                refusals: if job.deliveries() > DELIVERIES { REFUSALS } else { 0 },
                may_be_posted: job.deliveries() > 1,
            };
            self.collapse.add((fetched.room.clone(), user.clone()), due, now);
        }
        let open = OpenJob { users: fetched.users.len(), job: Arc::new(job) };
        if open.users == 0 {
            self.done(open.job);
        } else {
            self.jobs.insert(self.last_job, open);
        }
    }

    fn start_due(&mut self, now: Instant) {
        while self.under_way.len() < POSTS
            && self.gate.lets(self.under_way.len(), now)
            && let Some((target, due)) = self.collapse.next(now)
        {
            let context = self.context.clone();
            self.under_way.push(Box::pin(async move {
                let outcome = if due.refusals >= REFUSALS {
                    bury(&context, &target, &due, "the webhook refused it, or the worker ended with it, too often")
                        .await
                } else {
                    attempt(&context, &target, &due).await
                };
                (target, due, outcome)
            }));
        }
    }

    fn attempted(&mut self, target: Target, due: Due, outcome: Outcome) {
        let now = Instant::now();
        match outcome {
            Outcome::Settled(outcome) => {
                self.metrics.settled(outcome);
                if outcome == PushOutcome::Posted {
                    self.gate.opened();
                }
                self.collapse.settled(&target, outcome == PushOutcome::Posted, now);
                for number in due.jobs {
                    self.user_settled(number);
                }
            }
            Outcome::Later(why, pause, part) => {
                if part == FailedPart::Webhook {
                    self.gate.failed(now, pause, rand::random());
                    tracing::warn!(why, "the webhook is tried again later");
                }
                // Later each time, so that one that the webhook never answers does not stand before all others.
                let pause = PAUSE * 2_u32.pow(due.tries.min(LONGEST_TRY));
                self.collapse.put_back(target, Due { tries: due.tries + 1, ..due }, now + pause);
            }
            Outcome::Refused(why) => {
                self.gate.opened();
                tracing::warn!(why, room = %target.0, user = %target.1, "the webhook refused a notification");
                let refusals = due.refusals + 1;
                let pause = if refusals < REFUSALS { PAUSE * 2_u32.pow(refusals - 1) } else { Duration::ZERO };
                self.collapse.put_back(target, Due { refusals, ..due }, now + pause);
            }
        }
    }

    fn user_settled(&mut self, number: JobNumber) {
        let Some(open) = self.jobs.get_mut(&number) else { return };
        open.users = open.users.saturating_sub(1);
        if open.users == 0
            && let Some(open) = self.jobs.remove(&number)
        {
            self.done(open.job);
        }
    }

    fn done(&self, job: Arc<FetchedJob>) {
        self.acks.spawn(async move {
            if let Err(error) = job.done().await {
                tracing::debug!(%error, "a push job may come again");
            }
        });
    }

    async fn end(mut self) {
        let finish = async {
            while let Some((target, due, outcome)) = self.under_way.next().await {
                self.attempted(target, due, outcome);
            }
        };
        if timeout(STOP, finish).await.is_err() {
            tracing::info!(posts = self.under_way.len(), "stopped while notifications were posted; they come again");
        }
        for open in self.jobs.values() {
            open.job.give_back().await;
        }
        self.acks.close();
        let _in_time = timeout(STOP, self.acks.wait()).await;
    }
}

/// Tries to settle what is due for a user, and writes down what became of it.
async fn attempt(context: &PushContext, target: &Target, due: &Due) -> Outcome {
    let (room, user) = target;
    if due.may_be_posted && was_posted(context, target, due).await {
        return Outcome::Settled(PushOutcome::Posted);
    }
    let prepared = match prepare(context.store.as_ref(), (room, user), due, Millis::now()).await {
        Ok(prepared) => prepared,
        Err(error) => {
            tracing::warn!(%error, "the store did not answer for a notification; it is tried again");
            return Outcome::Later(error.to_string(), None, FailedPart::Store);
        }
    };
    let notification = match prepared {
        Ok(notification) => notification,
        Err(outcome) => return settled(context, target, due, outcome, None).await,
    };
    let Some(webhook) = &context.webhook else {
        return settled(context, target, due, PushOutcome::NoWebhook, None).await;
    };
    let id = notification.id();
    match webhook.post(&id, Bytes::from(encode_json(&notification))).await {
        Posted::Taken(_) => settled(context, target, due, PushOutcome::Posted, Some(id)).await,
        Posted::Refused(why) => {
            log(context, target, due, PushOutcome::Waiting, Some(why.clone())).await;
            Outcome::Refused(why)
        }
        Posted::Later(why, _) if Millis::now().since(due.since) > context.give_up => {
            bury(context, target, due, &why).await
        }
        Posted::Later(why, pause) => {
            log(context, target, due, PushOutcome::Waiting, Some(why.clone())).await;
            Outcome::Later(why, pause, FailedPart::Webhook)
        }
    }
}

/// Returns whether an earlier worker posted it and ended before it could say so.
async fn was_posted(context: &PushContext, (room, user): &Target, due: &Due) -> bool {
    let entries = read_push_log(&context.bus, room, user).await.unwrap_or_default();
    let covers = |entry: &PushLogEntry| entry.first <= due.first && entry.last >= due.last;
    entries.iter().any(|entry| entry.outcome == PushOutcome::Posted && covers(entry))
}

async fn settled(
    context: &PushContext,
    target: &Target,
    due: &Due,
    outcome: PushOutcome,
    detail: Option<String>,
) -> Outcome {
    log(context, target, due, outcome, detail).await;
    Outcome::Settled(outcome)
}

async fn log(context: &PushContext, target: &Target, due: &Due, outcome: PushOutcome, detail: Option<String>) {
    let (room, user) = target.clone();
    let entry = PushLogEntry { v: 1, room, user, first: due.first, last: due.last, outcome, at: Millis::now(), detail };
    if let Err(error) = log_push(&context.bus, &entry).await {
        tracing::debug!(%error, "what became of a push may not be in the log");
    }
}

/// Keeps a notification that cannot be posted, with the reason.
async fn bury(context: &PushContext, target: &Target, due: &Due, why: &str) -> Outcome {
    #[derive(Serialize)]
    struct DeadLetter<'a> {
        reason: &'a str,
        room: &'a str,
        user: &'a str,
        first: u64,
        last: u64,
        count: u64,
        since: Millis,
    }
    let (room, user) = (target.0.as_str(), target.1.as_str());
    let Due { first, last, count, since, .. } = *due;
    let letter = encode_json(&DeadLetter { reason: why, room, user, first, last, count, since });
    let (subject, id) = (subject::dead_push(&target.0, &target.1), format!("push.{room}.{user}.{first}-{last}"));
    if let Err(error) = keep_dead_letter(&context.bus, subject, &id, letter.into()).await {
        return Outcome::Later(error.to_string(), None, FailedPart::Store);
    }
    tracing::error!(why, room, user, first, last, "a push is tried no more; it is kept as a dead letter");
    settled(context, target, due, PushOutcome::DeadLetter, Some(why.to_owned())).await
}
