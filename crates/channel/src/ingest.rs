//! System events: services publish them, and the owner of their room puts them into its timeline.
//!
//! One task for each partition that this worker owns reads them in order and asks the executor, one event of a room at
//! a time, again and again until the answer is known. Then the event is acknowledged. A bad one is kept elsewhere with
//! the reason, and holds up nothing. Each asks under a nonce of its own, so that what is asked twice is in the timeline
//! once.

mod queue;
mod read;

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sendpi_bus::ingest_stream::{INGEST_UNDER_WAY, IngestMessage, keep_dead_letter, read_ingest};
use sendpi_bus::{Bus, subject};
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::flow::FlowRequest;
use sendpi_model::server_frame::{AnswerError, OkAnswer, read_answer};
use sendpi_model::{Code, Partition, Refusal, encode_json};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::queue::IngestQueue;
use self::read::request_of;

/// The most rooms of one partition whose events are asked for at one time.
const ROOMS_AT_ONCE: usize = 32;
/// How long an answer may take before the executor is asked again.
const ANSWER: Duration = Duration::from_secs(10);
/// The pause after something failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How often JetStream is told that events are still under way.
const PROGRESS: Duration = Duration::from_secs(10);

/// A request to the executor that comes from no node.
#[derive(Debug)]
pub(crate) struct OwnRequest {
    pub(crate) partition: Partition,
    pub(crate) request: FlowRequest,
    pub(crate) answer: oneshot::Sender<Bytes>,
}

/// Reads the system events of a partition until `stop` is cancelled, or what is returned is dropped.
pub(crate) fn start(
    bus: &Bus,
    partition: Partition,
    ask: &mpsc::Sender<OwnRequest>,
    stop: &CancellationToken,
) -> DropGuard {
    let (bus, ask, stop) = (bus.clone(), ask.clone(), stop.child_token());
    let guard = stop.clone().drop_guard();
    tokio::spawn(async move { stop.run_until_cancelled(run(bus, partition, ask)).await });
    guard
}

async fn run(bus: Bus, partition: Partition, ask: mpsc::Sender<OwnRequest>) {
    loop {
        let error = match read_ingest(&bus, partition).await {
            Ok(messages) => serve(&bus, partition, &ask, messages).await,
            Err(error) => error.to_string(),
        };
        tracing::warn!(error, %partition, "system events cannot be read now; it is tried again");
        sleep(PAUSE).await;
    }
}

/// Serves the events of one consumer until it fails. Returns why.
async fn serve(
    bus: &Bus,
    partition: Partition,
    ask: &mpsc::Sender<OwnRequest>,
    mut messages: impl futures_util::Stream<Item = Result<IngestMessage, sendpi_bus::RequestError>> + Unpin,
) -> String {
    let mut queue = IngestQueue::default();
    let mut under_way = FuturesUnordered::new();
    let mut progress = interval(PROGRESS);
    progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        while under_way.len() < ROOMS_AT_ONCE
            && let Some((target, message)) = queue.next()
        {
            under_way.push(async move {
                settle(bus, partition, ask, &message).await;
                target
            });
        }
        tokio::select! {
            message = messages.next(), if queue.len() < INGEST_UNDER_WAY => match message {
                Some(Ok(message)) => queue.push(message.target.clone(), std::sync::Arc::new(message)),
                Some(Err(error)) => return error.to_string(),
                None => return "the consumer ended".to_owned(),
            },
            Some(target) = under_way.next() => queue.done(&target),
            _ = progress.tick() => {
                for message in queue.all() {
                    message.is_under_way().await;
                }
            }
        }
    }
}

/// Puts one event into its room, or keeps it with the reason why that is impossible. Then acknowledges it.
async fn settle(bus: &Bus, partition: Partition, ask: &mpsc::Sender<OwnRequest>, message: &IngestMessage) {
    loop {
        let outcome = match request_of(message) {
            Ok(request) => decided(partition, ask, request).await,
            Err(refusal) => Err(refusal),
        };
        let settled = match outcome {
            Ok(()) => Ok(()),
            Err(refusal) => bury(bus, message, &refusal).await,
        };
        match settled {
            Ok(()) => break,
            Err(error) => {
                tracing::warn!(%error, "a system event that cannot be used is not kept yet; it is tried again")
            }
        }
        sleep(PAUSE).await;
    }
    if let Err(error) = message.done().await {
        tracing::debug!(%error, "a system event may come again, and is recognized then");
    }
}

/// Asks the executor until the answer says what became of the event.
async fn decided(partition: Partition, ask: &mpsc::Sender<OwnRequest>, request: FlowRequest) -> Result<(), Refusal> {
    loop {
        let (answer, told) = oneshot::channel();
        let own = OwnRequest { partition, request: request.clone(), answer };
        // It fails only while the worker ends, and this task with it.
        let _ = ask.send(own).await;
        let pause = match timeout(ANSWER, told).await {
            Ok(Ok(frame)) => match read_answer::<OkAnswer>(&frame) {
                Ok(_) => return Ok(()),
                Err(AnswerError::Refused(refusal)) => match refusal.retry_in_ms {
                    Some(pause) => Duration::from_millis(pause),
                    None => return Err(refusal),
                },
                Err(AnswerError::Malformed(error)) => {
                    tracing::error!(%error, "the answer to a system event cannot be read");
                    return Err(Refusal::new(Code::Internal, "the answer could not be read"));
                }
            },
            // The request was dropped, or is still waiting. Under its nonce it is made once.
            Ok(Err(_)) | Err(_) => PAUSE,
        };
        sleep(pause).await;
    }
}

/// Keeps an event that cannot be used, with the reason.
async fn bury(bus: &Bus, message: &IngestMessage, refusal: &Refusal) -> Result<(), sendpi_bus::RequestError> {
    #[derive(Serialize)]
    struct DeadLetter<'a> {
        reason: &'a Refusal,
        target: &'a str,
        id: Option<&'a str>,
        seq: u64,
        published: sendpi_model::Millis,
        payload: std::borrow::Cow<'a, str>,
    }
    if mutant(Mutant::IngestLettersOff) {
        return Ok(());
    }
    let IngestMessage { target, id, seq, published, .. } = message;
    tracing::warn!(reason = %refusal, %target, seq, "a system event cannot be used; it is kept with the reason");
    let payload = String::from_utf8_lossy(message.payload());
    let letter = DeadLetter { reason: refusal, target, id: id.as_deref(), seq: *seq, published: *published, payload };
    keep_dead_letter(bus, subject::dead_ingest(target), &format!("ingest.{seq}"), encode_json(&letter).into()).await
}
