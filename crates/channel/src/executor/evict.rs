//! Eviction: an idle channel ends after its head is written.

use sendpi_model::RoomId;
use sendpi_store::Row;
use tokio::time::Instant;

use super::Executor;
use super::live_entry::{LiveEntry, Stage};
use super::results::JobResult;
use crate::tenure::Tenure;

impl Executor {
    /// Evicts the channels that are idle and have nothing unfinished.
    pub(super) fn evict_idle(&mut self) {
        let now = Instant::now();
        let idle: Vec<RoomId> =
            self.rooms.iter().filter(|(_, entry)| self.may_evict(entry, now)).map(|(id, _)| id.clone()).collect();
        for id in idle {
            self.evict(&id);
        }
    }

    fn may_evict(&self, entry: &LiveEntry, now: Instant) -> bool {
        let (Stage::Ready, Some(room), Some(clock)) = (entry.stage(), &entry.room, &entry.idle) else { return false };
        let settled = self.partitions.get(&entry.partition).and_then(|owned| owned.settled);
        let is_settled = settled.is_some_and(|row| room.head.at <= row.at);
        entry.queue.is_empty() && room.active && is_settled && clock.is_idle(now)
    }

    /// Writes the head of a room, behind the fence.
    pub(super) fn evict(&mut self, id: &RoomId) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let (Some(room), Some(owned)) = (&entry.room, self.partitions.get(&entry.partition)) else { return };
        let (tenure, context, rows, room) = (owned.tenure, self.context.clone(), room.head_rows(), id.clone());
        entry.begin(Stage::Evicting);
        self.start_job(async move {
            let result = async {
                context.pass_fence(tenure).await?;
                context.write(&[tenure], rows).await
            }
            .await;
            JobResult::Evicted { room, result }
        });
    }

    /// Ends the channel after its head is written, unless requests have come in the meantime.
    pub(super) fn evicted(&mut self, id: &RoomId) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        if !entry.end(Stage::Evicting) {
            return;
        }
        if !entry.queue.is_empty() {
            return self.make_ready(id);
        }
        tracing::debug!(partition = %entry.partition, room = %id, "a channel is evicted");
        let Some(room) = self.rooms.remove(id).and_then(|entry| entry.room) else { return };
        self.links.end_audience(&room);
    }

    /// Writes the heads of all live channels when the worker ends, so that the next owner finds them up to date.
    pub(super) async fn write_heads(&mut self) {
        self.settle();
        let tenures: Vec<Tenure> = self.partitions.values().map(|owned| owned.tenure).collect();
        for tenure in tenures {
            if self.context.pass_fence(tenure).await.is_err() {
                self.partitions.remove(&tenure.partition);
            }
        }
        // The head of a room with a batch under way counts events that may never be stored.
        let idle =
            self.rooms.values().filter(|entry| !entry.is_busy() && self.partitions.contains_key(&entry.partition));
        let rows: Vec<Row> = idle.filter_map(|entry| entry.room.as_ref()).flat_map(|room| room.head_rows()).collect();
        if !rows.is_empty()
            && let Err(error) = self.context.store.write(rows).await
        {
            tracing::warn!(%error, "cannot write the heads of live rooms; the next start reads them from their tails");
        }
    }
}
