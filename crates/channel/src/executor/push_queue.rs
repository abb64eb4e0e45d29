//! Push jobs: published until they are kept.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sendpi_bus::Bus;
use sendpi_bus::push_stream::{JOB_USERS, PushJob, publish_job};
use sendpi_model::faults::{FailPoint, fail_point};
use sendpi_model::server_frame::OkAnswer;
use sendpi_model::{Partition, RoomId};
use tokio::time::Instant;

use super::{Executor, GivenUp};
use crate::dispatch::PendingPush;
use crate::room::Bounce;

/// Jobs under way at one time.
const UNDER_WAY: usize = 256;

type Publishing = Pin<Box<dyn Future<Output = PendingPush> + Send>>;

/// The pushes that are owed, in order, some of them under way.
pub(super) struct PushQueue {
    bus: Bus,
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

    fn push(&mut self, order: PendingPush) {
        self.waiting.push_back(order);
    }

    /// Begins what waits, as far as there is room: after the links were sent, so that nobody is pushed what is not live yet.
    pub(super) fn fill(&mut self) {
        while self.under_way.len() < UNDER_WAY {
            let Some(order) = self.waiting.pop_front() else { return };
            self.under_way.push(Box::pin(publish_until_kept(self.bus.clone(), order)));
        }
    }

    /// The next order whose jobs are kept; `None` where none is under way.
    pub(super) async fn next(&mut self) -> Option<PendingPush> {
        let order = self.under_way.next().await;
        self.fill();
        order
    }
}

async fn publish_until_kept(bus: Bus, order: PendingPush) -> PendingPush {
    for users in order.users.chunks(JOB_USERS) {
        // The frame is JSON that this project encoded; anything else could never be published, and is not worth a stop.
        let Ok(event) = serde_json::from_slice(&order.event.frame) else { continue };
        let job = PushJob { v: 1, room: order.room.clone(), seq: order.event.head.seq, users: users.to_vec(), event };
        let mut pause = Duration::from_millis(50);
        while let Err(error) = publish_job(&bus, order.partition, &job).await {
            tracing::warn!(%error, room = %order.room, seq = job.seq, "a push job is not kept yet; it is published again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }
    fail_point(FailPoint::AfterPush);
    order
}

impl Executor {
    /// Owes a push.
    pub(super) fn push(&mut self, order: PendingPush) {
        if !order.counted {
            self.owed.add(order.partition, order.event.head.at);
        }
        self.pushes.push(order);
    }

    /// A push is kept.
    pub(super) fn pushed(&mut self, order: PendingPush) {
        self.owed.done(order.partition, order.event.head.at);
        if let Some(to) = order.then {
            self.links.answer(&to, &OkAnswer::default());
        }
    }

    /// Puts a bounce of the worker's own back, to be tried in a second.
    pub(super) fn bounce_again(&mut self, partition: Partition, room: RoomId, bounce: Bounce) {
        let Bounce { owed, user, seq, .. } = bounce;
        let at = owed.unwrap_or_default();
        let undelivered = sendpi_bus::link::Undelivered { partition, room, seq, at, users: vec![user] };
        let due = Instant::now() + Duration::from_secs(1);
        self.given_up.push(GivenUp { due, undelivered: vec![undelivered] });
    }
}
