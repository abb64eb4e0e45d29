//! One attempt to settle what is due for a user: it is posted, not wanted any more, or kept as a dead letter. The push
//! log has what became of it.

use std::time::Duration;

use bytes::Bytes;
use sendpi_bus::ingest_stream::keep_dead_letter;
use sendpi_bus::push_log::{PushLogEntry, PushOutcome, log_push, read_push_log};
use sendpi_bus::push_stream::ACK_WAIT;
use sendpi_bus::subject;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Millis, encode_json};
use serde::Serialize;

use crate::collapse::{EventRange, Part, Target, range_of};
use crate::notification::prepare;
use crate::webhook::Posted;
use crate::worker::PushContext;

/// What the webhook refused so often becomes a dead letter.
const REFUSALS: u32 = 5;
/// A job that came so often ended its worker most times. It becomes a dead letter and is tried no more.
const DELIVERIES: u64 = 50;

/// What became of what was due.
#[derive(Debug, Default)]
pub(crate) struct Attempted {
    /// What is settled, and how.
    pub(crate) settled: Vec<(Vec<Part>, PushOutcome)>,
    /// What is to be tried again.
    pub(crate) again: Vec<Part>,
    /// What the webhook did, if it was asked.
    pub(crate) answer: Option<Posted>,
}

impl PushContext {
    /// Tries to settle what is due for a user.
    pub(crate) async fn attempt(&self, target: &Target, parts: Vec<Part>) -> Attempted {
        let mut attempted = Attempted::default();
        let (hopeless, parts) = parts.into_iter().partition(|part| part.deliveries > DELIVERIES);
        self.bury(target, hopeless, "workers ended with it too often", &mut attempted).await;
        let (posted, parts) = self.posted_before(target, parts).await;
        attempted.settle(posted, PushOutcome::Posted);
        let Some(range) = range_of(&parts) else { return attempted };
        match prepare(self.store.as_ref(), (&target.0, &target.1), range, Millis::now()).await {
            Ok(Ok(notification)) => {
                let (id, body) = (notification.id(), Bytes::from(encode_json(&notification)));
                self.post(target, (range, parts), id, body, &mut attempted).await;
            }
            Ok(Err(outcome)) => {
                self.log(target, range, outcome, None).await;
                attempted.settle(parts, outcome);
            }
            Err(error) => {
                tracing::warn!(%error, "the store did not answer for a notification; it is tried again");
                attempted.again.extend(parts);
            }
        }
        attempted
    }

    /// Gives up what the webhook did not take for too long.
    pub(crate) async fn give_up(&self, target: &Target, parts: Vec<Part>) -> Attempted {
        let mut attempted = Attempted::default();
        self.bury(target, parts, "the webhook did not take it for too long", &mut attempted).await;
        attempted
    }

    async fn post(
        &self,
        target: &Target,
        (range, mut parts): (EventRange, Vec<Part>),
        id: String,
        body: Bytes,
        attempted: &mut Attempted,
    ) {
        let Some(webhook) = &self.webhook else {
            self.log(target, range, PushOutcome::NoWebhook, None).await;
            return attempted.settle(parts, PushOutcome::NoWebhook);
        };
        let answer = webhook.post(&id, body).await;
        match &answer {
            Posted::Taken(_) => {
                self.log(target, range, PushOutcome::Posted, Some(id)).await;
                attempted.settle(parts, PushOutcome::Posted);
            }
            Posted::Refused(why) => {
                parts.iter_mut().for_each(|part| part.refusals += 1);
                let (hopeless, again) = parts.into_iter().partition(|part| part.refusals >= REFUSALS);
                let too_often = format!("the webhook refused it too often: {why}");
                self.bury(target, hopeless, &too_often, attempted).await;
                self.wait(target, again, why, attempted).await;
            }
            Posted::Later(..) if mutant(Mutant::PushRetriesOff) => attempted.settle(parts, PushOutcome::Posted),
            Posted::Later(why, _) => self.wait(target, parts, why, attempted).await,
        }
        attempted.answer = Some(answer);
    }

    /// Notes that some parts are to be tried again, and why.
    async fn wait(&self, target: &Target, parts: Vec<Part>, why: &str, attempted: &mut Attempted) {
        if let Some(range) = range_of(&parts) {
            self.log(target, range, PushOutcome::Waiting, Some(why.to_owned())).await;
        }
        attempted.again.extend(parts);
    }

    /// Parts what an earlier worker posted, and ended before it could say so, from the rest.
    async fn posted_before(&self, (room, user): &Target, parts: Vec<Part>) -> (Vec<Part>, Vec<Part>) {
        let now = Millis::now();
        // One that lay here for too long before it was read went to another worker meanwhile.
        let may_be = |part: &Part| part.deliveries > 1 || now.since(part.job.published) > ACK_WAIT;
        if !parts.iter().any(may_be) {
            return (Vec::new(), parts);
        }
        let entries = read_push_log(&self.bus, room, user).await.unwrap_or_default();
        parts.into_iter().partition(|part| {
            let covers = |entry: &PushLogEntry| entry.first <= part.range.first && entry.last >= part.range.last;
            may_be(part) && entries.iter().any(|entry| entry.outcome == PushOutcome::Posted && covers(entry))
        })
    }

    async fn log(&self, target: &Target, range: EventRange, outcome: PushOutcome, detail: Option<String>) {
        let ((room, user), EventRange { first, last, .. }) = (target.clone(), range);
        let entry = PushLogEntry { v: 1, room, user, first, last, outcome, at: Millis::now(), detail };
        if let Err(error) = log_push(&self.bus, &entry).await {
            tracing::debug!(%error, "what became of a push may not be in the log");
        }
    }

    /// Keeps what cannot be posted as a dead letter, with the reason.
    async fn bury(&self, target: &Target, parts: Vec<Part>, why: &str, attempted: &mut Attempted) {
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
        let (Some(range), Some(since)) = (range_of(&parts), parts.iter().map(|part| part.job.published).min()) else {
            return;
        };
        let (room, user) = (target.0.as_str(), target.1.as_str());
        let EventRange { first, last, count } = range;
        let letter = encode_json(&DeadLetter { reason: why, room, user, first, last, count, since });
        let subject = subject::dead_push(&target.0, &target.1);
        let id = format!("{subject}.{first}-{last}");
        if let Err(error) = keep_dead_letter(&self.bus, subject, &id, letter.into()).await {
            tracing::warn!(%error, "a dead letter may not be kept; it is tried again");
            return attempted.again.extend(parts);
        }
        tracing::error!(why, room, user, first, last, "a push is tried no more; it is kept as a dead letter");
        self.log(target, range, PushOutcome::DeadLetter, Some(why.to_owned())).await;
        attempted.settle(parts, PushOutcome::DeadLetter);
    }
}

impl Attempted {
    fn settle(&mut self, parts: Vec<Part>, outcome: PushOutcome) {
        if !parts.is_empty() {
            self.settled.push((parts, outcome));
        }
    }

    /// Returns how long to wait before it is tried again, after `tries` without an answer.
    pub(crate) fn pause(&self, tries: u32) -> Duration {
        /// The pause after something failed.
        const PAUSE: Duration = Duration::from_secs(1);
        /// How often the pause doubles.
        const DOUBLED: u32 = 10;
        let refusals = self.again.iter().map(|part| part.refusals).max().unwrap_or_default();
        let times = if matches!(self.answer, Some(Posted::Refused(_))) { refusals.saturating_sub(1) } else { tries };
        PAUSE * 2_u32.pow(times.min(DOUBLED))
    }
}
