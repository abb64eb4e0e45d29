//! The task that fetches jobs and has them settled.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt};
use sendpi_bus::push_log::PushOutcome;
use sendpi_bus::push_stream::{FetchedJob, JOBS_UNDER_WAY, JobPlace, JobReceipt, fetch_jobs};
use sendpi_bus::{Bus, RequestError};
use sendpi_model::Millis;
use sendpi_model::faults::{Mutant, mutant};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attempt::Attempted;
use crate::collapse::{Collapse, Due, EventRange, Part, Target};
use crate::gate::WebhookGate;
use crate::metrics::PushMetrics;
use crate::webhook::Posted;
use crate::worker::PushContext;

/// The most notifications that are posted at one time.
const POSTS: usize = 64;
/// The most users for whom something is given up at one time.
const GIVEN_UP: usize = 1_000;
/// The most users of fetched jobs who are not settled, counted for each job. Further jobs stay in the queue.
const UNSETTLED: usize = 200_000;
/// How often the queue is told that jobs are still being worked on.
const PROGRESS: Duration = Duration::from_secs(5);
/// The pause before jobs are fetched again after that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a worker that stops waits for what is under way.
const STOP: Duration = Duration::from_secs(2);

type Attempt = Pin<Box<dyn Future<Output = (Target, u32, Attempted)> + Send>>;

/// A job that was fetched, and how many of its users are not settled.
#[derive(Debug)]
struct OpenJob {
    receipt: JobReceipt,
    users: usize,
}

/// The state of the task.
pub(crate) struct PushLoop {
    context: PushContext,
    collapse: Collapse,
    gate: WebhookGate,
    metrics: PushMetrics,
    jobs: HashMap<JobPlace, OpenJob>,
    /// How many users of all these jobs are not settled.
    unsettled: usize,
    under_way: FuturesUnordered<Attempt>,
    acks: TaskTracker,
}

impl PushLoop {
    /// Returns a loop that collapses what comes within `collapse` after a notification.
    pub(crate) fn new(context: PushContext, collapse: Duration, metrics: PushMetrics) -> Self {
        Self {
            context,
            collapse: Collapse::new(collapse),
            gate: WebhookGate::default(),
            metrics,
            jobs: HashMap::new(),
            unsettled: 0,
            under_way: FuturesUnordered::new(),
            acks: TaskTracker::new(),
        }
    }

    /// Runs until `stop` is cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
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
            let has_room = self.unsettled < UNSETTLED && self.jobs.len() < JOBS_UNDER_WAY;
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
                Some((target, tries, attempted)) = self.under_way.next() => self.attempted(target, tries, attempted),
                () = sleep_until(next) => {}
                _ = progress.tick() => {
                    say_what_is_under_way(&self.context.bus, &self.jobs).await;
                    self.give_up_old();
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

    fn add(&mut self, FetchedJob { job, place, deliveries, receipt }: FetchedJob) {
        if let Some(open) = self.jobs.get_mut(&place).filter(|_| !mutant(Mutant::JobsCountTwice)) {
            // Nothing was heard of it for too long. What it has is known.
            open.receipt = receipt;
            return;
        }
        let users = job.users.len();
        if users == 0 {
            return self.done(receipt);
        }
        let range = EventRange { first: job.first, last: job.last, count: job.count };
        let part = Part { job: place, range, refusals: 0, deliveries };
        let now = Instant::now();
        for user in job.users {
            self.collapse.add((job.room.clone(), user), part.clone(), now);
        }
        self.unsettled += users;
        self.jobs.insert(place, OpenJob { receipt, users });
    }

    fn start_due(&mut self, now: Instant) {
        while self.under_way.len() < POSTS
            && self.gate.lets(self.under_way.len(), now)
            && let Some((target, due)) = self.collapse.next(now)
        {
            let context = self.context.clone();
            self.under_way.push(Box::pin(async move {
                let attempted = context.attempt(&target, due.parts).await;
                (target, due.tries, attempted)
            }));
        }
    }

    /// Gives up what the webhook did not take for too long. It is not asked again, so that a long outage ends before
    /// the queue drops jobs for their age.
    fn give_up_old(&mut self) {
        let give_up = u64::try_from(self.context.give_up.as_millis()).unwrap_or(u64::MAX);
        let before = Millis(Millis::now().0.saturating_sub(give_up));
        for (target, parts) in self.collapse.take_older(before, self.gate.is_down(Instant::now()), GIVEN_UP) {
            let context = self.context.clone();
            self.under_way.push(Box::pin(async move {
                let attempted = context.give_up(&target, parts).await;
                (target, 0, attempted)
            }));
        }
    }

    fn attempted(&mut self, target: Target, tries: u32, attempted: Attempted) {
        let (now, pause) = (Instant::now(), attempted.pause(tries));
        match &attempted.answer {
            Some(Posted::Taken(_)) => self.gate.opened(),
            Some(Posted::Refused(why)) => {
                self.gate.opened();
                tracing::warn!(why, room = %target.0, user = %target.1, "the webhook refused a notification");
            }
            Some(Posted::Later(why, pause)) => {
                self.gate.failed(now, *pause, rand::random());
                tracing::warn!(why, "the webhook is tried again later");
            }
            None => {}
        }
        let mut posted = false;
        for (parts, outcome) in attempted.settled {
            self.metrics.settled(outcome);
            posted |= outcome == PushOutcome::Posted;
            for part in parts {
                self.user_settled(part.job);
            }
        }
        if posted {
            self.collapse.posted(&target, now);
        }
        if attempted.again.is_empty() {
            self.collapse.settled(&target);
        } else {
            // Later each time, so that one that the webhook never answers does not stand before all others.
            let tries = tries + u32::from(!matches!(attempted.answer, Some(Posted::Refused(_))));
            let is_unanswered = matches!(attempted.answer, Some(Posted::Later(..)));
            self.collapse.put_back(target, Due { parts: attempted.again, tries, is_unanswered }, now + pause);
        }
    }

    fn user_settled(&mut self, job: JobPlace) {
        let Some(open) = self.jobs.get_mut(&job) else { return };
        self.unsettled -= 1;
        open.users -= 1;
        if open.users == 0
            && let Some(open) = self.jobs.remove(&job)
        {
            self.done(open.receipt);
        }
    }

    fn done(&self, receipt: JobReceipt) {
        self.acks.spawn(async move {
            if let Err(error) = receipt.done().await {
                tracing::debug!(%error, "a push job may come again");
            }
        });
    }

    async fn end(mut self) {
        let finish = async {
            while let Some((target, tries, attempted)) = self.under_way.next().await {
                self.attempted(target, tries, attempted);
            }
        };
        if timeout(STOP, finish).await.is_err() {
            tracing::info!(posts = self.under_way.len(), "stopped while notifications were posted; they come again");
        }
        let give_back = async {
            for open in self.jobs.values() {
                open.receipt.give_back().await;
            }
        };
        // What is not given back comes again by itself.
        let _in_time = timeout(STOP, give_back).await;
        self.acks.close();
        let _in_time = timeout(STOP, self.acks.wait()).await;
    }
}

/// Tells the queue which jobs are still being worked on. While there is no connection that would only fill what
/// waits to be sent, which others need, and the jobs come again in any case.
async fn say_what_is_under_way(bus: &Bus, jobs: &HashMap<JobPlace, OpenJob>) {
    if !bus.connection().borrow().up {
        return;
    }
    let say = async {
        for open in jobs.values() {
            open.receipt.is_under_way().await;
        }
    };
    if timeout(PROGRESS, say).await.is_err() {
        tracing::warn!(jobs = jobs.len(), "NATS takes nothing; push jobs may come again");
    }
}
