//! Carries out a resume: reads what a client missed, and queues it only as fast as the client reads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::StreamExt;
use sendpi_model::server_frame::{MarkerFrame, OpFrame, with_id};
use sendpi_model::{FrameId, Partition, RoomId, UserId, Verb, limits};
use tokio::time::{interval, timeout};

use crate::catch_up::resume::plan::{FoundRoom, ResumePlan};
use crate::client::outbound::Outbound;
use crate::client::ws_frame;
use crate::context::NodeContext;
use crate::keys::SessionKey;
use crate::owners::answer::{HistoryPage, is_not_a_member, unavailable};
use crate::owners::patience::Patience;
use crate::owners::peek::peek;
use crate::sign_in::room_list::markers_of;
use crate::state::State;
use crate::state::lateness::WaitBegan;

/// How many times as long as a sign-in a resume waits for an owner. A worker that dies is replaced in about a second.
const WAITS: u32 = 3;

/// Replays the events that a client missed in these rooms, whose live events are held back, and then releases the
/// live events. Closes the session if that takes too long since `began`, when the client asked, because what is held
/// back cannot be settled.
pub(crate) async fn replay(
    node: Arc<NodeContext>,
    session: (SessionKey, Arc<Outbound>),
    user: UserId,
    id: Option<FrameId>,
    rooms: BTreeMap<RoomId, u64>,
    began: WaitBegan,
) {
    let (limit, outbound) = (node.config.slow_timeout, Arc::clone(&session.1));
    let too_long = async {
        let mut ticks = interval(State::tick_of(&node.config));
        while node.state.lock().lateness.waited(began) < limit {
            ticks.tick().await;
        }
    };
    tokio::select! {
        () = replay_all(Arc::clone(&node), session, user, id, rooms) => {}
        () = too_long => {
            tracing::debug!(user = ?outbound.user(), "a replay takes too long; its session is closed");
            outbound.give_up();
            outbound.flush_now();
        }
    }
}

async fn replay_all(
    node: Arc<NodeContext>,
    session: (SessionKey, Arc<Outbound>),
    user: UserId,
    id: Option<FrameId>,
    rooms: BTreeMap<RoomId, u64>,
) {
    let (key, outbound) = session;
    let found = find(&node, &user, rooms.keys().cloned().collect()).await;
    let mut replay = ResumePlan::plan(&rooms, &found);
    let mut silent: HashSet<Partition> = HashSet::new();
    while let Some((room, after)) = replay.next() {
        let history = Verb::History { before: None, after: Some(after), limit: limits::PAGE_MESSAGES as u32 };
        let partition = node.partitions.of(room);
        let page = match silent.contains(&partition) {
            true => Err(unavailable()),
            false => match timeout(WAITS * node.config.owner_patience, node.ask(room, &user, history)).await {
                Ok(answer) => answer.and_then(|answer| HistoryPage::read(&answer)),
                // Meanwhile the live events of all rooms are held back. What its owner does not answer in time the
                // client reads itself.
                Err(_) => {
                    silent.insert(partition);
                    Err(unavailable())
                }
            },
        };
        match page {
            Ok(page) => {
                for frame in replay.page(page.events, page.more) {
                    if !outbound.has_room().await {
                        return;
                    }
                    outbound.push_answer(frame);
                    outbound.flush_now();
                }
            }
            Err(refusal) => replay.refused(is_not_a_member(&refusal)),
        }
    }
    push_markers(&node, &outbound, &user, &replay).await;
    let resumed = ws_frame::text(&with_id(&replay.resumed().to_frame(), id.as_ref()));
    node.with(|state, effects| state.replayed(key, resumed, replay.covered(), effects));
}

/// Queues the read markers of the resumed rooms, which may have moved while the client was away.
async fn push_markers(node: &NodeContext, outbound: &Outbound, user: &UserId, replay: &ResumePlan) {
    let rooms: Vec<RoomId> = replay.resumed().rooms.into_iter().filter(|(_, r)| !r.gone).map(|(id, _)| id).collect();
    let markers = match markers_of(node, user, &rooms).await {
        Ok(markers) => markers,
        Err(refusal) => return tracing::debug!(%refusal, "a resume tells no read markers"),
    };
    for (room, mark) in rooms.into_iter().zip(markers) {
        let Some(mark) = mark else { continue };
        let marker = MarkerFrame { room, seq: mark.seq, count: mark.count };
        outbound.push_answer(ws_frame::text(&marker.to_frame()));
    }
}

/// Looks at the rooms. Those that are missing in the answer could not be reached.
async fn find(node: &Arc<NodeContext>, user: &UserId, rooms: Vec<RoomId>) -> HashMap<RoomId, FoundRoom> {
    let peeks = rooms.into_iter().map(|room| async move {
        let found = match peek(node, user, &room).await {
            Ok(view) => FoundRoom::Head(view.info.seq),
            Err(refusal) if is_not_a_member(&refusal) => FoundRoom::Gone,
            Err(_) => FoundRoom::Unreachable,
        };
        (room, found)
    });
    let mut peeks = futures_util::stream::iter(peeks).buffer_unordered(limits::RESUME_ROOMS);
    // An owner that does not answer must not hold up the other rooms.
    let (mut patience, mut found) = (Patience::new(WAITS * node.config.owner_patience), HashMap::new());
    while let Some((room, state)) = patience.next(&mut peeks).await {
        found.insert(room, state);
    }
    found
}
