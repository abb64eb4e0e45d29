//! Recovers from a cut link: puts the presence of this node and its users again, attaches the users again, and so
//! finds what they missed.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Millis, Refusal, RoomId, UserId};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::context::{NodeContext, lock};
use crate::keys::SessionKey;
use crate::sign_in::{other_nodes, room_list};
use crate::state::{AttachTelling, OnlineUser};

/// The most users whose rooms are listed at one time.
const USERS: usize = 16;
/// The most devices about which other nodes are asked at one time. Those of which a node does not answer must not hold
/// up the others.
const DEVICES: usize = 4_096;
/// The pause before a failed step is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits for cut links, and for the loss of this node's own key, and recovers from them until the node's shutdown.
pub(crate) async fn run(node: Arc<NodeContext>) {
    let (shutdown, devices) = (node.shutdown.clone(), DeviceAsks::default());
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = serve(&node, &devices) => {}
        () = devices.ask(&node) => {}
        () = watch_own_key(&node) => {}
    }
}

async fn serve(node: &Arc<NodeContext>, devices: &DeviceAsks) {
    loop {
        node.resync.notified().await;
        // If another link is cut meanwhile, the round begins again: it is for all users.
        while tokio::select! { () = node.resync.notified() => true, () = attach_all_again(node, devices) => false } {}
    }
}

/// The sessions about whose devices the other nodes of their users are still to be asked, each once, however often a
/// link is cut meanwhile. A node that counted as dead was asked by nobody who signed in elsewhere.
#[derive(Debug, Default)]
struct DeviceAsks {
    waiting: Mutex<BTreeMap<SessionKey, UserId>>,
    due: Notify,
}

impl DeviceAsks {
    fn add_all(&self, devices: Vec<(SessionKey, UserId)>) {
        lock(&self.waiting).extend(devices);
        self.due.notify_one();
    }

    /// Asks without end.
    async fn ask(&self, node: &Arc<NodeContext>) {
        let mut asks = FuturesUnordered::new();
        loop {
            while asks.len() < DEVICES
                && let Some((session, user)) = lock(&self.waiting).pop_first()
            {
                asks.push(other_nodes::ask_all(Arc::clone(node), session, user));
            }
            tokio::select! {
                Some(()) = asks.next() => {}
                () = self.due.notified() => {}
            }
        }
    }
}

async fn attach_all_again(node: &Arc<NodeContext>, devices: &DeviceAsks) {
    let users = node.state.lock().users_with_sessions();
    tracing::info!(users, "putting presence again and attaching users again after a link was cut");
    while node.node_key.refresh().await.is_none() {
        sleep(PAUSE).await;
    }
    node.keys.put_all().await;
    devices.add_all(node.state.lock().stamped_sessions());
    let mut users = node.state.lock().online_users();
    for user in &users {
        let rooms = node.state.lock().rooms_of(user.key);
        node.attach_later(user.key, rooms);
    }
    while !users.is_empty() {
        let lists = users.into_iter().map(|user| async move { (attach_to_recent(node, &user).await, user) });
        let mut lists = futures_util::stream::iter(lists).buffer_unordered(USERS);
        users = Vec::new();
        while let Some((listed, user)) = lists.next().await {
            if let Err(refusal) = listed {
                tracing::debug!(%refusal, user = %user.id, "could not list a user's rooms again; retrying later");
                users.push(user);
            }
        }
        drop(lists);
        if !users.is_empty() {
            sleep(PAUSE).await;
        }
    }
}

/// Attaches a user to the rooms that may have come in the meantime.
async fn attach_to_recent(node: &Arc<NodeContext>, user: &OnlineUser) -> Result<(), Refusal> {
    let since = Millis::now().before(node.config.window.horizon());
    let recent = room_list::recent(node, &user.id, since).await?;
    let present: HashSet<RoomId> = node.state.lock().rooms_of(user.key).into_iter().map(|(room, _)| room).collect();
    let new = recent.into_iter().map(|(room, _)| room).filter(|room| !present.contains(room));
    node.attach_later(user.key, new.map(|room| (room, AttachTelling::IfMember)));
    Ok(())
}

/// Cuts all links if a refresh of this node's own key was refused: the node counted as dead for a while, and
/// workers have given it up.
async fn watch_own_key(node: &Arc<NodeContext>) {
    let mut state = node.node_key.watch();
    let mut refusals = state.borrow_and_update().refusals;
    while state.changed().await.is_ok() {
        let present = state.borrow_and_update().refusals;
        if present > refusals && !mutant(Mutant::OwnKeyOff) {
            refusals = present;
            tracing::warn!("this node's own key was lost; cutting all links");
            node.cut_all();
        }
    }
    std::future::pending::<()>().await;
}
