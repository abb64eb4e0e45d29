//! A user's rooms, newest message first, in pages.
//!
//! The order rows of the last while tell which rooms may have events that `rooms_of_user` does not know of yet: of those the owner
//! is asked. All others are idle, and their time in `rooms_of_user` is that of their last event.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::server_frame::{OpFrame, RoomsPage};
use sendpi_model::{Millis, Refusal, RoomId, RoomInfo, UserId};
use sendpi_store::ReadError;

use crate::context::NodeContext;
use crate::owners::answer::{RoomAnswer, is_not_a_member};
use crate::owners::peek::{OWNERS_IN_PARALLEL, peek};

/// Order rows of one read.
const ROWS: usize = 1_000;
/// A place in the order: newest first, and by room where times are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListPosition(Reverse<Millis>, RoomId);

impl ListPosition {
    /// Before every room.
    fn start() -> Option<Self> {
        RoomId::parse("!").ok().map(|room| Self(Reverse(Millis(u64::MAX)), room))
    }

    fn encode(&self) -> String {
        format!("{}.{}", self.0.0.0, self.1)
    }

    /// Reads a cursor of an earlier page.
    ///
    /// # Errors
    /// `bad_field` where it is none.
    pub(crate) fn decode(cursor: &str) -> Result<Self, Refusal> {
        let place = cursor
            .split_once('.')
            .and_then(|(at, room)| Some(Self(Reverse(Millis(at.parse().ok()?)), RoomId::parse(room).ok()?)));
        place.ok_or_else(|| Refusal::field("cursor", "must be one that an earlier page gave as next"))
    }
}

/// A read that failed is for the client to try again.
pub(crate) fn store_failed(error: ReadError) -> Refusal {
    tracing::warn!(%error, "a read for a user failed");
    Refusal::unavailable("the store did not answer", 1_000)
}

/// The rooms with an order row since then, newest first, each once.
///
/// # Errors
/// `unavailable` where the store does not answer.
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

/// A page after `after`. `recent` are the rooms with recent order rows, without those that denied the user; `known` is what their
/// owners told already.
///
/// # Errors
/// `unavailable` where the store or an owner does not answer.
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
    // Where the attach did not find the channel live, the head may have moved since.
    let stale = places.iter().map(|place| &place.1).filter(|room| known.get(*room).is_none_or(|k| !k.live));
    peek_all(node, user, stale.cloned().collect(), &mut known).await?;
    let rooms = places.iter().filter_map(|place| known.remove(&place.1).map(|known| known.info)).collect();
    let mut rooms = add_markers(node, user, rooms).await?;
    rooms.sort_by(|a, b| b.last_at.cmp(&a.last_at).then_with(|| a.room.cmp(&b.room)));
    Ok(RoomsPage { rooms, next })
}

/// Asks the owners of rooms how the user sees them; those that deny the user are left out.
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
            // A second peek of the same page is not needed: this one is of now.
            Some(view) => drop(known.insert(room, RoomAnswer { live: true, ..view })),
            None => drop(known.remove(&room)),
        }
    }
    Ok(())
}

/// Puts the user's read markers in.
///
/// # Errors
/// `unavailable` where the store does not answer.
pub(crate) async fn add_markers(
    node: &NodeContext,
    user: &UserId,
    rooms: Vec<RoomInfo>,
) -> Result<Vec<RoomInfo>, Refusal> {
    if rooms.is_empty() {
        return Ok(rooms);
    }
    let ids: Vec<RoomId> = rooms.iter().map(|info| info.room.clone()).collect();
    let stored = node.store.read_markers(user, &ids).await.map_err(store_failed)?;
    let marked = rooms.into_iter().zip(stored).map(|(info, stored)| {
        let marker = stored.max(node.markers.get(user, &info.room));
        info.with_marker(marker)
    });
    Ok(marked.collect())
}

/// Answers `rooms`.
///
/// # Errors
/// `bad_field` for the cursor, or `unavailable`.
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
