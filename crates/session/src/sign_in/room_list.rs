//! A user's rooms, newest message first, in pages.
//!
//! Recent order rows name the rooms that may have events that `rooms_of_user` does not know of yet. The owners of
//! these rooms are asked. All other rooms are idle, and their time in `rooms_of_user` is that of their last event.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::server_frame::{OpFrame, RoomsPage};
use sendpi_model::{Mark, Millis, Refusal, RoomId, RoomInfo, UserId};
use sendpi_store::ReadError;

use crate::context::NodeContext;
use crate::owners::answer::{RoomAnswer, is_not_a_member};
use crate::owners::peek::{OWNERS_IN_PARALLEL, peek};

/// The most order rows of one read.
const ROWS: usize = 1_000;
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

/// Returns the page after `after`. `recent` holds the rooms with recent order rows, without those that the user was
/// found not to be in. `known` holds the answers that their owners gave already.
///
/// # Errors
/// Returns `unavailable` if the store or an owner does not answer.
pub(crate) async fn page(
    node: &Arc<NodeContext>,
    user: &UserId,
    recent: &[RoomId],
    mut known: HashMap<RoomId, RoomAnswer>,
    after: Option<&ListPosition>,
    limit: usize,
) -> Result<RoomsPage, Refusal> {
    let unknown: Vec<RoomId> = recent.iter().filter(|room| !known.contains_key(*room)).cloned().collect();
    peek_all(node, user, unknown, &mut known).await?;
    let of_recent = recent.iter().filter_map(|room| known.get(room).map(|k| (k.info.last_at, room)));
    let mut places: Vec<ListPosition> = of_recent.map(|(at, room)| ListPosition(Reverse(at), room.clone())).collect();
    places.retain(|place| after.is_none_or(|after| place > after || (mutant(Mutant::PageRepeats) && place == after)));
    if places.len() <= limit {
        let known_times: HashSet<&RoomId> = recent.iter().collect();
        let rest = node.store.rooms_of_user(user).await.map_err(store_failed)?;
        let rest = rest.into_iter().filter(|row| row.role.is_some() && !known_times.contains(&row.room));
        let rest = rest.map(|row| ListPosition(Reverse(row.active_at), row.room));
        places.extend(rest.filter(|place| after.is_none_or(|after| place > after)));
    }
    places.sort();
    let more = places.len() > limit;
    places.truncate(limit);
    let next =
        if more { places.last().cloned().or_else(ListPosition::start).map(|place| place.encode()) } else { None };
    // If the attach did not find the channel live, the head may have moved since.
    let stale = places.iter().map(|place| &place.1).filter(|room| known.get(*room).is_none_or(|k| !k.live));
    peek_all(node, user, stale.cloned().collect(), &mut known).await?;
    let rooms = places.iter().filter_map(|place| known.remove(&place.1).map(|known| known.info)).collect();
    let mut rooms = add_markers(node, user, rooms).await?;
    rooms.sort_by(|a, b| b.last_at.cmp(&a.last_at).then_with(|| a.room.cmp(&b.room)));
    Ok(RoomsPage { rooms, next })
}

/// Asks the owners of rooms how the user sees them, and puts the answers into `known`. Removes the rooms that the
/// user is not in.
async fn peek_all(
    node: &Arc<NodeContext>,
    user: &UserId,
    rooms: Vec<RoomId>,
    known: &mut HashMap<RoomId, RoomAnswer>,
) -> Result<(), Refusal> {
    let peeks = rooms.into_iter().map(|room| async move {
        match peek(node, user, &room).await {
            Ok(view) => Ok((room, Some(view))),
            Err(refusal) if is_not_a_member(&refusal) => Ok((room, None)),
            Err(refusal) => Err(refusal),
        }
    });
    let mut peeks = futures_util::stream::iter(peeks).buffer_unordered(OWNERS_IN_PARALLEL);
    while let Some((room, view)) = peeks.try_next().await? {
        match view {
            // Counts as live, so that the same page does not peek a second time: this answer is fresh.
            Some(view) => drop(known.insert(room, RoomAnswer { live: true, ..view })),
            None => drop(known.remove(&room)),
        }
    }
    Ok(())
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
