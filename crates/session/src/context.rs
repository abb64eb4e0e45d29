//! The user tier of one node: its state and what surrounds it.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sendpi_bus::presence::{NodeKey, UserKeys};
use sendpi_bus::{Bus, UserSubjects};
use sendpi_model::{Partitions, Refusal, RoomId, UserId, Verb, flow};
use sendpi_store::Store;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::SessionConfig;
use crate::keys::RoomKey;
use crate::markers::pending::PendingMarkers;
use crate::ordered_lock::OrderedMutex;
use crate::owners::answer;
use crate::owners::flows::Flows;
use crate::owners::inbound_links::InboundLinks;
use crate::owners::reply_to::ReplyTo;
use crate::sign_in::rate::SignInRate;
use crate::state::State;
use crate::state::effects::{Ask, Effects};

/// The order in which the node's locks are taken: links first, then the state, then the flows. A session's outbound queue has a lock of
/// its own, which is taken last and never held while another one is taken.
const LINKS: u8 = 0;
const STATE: u8 = 1;
const FLOWS: u8 = 2;

/// The user tier of one node.
#[derive(Debug)]
pub(crate) struct NodeContext {
    pub(crate) bus: Bus,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) partitions: Partitions,
    pub(crate) config: SessionConfig,
    pub(crate) node_key: NodeKey,
    pub(crate) keys: UserKeys,
    pub(crate) subjects: UserSubjects,
    pub(crate) markers: PendingMarkers,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    /// Tells that a flow has something to send.
    pub(crate) uplink: Notify,
    /// Tells that a link was cut.
    pub(crate) resync: Notify,
    /// Rooms of which something is missing that nobody reads yet; each is in it once at most.
    pub(crate) fills: Mutex<Vec<RoomKey>>,
    /// Tells that there is one.
    pub(crate) fill_due: Notify,
    pub(crate) links: OrderedMutex<InboundLinks, LINKS>,
    pub(crate) state: OrderedMutex<State, STATE>,
    pub(crate) flows: OrderedMutex<Flows, FLOWS>,
    pub(crate) admission: Mutex<SignInRate>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NodeContext {
    /// Changes the state, and does at once what that asks for.
    pub(crate) fn with<R>(self: &Arc<Self>, change: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        let mut effects = Effects::default();
        let result = self.change(&mut effects, change);
        effects.touched.drain(..).for_each(|outbound| outbound.flush_now());
        self.carry_out(effects);
        result
    }

    /// Changes the state. Requests go into their flows, and users out of presence, under the same lock, so that their order is that of
    /// the changes.
    pub(crate) fn change<R>(&self, effects: &mut Effects, change: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        let mut state = self.state.lock();
        let result = change(&mut state, effects);
        effects.signed_out.drain(..).for_each(|user| self.keys.signed_out(&user));
        if !effects.asks.is_empty() {
            let now = Instant::now();
            let mut flows = self.flows.lock();
            for Ask { room, user, verb, tag } in effects.asks.drain(..) {
                let request = flow::encode_request(&room, &user, &verb);
                match flows.push(self.partitions.of(&room), request, tag, now) {
                    Ok(()) => {}
                    Err(ReplyTo::Retry(key)) => state.retries.failed(key),
                    // Whoever waits is told by the tag's end that there will be no answer.
                    Err(other) => drop(other),
                }
            }
            self.uplink.notify_one();
        }
        result
    }

    /// Does what a change of the state asked for beside writing.
    pub(crate) fn carry_out(self: &Arc<Self>, effects: Effects) {
        if !effects.fills.is_empty() {
            lock(&self.fills).extend(effects.fills);
            self.fill_due.notify_one();
        }
        drop(effects.unsubscribed);
        if effects.overrun {
            let node = Arc::clone(self);
            // Not here: a caller may hold the links.
            self.spawn(async move {
                tracing::error!("more events are unconfirmed than may be; all links are cut");
                node.cut_all();
            });
        }
    }

    /// Runs something short, not beyond the node's shutdown.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            shutdown.run_until_cancelled(task).await;
        });
    }

    /// Takes all links for cut.
    pub(crate) fn cut_all(self: &Arc<Self>) {
        let mut links = self.links.lock();
        let incarnations = links.cut_all(Instant::now());
        self.with(|state, _| {
            incarnations.iter().for_each(|link| state.cut(*link));
            state.all_cut();
        });
        drop(links);
        self.resync.notify_one();
    }

    /// Asks a room's owner, and waits for the answer.
    pub(crate) async fn ask(self: &Arc<Self>, room: &RoomId, user: &UserId, verb: Verb) -> Result<Bytes, Refusal> {
        let (tag, answer) = waiting();
        self.with(|_, effects| effects.asks.push(Ask { room: room.clone(), user: user.clone(), verb, tag }));
        answered(answer).await
    }
}

/// A tag for somebody who waits, and where the answer comes.
pub(crate) fn waiting() -> (ReplyTo, oneshot::Receiver<Bytes>) {
    let (tell, answer) = oneshot::channel();
    (ReplyTo::Wait(tell), answer)
}

/// Waits for an answer.
pub(crate) async fn answered(answer: oneshot::Receiver<Bytes>) -> Result<Bytes, Refusal> {
    answer.await.map_err(|_| answer::unavailable())
}
