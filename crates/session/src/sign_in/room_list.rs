//! A user's rooms, newest message first, in pages.
//!
//! Recent order rows name the rooms that may have events that `rooms_of_user` does not know of yet. The owners of
//! these rooms are asked, and one that does not answer in time comes with what its rows say. All other rooms are idle,
//! and their time in `rooms_of_user` is that of their last event.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::StreamExt;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::server_frame::{OpFrame, RoomsPage};
use sendpi_model::{Mark, Millis, Notify, Refusal, RoomId, RoomInfo, UserId};
use sendpi_store::{ReadError, RoomOfUser};

use crate::context::NodeContext;
use crate::owners::answer::{RoomAnswer, is_not_a_member};
use crate::owners::patience::Patience;
use crate::owners::peek::peek;

/// The most order rows of one read.
const ROWS: usize = 1_000;
/// The most owners of one list asked at one time. Rooms that do not answer must leave room for the others.
const AT_ONCE: usize = 256;
/// In rooms of more members only mentions push, unless the user has chosen otherwise.
const MENTIONS_ABOVE: u32 = 200;

/// A place in the order of the list: newest first, and by room if times are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListPosition(Reverse<Millis>, RoomId);

impl ListPosition {
    /// Returns the place before every room.
    fn start() -> Option<Self> {
        RoomId::parse("!").ok().map(|room| Self(Reverse(Millis(u64::MAX)), room))
    }

    fn encode(&self) -> String {
        format!("{}.{}", self.0.0.0, self.1)
    }

    /// Reads the cursor of an earlier page.
    ///
    /// # Errors
    /// Returns `bad_field` if it is not such a cursor.
    pub(crate) fn decode(cursor: &str) -> Result<Self, Refusal> {
        let place = cursor
            .split_once('.')
            .and_then(|(at, room)| Some(Self(Reverse(Millis(at.parse().ok()?)), RoomId::parse(room).ok()?)));
        place.ok_or_else(|| Refusal::field("cursor", "must be one that an earlier page gave as next"))
    }
}

/// Logs a failed read and returns the refusal that lets the client retry.
pub(crate) fn store_failed(error: ReadError) -> Refusal {
    tracing::warn!(%error, "could not read a user's rows");
    Refusal::unavailable("the store did not answer", 1_000)
}

/// Returns the rooms with an order row since `since`, newest first, each once.
///
/// # Errors
/// Returns `unavailable` if the store does not answer.
pub(crate) async fn recent(node: &NodeContext, user: &UserId, since: Millis) -> Result<Vec<(RoomId, Millis)>, Refusal> {
    let (mut rooms, mut seen, mut before) = (Vec::new(), HashSet::new(), None);
    loop {
        let rows = node.store.rooms_by_activity(user, since, before, ROWS).await.map_err(store_failed)?;
        let last = rows.last().map(|row| (row.active_at, row.room.clone()));
        let whole = rows.len() < ROWS;
        rooms.extend(rows.into_iter().filter(|r| seen.insert(r.room.clone())).map(|r| (r.room, r.active_at)));
        if whole {
            return Ok(rooms);
        }
        before = last;
    }
}

/// Returns the page after `after`. `recent` holds the rooms with recent order rows. `found` holds what their owners
/// have answered already. A room whose owner does not answer in time comes with what its rows say.
///
/// # Errors
/// Returns `unavailable` if the store does not answer.
pub(crate) async fn page(
    node: &Arc<NodeContext>,
    user: &UserId,
    recent: &[RoomId],
    mut found: HashMap<RoomId, RoomFound>,
    after: Option<&ListPosition>,
    limit: usize,
) -> Result<RoomsPage, Refusal> {
    let unknown: Vec<RoomId> = recent.iter().filter(|room| !found.contains_key(*room)).cloned().collect();
    peek_all(node, user, unknown, &mut found).await;
    let rows = rows(node, user, recent, &found, after, limit).await?;
    // Recent and other rooms overlap in time, so the page is cut only after both are in order.
    let rooms: HashSet<&RoomId> = recent.iter().chain(rows.keys()).collect();
    let place = |room: &RoomId| {
        let at = match found.get(room) {
            Some(RoomFound::Member(answer)) => answer.info.last_at,
            Some(RoomFound::Gone) => return None,
            Some(RoomFound::Unanswered) | None => rows.get(room)?.active_at,
        };
        Some(ListPosition(Reverse(at), room.clone()))
    };
    let mut places: Vec<ListPosition> = rooms.into_iter().filter_map(place).collect();
    places.retain(|place| after.is_none_or(|after| place > after || (mutant(Mutant::PageRepeats) && place == after)));
    places.sort();
    let more = places.len() > limit;
    places.truncate(limit);
    let next =
        if more { places.last().cloned().or_else(ListPosition::start).map(|place| place.encode()) } else { None };
    // If the attach did not find the channel live, the head may have moved since.
    let is_stale = |room: &RoomId| match found.get(room) {
        Some(RoomFound::Member(answer)) => !answer.live,
        Some(RoomFound::Gone | RoomFound::Unanswered) => false,
        None => true,
    };
    let stale: Vec<RoomId> = places.iter().map(|place| place.1.clone()).filter(is_stale).collect();
    peek_all(node, user, stale, &mut found).await;
    let mut rooms = Vec::with_capacity(places.len());
    for ListPosition(_, room) in places {
        match found.remove(&room) {
            Some(RoomFound::Member(answer)) => rooms.push(answer.info),
            Some(RoomFound::Gone) => {}
            Some(RoomFound::Unanswered) | None => {
                if let Some(row) = rows.get(&room) {
                    rooms.extend(info_of_rows(node, row).await);
                }
            }
        }
    }
    let mut rooms = add_markers(node, user, rooms).await?;
    rooms.sort_by(|a, b| b.last_at.cmp(&a.last_at).then_with(|| a.room.cmp(&b.room)));
    Ok(RoomsPage { rooms, next })
}

/// Returns the rows of the recent rooms that did not answer, and those of other rooms that may be on a page after
/// `after`.
async fn rows(
    node: &NodeContext,
    user: &UserId,
    recent: &[RoomId],
    found: &HashMap<RoomId, RoomFound>,
    after: Option<&ListPosition>,
    limit: usize,
) -> Result<HashMap<RoomId, RoomOfUser>, Refusal> {
    let after = after.map(|ListPosition(Reverse(at), room)| (*at, room.clone()));
    // Enough for the page and for knowing that there is more, however many of the rows are of recent rooms.
    let others = node.store.rooms_of_user(user, after, recent.len() + limit + 1).await.map_err(store_failed)?;
    let is_recent: HashSet<&RoomId> = recent.iter().collect();
    let others = others.into_iter().filter(|row| !is_recent.contains(&row.room));
    let unanswered = |room: &&RoomId| matches!(found.get(*room), Some(RoomFound::Unanswered));
    let unanswered: Vec<RoomId> = recent.iter().filter(unanswered).cloned().collect();
    let silent = node.store.rooms_of_user_among(user, &unanswered).await.map_err(store_failed)?;
    Ok(others.chain(silent.into_iter().flatten()).map(|row| (row.room.clone(), row)).collect())
}

/// What was found out about a room of a user's list.
#[derive(Debug)]
pub(crate) enum RoomFound {
    /// The owner's answer.
    Member(Box<RoomAnswer>),
    /// The user is not in the room.
    Gone,
    /// The owner has not answered in time.
    Unanswered,
}

impl RoomFound {
    /// Reads an owner's answer, which is `None` for a room that the user is not in.
    pub(crate) fn of(answer: Result<Option<RoomAnswer>, Refusal>) -> Self {
        match answer {
            Ok(Some(answer)) => Self::Member(Box::new(answer)),
            Ok(None) => Self::Gone,
            Err(refusal) if is_not_a_member(&refusal) => Self::Gone,
            Err(_) => Self::Unanswered,
        }
    }
}

/// Asks the owners of rooms how the user sees them, and puts what they answer into `found`, until none answers any
/// more.
async fn peek_all(node: &Arc<NodeContext>, user: &UserId, rooms: Vec<RoomId>, found: &mut HashMap<RoomId, RoomFound>) {
    for room in &rooms {
        found.entry(room.clone()).or_insert(RoomFound::Unanswered);
    }
    let peeks = rooms.into_iter().map(|room| async move {
        let answer = peek(node, user, &room).await;
        // Counts as live, so that the same page does not peek a second time: this answer is fresh.
        let answer = answer.map(|answer| Some(RoomAnswer { live: true, ..answer }));
        (room, RoomFound::of(answer))
    });
    let mut peeks = futures_util::stream::iter(peeks).buffer_unordered(AT_ONCE);
    let mut patience = Patience::new(node.config.owner_patience);
    while let Some((room, answer)) = patience.next(&mut peeks).await {
        if !matches!(answer, RoomFound::Unanswered) {
            found.insert(room, answer);
        }
    }
}

/// Returns a room as its rows describe it. `None` if there is no such room any more, or if its row cannot be read: one
/// room must not keep a user from all others.
async fn info_of_rows(node: &NodeContext, row: &RoomOfUser) -> Option<RoomInfo> {
    let room = node.store.room(&row.room).await;
    let room = room.inspect_err(|error| tracing::warn!(%error, "a room is left out of a user's list")).ok()?;
    let (room, role) = (room.filter(|room| !room.deleted)?, row.role?);
    let room = room.without_expired(node.config.retention_days, Millis::now());
    // A row that cannot be read leaves the choice open.
    let chosen = node.store.member(&row.room, &row.user).await.ok().flatten();
    let unchosen = if room.members > MENTIONS_ABOVE { Notify::Mentions } else { Notify::All };
    Some(RoomInfo {
        room: room.room,
        name: room.name,
        kind: room.kind,
        access: room.access,
        role,
        seq: room.head.seq,
        count: room.head.count,
        marker: row.joined,
        unread: 0,
        notify: chosen.as_ref().map_or(unchosen, |member| member.notify),
        muted_until: chosen.and_then(|member| member.muted_until),
        last_at: row.active_at,
        last: room.last,
        members: room.members,
        retention_days: room.retention_days,
    })
}

/// Returns the user's read markers in rooms, in their order. `None` for a room in which nothing was read.
///
/// # Errors
/// Returns `unavailable` if the store does not answer.
pub(crate) async fn markers_of(
    node: &NodeContext,
    user: &UserId,
    rooms: &[RoomId],
) -> Result<Vec<Option<Mark>>, Refusal> {
    // In this order: a marker that has left the memory in the meantime is in the store.
    let lately: Vec<Option<Mark>> = rooms.iter().map(|room| node.markers.get(user, room)).collect();
    let stored = node.store.read_markers(user, rooms).await.map_err(store_failed)?;
    Ok(stored.into_iter().zip(lately).map(|(stored, lately)| stored.max(lately)).collect())
}

/// Adds the user's read markers to rooms.
///
/// # Errors
/// Returns `unavailable` if the store does not answer.
pub(crate) async fn add_markers(
    node: &NodeContext,
    user: &UserId,
    rooms: Vec<RoomInfo>,
) -> Result<Vec<RoomInfo>, Refusal> {
    if rooms.is_empty() {
        return Ok(rooms);
    }
    let ids: Vec<RoomId> = rooms.iter().map(|info| info.room.clone()).collect();
    let markers = markers_of(node, user, &ids).await?;
    Ok(rooms.into_iter().zip(markers).map(|(info, marker)| info.with_marker(marker)).collect())
}

/// Returns the encoded answer to a `rooms` request.
///
/// # Errors
/// Returns `bad_field` if the cursor is invalid, and `unavailable` if the store or an owner does not answer.
pub(crate) async fn answer(
    node: &Arc<NodeContext>,
    user: &UserId,
    cursor: Option<&str>,
    limit: usize,
) -> Result<Vec<u8>, Refusal> {
    let after = cursor.map(ListPosition::decode).transpose()?;
    let since = Millis::now().before(node.config.window.unevicted());
    let recent: Vec<RoomId> = recent(node, user, since).await?.into_iter().map(|(room, _)| room).collect();
    let page = page(node, user, &recent, HashMap::new(), after.as_ref(), limit).await?;
    Ok(page.to_frame())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(at: u64, room: &str) -> ListPosition {
        ListPosition(Reverse(Millis(at)), RoomId::parse(room).unwrap())
    }

    #[test]
    fn a_cursor_comes_back_and_names_a_place_in_the_order() {
        let cursor = place(17, "=d:a=2Eb:c.d");
        assert_eq!(ListPosition::decode(&cursor.encode()).unwrap(), cursor);
        assert!(place(18, "z") < cursor && cursor < place(16, "a") && cursor < place(17, "a"));
        assert!(ListPosition::start().unwrap() < place(u64::MAX - 1, "a"));
        assert_eq!(ListPosition::decode("x").unwrap_err().field.as_deref(), Some("cursor"));
    }
}
