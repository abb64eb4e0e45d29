//! The shared context of one node's user tier: the state, and everything that the tasks around it use.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sendpi_bus::presence::{Barrier, NodeKey, UserKeys};
use sendpi_bus::{Bus, UserSubjects};
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::flow::{self, Requester};
use sendpi_model::{Partitions, Refusal, RoomId, UserId, Verb};
use sendpi_store::Store;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catch_up::attach_queue::AttachQueue;
use crate::config::SessionConfig;
use crate::keys::RoomKey;
use crate::markers::pending::PendingMarkers;
use crate::ordered_lock::OrderedMutex;
use crate::owners::answer;
use crate::owners::flows::Flows;
use crate::owners::inbound_links::InboundLinks;
use crate::owners::reply_to::ReplyTo;
use crate::requests::CallerRequests;
use crate::sign_in::rate::SignInRate;
use crate::state::State;
use crate::state::effects::{Ask, Effects};

/// The order in which the node's locks are acquired: first the links, then the state, then the flows. Each
/// session's outbound queue has a lock of its own. It is acquired last, and no other lock is acquired while it is
/// held.
const LINKS: u8 = 0;
const STATE: u8 = 1;
const FLOWS: u8 = 2;

/// The context that all tasks and sessions of one node share.
#[derive(Debug)]
pub(crate) struct NodeContext {
    pub(crate) bus: Bus,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) partitions: Partitions,
    pub(crate) config: SessionConfig,
    pub(crate) node_key: NodeKey,
    pub(crate) keys: UserKeys,
    pub(crate) presence: Barrier,
    pub(crate) subjects: UserSubjects,
    pub(crate) markers: PendingMarkers,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    /// Notified when a flow has something to send.
    pub(crate) uplink: Notify,
    /// Notified when a user has left whose read markers are not in the store yet.
    pub(crate) markers_due: Notify,
    /// Notified when a link was cut.
    pub(crate) resync: Notify,
    /// The attaches that are still to be made.
    pub(crate) attaches: Mutex<AttachQueue>,
    /// Notified when an attach was added to `attaches`.
    pub(crate) attach_due: Notify,
    /// Rooms with a gap that no task fills yet. A room is in the list at most once.
    pub(crate) fills: Mutex<Vec<RoomKey>>,
    /// Notified when a room was added to `fills`.
    pub(crate) fill_due: Notify,
    pub(crate) links: OrderedMutex<InboundLinks, LINKS>,
    pub(crate) state: OrderedMutex<State, STATE>,
    pub(crate) flows: OrderedMutex<Flows, FLOWS>,
    pub(crate) admission: Mutex<SignInRate>,
    pub(crate) callers: CallerRequests,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NodeContext {
    /// Changes the state and carries out the effects at once, including the writes to the sessions.
    pub(crate) fn with<R>(self: &Arc<Self>, change: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        let mut effects = Effects::default();
        let result = self.change(&mut effects, change);
        effects.touched.drain(..).for_each(|outbound| outbound.flush_now());
        self.carry_out(effects);
        result
    }

    /// Changes the state. Requests are pushed into their flows, and users are signed out of presence, under the
    /// same lock, so that both happen in the order of the changes.
    pub(crate) fn change<R>(&self, effects: &mut Effects, change: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        let mut state = self.state.lock();
        let result = change(&mut state, effects);
        for user in effects.signed_out.drain(..) {
            self.keys.signed_out(&user);
            if self.markers.is_unwritten(&user) {
                self.markers_due.notify_one();
            }
        }
        if !effects.asks.is_empty() {
            let now = Instant::now();
            let mut flows = self.flows.lock();
            for Ask { room, user, verb, tag } in effects.asks.drain(..) {
                let request = flow::encode_request(&room, Requester::User(&user), &verb);
                match flows.push(self.partitions.of(&room), request, tag, now) {
                    Ok(()) => {}
                    Err(ReplyTo::Retry(key)) => {
                        state.retries.not_sent(key, now);
                    }
                    // Dropping the reply closes the oneshot, which tells the waiter that no answer will come.
                    Err(other) => drop(other),
                }
            }
            self.uplink.notify_one();
        }
        result
    }

    /// Carries out the effects of a change of the state, except the writes to the sessions.
    pub(crate) fn carry_out(self: &Arc<Self>, effects: Effects) {
        if !effects.fills.is_empty() {
            lock(&self.fills).extend(effects.fills);
            self.fill_due.notify_one();
        }
        drop(effects.unsubscribed);
        if effects.overrun && !mutant(Mutant::OverrunOff) {
            let node = Arc::clone(self);
            // In a task of its own, because the caller may hold the lock of the links.
            self.spawn(async move {
                tracing::error!("too many events are unconfirmed or retries queued; cutting all links");
                node.cut_all();
            });
        }
    }

    /// Spawns a short task. It is dropped at the node's shutdown.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            shutdown.run_until_cancelled(task).await;
        });
    }

    /// Treats all links as cut.
    pub(crate) fn cut_all(self: &Arc<Self>) {
        let mut links = self.links.lock();
        let incarnations = links.cut_all(Instant::now());
        self.with(|state, _| {
            incarnations.iter().for_each(|link| _ = state.cut(*link));
            state.all_cut();
        });
        drop(links);
        self.resync.notify_one();
    }

    /// Sends a request to a room's owner and waits for the answer.
    ///
    /// # Errors
    /// Returns `unavailable` if the request ends without an answer. A refusal by the owner is an answer, and the
    /// caller reads it.
    pub(crate) async fn ask(self: &Arc<Self>, room: &RoomId, user: &UserId, verb: Verb) -> Result<Bytes, Refusal> {
        let (tag, answer) = waiting();
        self.with(|_, effects| effects.asks.push(Ask { room: room.clone(), user: user.clone(), verb, tag }));
        answered(answer).await
    }
}

/// Returns a reply tag for a waiting task, and the receiver of the answer.
pub(crate) fn waiting() -> (ReplyTo, oneshot::Receiver<Bytes>) {
    let (tell, answer) = oneshot::channel();
    (ReplyTo::Wait(tell), answer)
}

/// Waits for an answer. Returns `unavailable` if the tag was dropped.
pub(crate) async fn answered(answer: oneshot::Receiver<Bytes>) -> Result<Bytes, Refusal> {
    answer.await.map_err(|_| answer::unavailable())
}
