//! Push jobs, which are published until they are kept.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sendpi_bus::Bus;
use sendpi_bus::push_stream::{JOB_USERS, PushJob, publish_job};
use sendpi_model::faults::{FailPoint, fail_point};
use sendpi_model::server_frame::OkAnswer;

use super::Executor;
use crate::dispatch::PendingPush;

/// The most pushes under way at one time.
const UNDER_WAY: usize = 256;

type Publishing = Pin<Box<dyn Future<Output = PendingPush> + Send>>;

/// The pending pushes, in order, some of them under way.
pub(super) struct PushQueue {
    bus: Bus,
    /// Limited by `PENDING_MAX`: beyond that, rooms decide nothing that leads to another push.
    waiting: VecDeque<PendingPush>,
    under_way: FuturesUnordered<Publishing>,
}

impl PushQueue {
    pub(super) fn new(bus: Bus) -> Self {
        Self { bus, waiting: VecDeque::new(), under_way: FuturesUnordered::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty() && self.waiting.is_empty()
    }

    fn add(&mut self, push: PendingPush) {
        self.waiting.push_back(push);
    }

    /// Begins to publish the pushes that wait, as far as there is room. `send_links` calls it after the links are
    /// sent, so that nobody is pushed what is not live yet. `next` calls it too, and does not wait for the links.
    pub(super) fn start_waiting(&mut self) {
        while self.under_way.len() < UNDER_WAY {
            let Some(push) = self.waiting.pop_front() else { return };
            self.under_way.push(Box::pin(publish_until_kept(self.bus.clone(), push)));
        }
    }

    /// Returns the next push whose jobs are kept. `None` if none is under way.
    pub(super) async fn next(&mut self) -> Option<PendingPush> {
        let push = self.under_way.next().await;
        self.start_waiting();
        push
    }
}

async fn publish_until_kept(bus: Bus, push: PendingPush) -> PendingPush {
    for users in push.users.chunks(JOB_USERS) {
        // The frame is JSON that this project encoded. Anything else could never be published, and must not stop the
        // worker.
        let Ok(event) = serde_json::from_slice(&push.event.frame) else { continue };
        let job = PushJob { v: 1, room: push.room.clone(), seq: push.event.head.seq, users: users.to_vec(), event };
        let mut pause = Duration::from_millis(50);
        while let Err(error) = publish_job(&bus, push.partition, &job).await {
            tracing::warn!(
                %error, partition = %push.partition, room = %push.room, seq = job.seq,
                "a push job is not kept yet; it is published again"
            );
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }
    fail_point(FailPoint::AfterPush);
    push
}

impl Executor {
    /// Adds a push, which is pending until it is kept.
    pub(super) fn push(&mut self, push: PendingPush) {
        if !push.is_pending {
            self.pending.add(push.partition, push.event.head.at);
        }
        self.pushes.add(push);
    }

    /// Records that a push is kept, and confirms its bounce.
    pub(super) fn pushed(&mut self, push: PendingPush) {
        self.pending.done(push.partition, push.event.head.at);
        if let Some(to) = push.then {
            self.links.answer(&to, &OkAnswer::default());
        }
    }
}
