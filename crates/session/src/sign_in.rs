//! Signs sessions in: presence first, then the rooms that may be active, then the welcome.

pub(crate) mod attach;
pub(crate) mod other_nodes;
pub(crate) mod rate;
pub(crate) mod room_list;

use std::collections::HashSet;
use std::sync::Arc;

use sendpi_bus::Revision;
use sendpi_model::server_frame::{OpFrame, Welcome, WelcomeLimits, with_id};
use sendpi_model::{FrameId, Hello, Millis, Refusal, RoomId, UserId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use self::attach::attach_all;
use self::room_list::RoomFound;
use crate::catch_up::resume::task::replay;
use crate::client::outbound::Outbound;
use crate::client::transport::Identity;
use crate::client::ws_frame;
use crate::context::{NodeContext, lock};
use crate::keys::{SessionKey, UserKey};
use crate::markers::notice::session_id;
use crate::owners::answer;
use crate::sign_out;
use crate::state::AttachTelling;
use crate::state::session_state::Hold;

/// Signs a session in and queues its welcome. A replay that `hello` asks for goes on in a task of its own.
///
/// # Errors
/// Returns the refusal for the client, whose session is then closed.
pub(crate) async fn sign_in(
    node: &Arc<NodeContext>,
    session: (SessionKey, Arc<Outbound>),
    id: Option<FrameId>,
    who: Identity,
    hello: Hello,
) -> Result<(), Refusal> {
    admit(node).await?;
    session.1.hear(Instant::now());
    let limit = node.config.sign_in_timeout;
    let signed_in = timeout(limit, welcome(node, &session, id.as_ref(), &who, &hello)).await;
    signed_in.map_err(|_| Refusal::unavailable("signing in took too long", 1_000))??;
    if let Some(rooms) = hello.resume.filter(|rooms| !rooms.is_empty()) {
        let began = node.state.lock().lateness.begin_wait();
        node.spawn(replay(Arc::clone(node), session, who.user, None, rooms, began));
    }
    Ok(())
}

async fn admit(node: &NodeContext) -> Result<(), Refusal> {
    let admitted = lock(&node.admission).admit(Instant::now());
    match admitted {
        Ok(begin) => {
            sleep_until(begin).await;
            Ok(())
        }
        Err(wait) => Err(Refusal::unavailable(
            "too many sign-ins at this time",
            wait.as_millis() as u64 + rand::random::<u64>() % 1_000,
        )),
    }
}

async fn welcome(
    node: &Arc<NodeContext>,
    session: &(SessionKey, Arc<Outbound>),
    id: Option<&FrameId>,
    who: &Identity,
    hello: &Hello,
) -> Result<(), Refusal> {
    let (key, wall) = (session.0, Millis::now());
    let name = session_id(node.bus.node(), key);
    let joined = node.with(|state, effects| state.join(key, who, hello.device.as_ref(), effects))?;
    let announces = joined.announce.is_some();
    if let Some((number, tell)) = joined.announce {
        node.spawn(announce(Arc::clone(node), joined.user, who.user.clone(), number, tell));
    }
    let mut stamp = None;
    if let Some(mut up) = joined.up {
        stamp = up.wait_for(Option::is_some).await.ok().and_then(|up| *up);
        if stamp.is_none() {
            return Err(Refusal::unavailable("presence could not be told", 1_000));
        }
    }
    // Only the write for the session that announces its user is known to have begun after the session had joined.
    let stamp = stamp.filter(|_| announces);
    node.spawn(other_nodes::tell(Arc::clone(node), key, who.user.clone(), stamp));
    // After the presence is up, so that a sign-out which is not seen here finds this node.
    sign_out::check_token(node, who).await?;
    let user = node.state.lock().online_user(joined.user).ok_or_else(answer::unavailable)?;
    let recent = room_list::recent(node, &user.id, wall.before(node.config.window.unevicted())).await?;
    let horizon = wall.before(node.config.window.horizon());
    let maybe_live = recent.iter().filter(|(_, at)| *at >= horizon).map(|(room, _)| room.clone()).collect();
    let found = attach_all(node, &user, maybe_live).await;
    // The live events of a room begin after the head that its attach found.
    let mut attached: Vec<(RoomId, u64)> = Vec::new();
    let mut unanswered: Vec<RoomId> = Vec::new();
    for (room, found) in &found {
        match found {
            RoomFound::Member(answer) => attached.push((room.clone(), answer.info.seq)),
            RoomFound::Unanswered => unanswered.push(room.clone()),
            RoomFound::Gone => {}
        }
    }
    let recent: Vec<RoomId> = recent.into_iter().map(|(room, _)| room).collect();
    let page = room_list::page(node, &user.id, &recent, found, None, hello.rooms).await?;
    let listed: HashSet<RoomId> = page.rooms.iter().map(|info| info.room.clone()).collect();
    let page_heads = page.rooms.iter().map(|info| (info.room.clone(), info.seq));
    let heads: Vec<(RoomId, u64)> = attached.into_iter().chain(page_heads).collect();
    let welcome = Welcome {
        user: user.id.clone(),
        session: name,
        now: Millis::now(),
        expires_at: who.expires_at,
        heartbeat_ms: node.config.heartbeat.as_millis() as u64,
        rooms: page.rooms,
        next: page.next,
        limits: WelcomeLimits::with_rates(node.config.rates),
        caps: Vec::new(),
    };
    let welcome = ws_frame::text(&with_id(&welcome.to_frame(), id));
    let held = hello.resume.as_ref().filter(|rooms| !rooms.is_empty()).map(|rooms| Hold::of(0, rooms.keys().cloned()));
    node.with(|state, effects| state.welcome(key, welcome, &heads, held, Instant::now(), effects));
    let telling = |room: &RoomId| if listed.contains(room) { AttachTelling::IfGone } else { AttachTelling::Head };
    node.attach_later(user.key, unanswered.into_iter().map(|room| (room.clone(), telling(&room))));
    Ok(())
}

/// Announces a user at the first session on this node: subscribes to the user's subject, then puts the presence key
/// and waits until it is written. This is not a part of the session's own task, because other sessions of the user
/// wait for it as well.
async fn announce(
    node: Arc<NodeContext>,
    key: UserKey,
    user: UserId,
    number: u64,
    tell: watch::Sender<Option<Revision>>,
) {
    let subscribed = tokio::select! {
        subscribed = node.subjects.subscribe(&user) => subscribed,
        // The user has left.
        () = tell.closed() => return,
    };
    let sign_in = |user: &UserId| node.keys.signed_in(user);
    let written = match node.with(|state, _| state.subscribed(key, number, Some(subscribed), sign_in)) {
        Some(written) => written.await,
        None => None,
    };
    node.with(|state, _| state.announced(key, number, written.is_some()));
    if written.is_some() {
        tell.send_replace(written);
    }
}
