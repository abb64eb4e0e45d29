//! Eviction: an idle channel ends after its head is written.

use sendpi_model::RoomId;
use tokio::time::{Duration, Instant};

use super::Executor;
use super::job_result::JobResult;
use super::live_entry::{LiveEntry, Stage};

/// How long a room that is not active stays open after the last thing that was asked of it.
const LINGER: Duration = Duration::from_secs(5);
/// The most rooms that stay open so.
const LINGERING_MAX: usize = 256;

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
        entry.requests() == 0 && room.active && is_settled && clock.is_idle(now)
    }

    /// Writes the head of a room, behind the fence.
    pub(super) fn evict(&mut self, id: &RoomId) {
        if !self.store_serves() {
            return;
        }
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let (Some(room), Some(owned)) = (&entry.room, self.partitions.get(&entry.partition)) else { return };
        let (tenure, context, rows, room) = (owned.tenure, self.context.clone(), room.head_rows(), id.clone());
        entry.begin(Stage::Evicting);
        self.start_job(tenure, async move {
            let result = async {
                context.pass_fence(tenure).await?;
                context.write(tenure, rows).await
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
        entry.lags = false;
        if let Some(owned) = self.partitions.get_mut(&entry.partition) {
            owned.recovered(id);
        }
        if entry.requests() > 0 {
            return self.make_ready(id);
        }
        tracing::debug!(partition = %entry.partition, room = %id, "a channel is evicted");
        let Some(room) = self.rooms.remove(id).and_then(|entry| entry.room) else { return };
        self.links.end_audience(&room);
    }

    /// Keeps a room that is not active for a while, because whoever asked something of it may ask for more. The oldest
    /// one goes if there are too many.
    pub(super) fn linger(&mut self, id: &RoomId) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        if entry.lingers.replace(Instant::now()).is_none() {
            self.lingering.push_back(id.clone());
        }
        if self.lingering.len() > LINGERING_MAX
            && let Some(oldest) = self.lingering.pop_front()
        {
            self.end_lingering(&oldest, Duration::ZERO);
        }
    }

    /// Removes the rooms that lingered for long enough.
    pub(super) fn remove_lingering(&mut self) {
        // Each is looked at once. One that was asked for since goes to the end.
        for _ in 0..self.lingering.len() {
            let Some(id) = self.lingering.pop_front() else { return };
            if !self.end_lingering(&id, LINGER) {
                self.lingering.push_back(id);
            }
        }
    }

    /// Removes a room that has lingered for at least this long. Returns `false` if it goes on to linger.
    fn end_lingering(&mut self, id: &RoomId, at_least: Duration) -> bool {
        let Some(entry) = self.rooms.get_mut(id) else { return true };
        let Some(since) = entry.lingers else { return true };
        if entry.stage() != Stage::Ready || entry.has_work() || entry.requests() > 0 {
            // It comes here again after what is under way.
            entry.lingers = None;
            return true;
        }
        if entry.room.as_ref().is_some_and(|room| room.active) {
            entry.lingers = None;
            return true;
        }
        if since.elapsed() < at_least {
            return false;
        }
        self.rooms.remove(id);
        true
    }
}
