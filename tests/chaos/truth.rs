//! The events of rooms as the store has them, read with the rule that says which rows count.

use std::collections::BTreeMap;

use sendpi_client::EventFrame;
use sendpi_model::RoomId;
use sendpi_store::Store;

/// How many rows are read at once.
const PAGE: usize = 500;

/// Returns the events of rooms that count, in order.
pub(crate) async fn of(store: &dyn Store, rooms: &[String]) -> BTreeMap<String, Vec<EventFrame>> {
    let mut truth = BTreeMap::new();
    for room in rooms {
        truth.insert(room.clone(), of_room(store, room).await);
    }
    truth
}

async fn of_room(store: &dyn Store, room: &str) -> Vec<EventFrame> {
    let room = RoomId::parse(room).unwrap_or_else(|error| panic!("{room}: {error}"));
    let chain = store.chain(&room).await.unwrap_or_else(|error| panic!("{room}: {error}"));
    let mut events: Vec<EventFrame> = Vec::new();
    let mut next = 1;
    loop {
        let rows = store.timeline(&room, next..=next + PAGE as u64 - 1, 4 * PAGE, false).await;
        let rows = rows.unwrap_or_else(|error| panic!("{room}: {error}"));
        let counting = chain.filter(rows);
        let Some(last) = counting.last() else { return events };
        next = last.event.head.seq + 1;
        let read = |frame: &[u8]| serde_json::from_slice(frame).unwrap_or_else(|error| panic!("{room}: {error}"));
        events.extend(counting.iter().map(|row| read(&row.event.frame)));
    }
}
