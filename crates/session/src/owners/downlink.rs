//! The downlink: one task per node that receives everything that the links brought, queues it for each session, and
//! then writes once to each session that has something to write.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use sendpi_bus::{Hearing, NatsMessage, Subscription, subject};
use sendpi_model::faults::{BusFault, Mutant, bus_fault, mutant};
use sendpi_model::link::{LinkItem, LinkItems, read_message};
use sendpi_model::server_frame::OkAnswer;
use sendpi_model::{NodeId, Partition};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::context::NodeContext;
use crate::keys::LinkId;
use crate::markers::answer_read;
use crate::owners::answer::{self, RoomAnswer};
use crate::owners::reply_to::{MarkerMove, ReplyTo};
use crate::state::effects::Effects;
use crate::state::{LinkOrigin, State};

/// The most messages that one round receives.
const ROUND: usize = 256;
/// The number of writes in a row after which other tasks get their turn.
const WRITES: usize = 256;
/// How often silent links are cut, and answers that became due are sent, if no message comes.
const TICK: Duration = Duration::from_millis(100);
/// How long the connection may take to accept an answer. A lost answer does no harm: the next one covers it.
const PUBLISH: Duration = Duration::from_millis(500);

/// Runs the downlink until the node's shutdown.
pub(crate) async fn run(node: Arc<NodeContext>, messages: Subscription) {
    let shutdown = node.shutdown.clone();
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = serve(&node, messages) => tracing::error!("the downlink from the workers ended before shutdown"),
    }
}

async fn serve(node: &Arc<NodeContext>, mut messages: Subscription) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut hearing = Hearing::new(&node.bus, Instant::now());
    loop {
        let mut effects = Effects::default();
        tokio::select! {
            message = messages.next() => {
                let Some(message) = message else { return };
                node.receive(&message, &mut effects);
                for _ in 1..ROUND {
                    let Some(Some(message)) = messages.next().now_or_never() else { break };
                    node.receive(&message, &mut effects);
                }
            }
            _ = ticks.tick() => {
                let deaf = hearing.is_deaf(&node.bus, Instant::now());
                node.check_links(deaf);
            }
        }
        for (written, outbound) in effects.touched.drain(..).enumerate() {
            outbound.flush_now();
            if written % WRITES == WRITES - 1 {
                tokio::task::yield_now().await;
            }
        }
        node.carry_out(effects);
        answer_links(node).await;
    }
}

/// Sends the answers to links that are due.
pub(crate) async fn answer_links(node: &NodeContext) {
    let answers = {
        let mut links = node.links.lock();
        let state = node.state.lock();
        links.answers(|link, has| state.settled(link, has), Instant::now())
    };
    for (reply, ack) in answers {
        if bus_fault(BusFault::MuteNodes) {
            continue;
        }
        if let Ok(Err(error)) = timeout(PUBLISH, node.bus.publish(reply, ack.encode())).await {
            tracing::debug!(%error, "could not answer a link");
        }
    }
}

impl NodeContext {
    /// Receives one message of a link.
    fn receive(self: &Arc<Self>, message: &NatsMessage, effects: &mut Effects) {
        let Some(reply) = message.reply() else { return };
        let Some(worker) = subject::link_reply_worker(reply) else {
            tracing::warn!(reply, "ignored a link message whose reply subject names no worker");
            return;
        };
        let bytes = message.payload().len();
        let (header, items) = match read_message(message.payload().clone()) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, %worker, "ignored an unreadable link message");
                return;
            }
        };
        let now = Instant::now();
        // The lock is held until all items are received: a link that is cut in the meantime must not leave an
        // audience behind.
        let mut links = self.links.lock();
        let received = links.receive(worker.clone(), reply, (header, items, bytes), now);
        if let Some(link) = received.cut {
            tracing::warn!(%worker, "the link of a worker began a new incarnation");
            self.change(effects, |state, _| _ = state.cut(link));
            self.resync.notify_one();
        }
        if received.again {
            tracing::info!(%worker, "the link of a worker is up again");
            self.resync.notify_one();
        }
        for (number, items) in received.ready {
            self.change(effects, |state, effects| {
                self.items(state, LinkOrigin { link: received.link, number }, items, now, effects);
            });
        }
    }

    fn items(
        self: &Arc<Self>,
        state: &mut State,
        from: LinkOrigin,
        items: LinkItems,
        now: Instant,
        effects: &mut Effects,
    ) {
        let most = if mutant(Mutant::LongMessagesCut) { 16 } else { usize::MAX };
        for item in items.take(most) {
            match item {
                Ok(LinkItem::Event { room, first, seq, frame }) => {
                    state.event(from, &room, first..=seq, &frame, now, effects);
                }
                Ok(LinkItem::Added(added)) => state.added(from.link, &added, now, effects),
                Ok(LinkItem::Removed(removed)) => state.removed(from.link, &removed, effects),
                Ok(LinkItem::Answer { partition, n, frame }) => {
                    self.answer(state, from.link, (partition, n), frame, effects)
                }
                Err(error) => tracing::error!(%error, "ignored an unreadable item of a link"),
            }
        }
    }

    /// Receives an answer. It goes straight into the outbound queue of the session that asked, to the waiting task,
    /// or to the retry queue.
    fn answer(
        self: &Arc<Self>,
        state: &mut State,
        link: LinkId,
        to: (Partition, u64),
        frame: Bytes,
        effects: &mut Effects,
    ) {
        match self.flows.lock().answered(to.0, to.1, Instant::now()) {
            // Where the marker is now is known only after a look into the store.
            Some(ReplyTo::Client { outbound, id, marks: Some(MarkerMove { room, read_in: Some(session) }) }) => {
                self.spawn(answer_read(Arc::clone(self), (outbound, id), (session, room), frame));
            }
            Some(ReplyTo::Client { outbound, id, marks }) => {
                outbound.end_request();
                if let (Some(marks), Some(user)) = (marks, outbound.user()) {
                    self.move_to_own_message(user, &marks.room, &frame);
                }
                outbound.answer(&frame, id.as_ref());
                effects.touch(&outbound);
            }
            Some(ReplyTo::Attach(attach, tell)) => {
                state.attach_answered(&attach, &RoomAnswer::read(&frame), effects);
                drop(tell.send(frame));
            }
            // Sending fails if the waiter is gone, and then nobody needs the answer.
            Some(ReplyTo::Wait(tell)) => drop(tell.send(frame)),
            Some(ReplyTo::Retry(key)) => {
                match answer::read::<OkAnswer>(&frame).err().and_then(|refusal| refusal.retry_in_ms) {
                    Some(pause) => {
                        state.not_confirmed(key, Some(Duration::from_millis(pause)), Instant::now(), effects);
                    }
                    None => state.confirmed(key, link, effects),
                }
            }
            None => {}
        }
    }

    /// Cuts the links that have been silent for too long. While this node is deaf, silence counts for nothing.
    fn check_links(self: &Arc<Self>, deaf: bool) {
        let mut links = self.links.lock();
        if deaf {
            links.reset_silence(Instant::now());
        }
        for (worker, link) in links.tick(Instant::now()) {
            tracing::warn!(%worker, "the link of a worker is cut");
            self.with(|state, _| _ = state.cut(link));
            self.resync.notify_one();
        }
    }

    /// Cuts the link of a worker whose node key is gone.
    pub(crate) fn worker_gone(self: &Arc<Self>, worker: &NodeId) {
        let mut links = self.links.lock();
        let Some(link) = links.cut(worker, Instant::now()) else { return };
        // A worker that has handed over its partitions has ended their audiences, and nobody misses anything.
        let mut had_audience = false;
        self.with(|state, _| had_audience = state.cut(link));
        if had_audience {
            tracing::warn!(%worker, "a worker is gone; its link is cut");
            self.resync.notify_one();
        } else {
            tracing::info!(%worker, "a worker has ended");
        }
    }
}
