//! Recovers from a cut link: puts the presence of this node and its users again, attaches the users again, and so
//! finds what they missed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use sendpi_model::{Millis, Refusal, RoomId, encode_json};
use tokio::time::sleep;

use crate::context::NodeContext;
use crate::sign_in::attach::attach;
use crate::sign_in::{other_nodes, room_list};
use crate::state::OnlineUser;

/// The most users that are attached again at one time.
const USERS: usize = 16;
/// The pause before a failed step is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits for cut links, and for the loss of this node's own key, and recovers from them until the node's shutdown.
pub(crate) async fn run(node: Arc<NodeContext>) {
    let shutdown = node.shutdown.clone();
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = serve(&node) => {}
        () = watch_own_key(&node) => {}
    }
}

async fn serve(node: &Arc<NodeContext>) {
    loop {
        node.resync.notified().await;
        let users = node.state.lock().users_with_sessions();
        tracing::info!(users, "putting presence again and attaching users again after a link was cut");
        while node.node_key.put_anew().await.is_none() {
            sleep(PAUSE).await;
        }
        node.keys.put_all().await;
        // A node that counted as dead was asked by nobody who signed in elsewhere meanwhile.
        let devices = node.state.lock().stamped_devices();
        for (session, user) in devices {
            node.spawn(other_nodes::ask_all(Arc::clone(node), session, user));
        }
        let present = node.state.lock().online_users();
        let all = present.into_iter().map(|user| async move { attach_again(node, &user).await });
        futures_util::stream::iter(all).buffer_unordered(USERS).for_each(|()| async {}).await;
    }
}

/// Cuts all links if a refresh of this node's own key was refused: the node counted as dead for a while, and
/// workers have given it up.
async fn watch_own_key(node: &Arc<NodeContext>) {
    let mut state = node.node_key.watch();
    let mut refusals = state.borrow_and_update().refusals;
    while state.changed().await.is_ok() {
        let present = state.borrow_and_update().refusals;
        if present > refusals {
            refusals = present;
            tracing::warn!("this node's own key was lost; cutting all links");
            node.cut_all();
        }
    }
    std::future::pending::<()>().await;
}

async fn attach_again(node: &Arc<NodeContext>, user: &OnlineUser) {
    while let Err(refusal) = attach_once(node, user).await {
        if node.state.lock().online_user(user.key).is_none_or(|present| present.signin != user.signin) {
            return;
        }
        tracing::debug!(%refusal, user = %user.id, "could not attach a user again; retrying later");
        sleep(PAUSE).await;
    }
}

async fn attach_once(node: &Arc<NodeContext>, user: &OnlineUser) -> Result<(), Refusal> {
    let since = Millis::now().before(node.config.window.horizon());
    let known: HashSet<RoomId> = node.state.lock().rooms_of(user.key).into_iter().collect();
    let recent = room_list::recent(node, &user.id, since).await?.into_iter().map(|(room, _)| room);
    let rooms: HashSet<RoomId> = recent.chain(known.iter().cloned()).collect();
    for (room, view) in attach(node, user, rooms.into_iter().collect()).await? {
        match view {
            Some(view) if !known.contains(&room) => {
                let info = room_list::add_markers(node, &user.id, vec![view.info]).await?;
                let info = info.first().map(encode_json).unwrap_or_default();
                node.with(|state, effects| state.room_added(user.key, &room, &info, effects));
            }
            None if known.contains(&room) => {
                // The reason was lost with the link.
                node.with(|state, effects| state.room_removed(user.key, &room, "left", effects));
            }
            _ => {}
        }
    }
    Ok(())
}
