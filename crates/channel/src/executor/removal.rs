//! Removes what is left of rooms that were deleted: piece by piece, and from the beginning again after a crash or a
//! change of hands. What is removed is the same whoever does it, so a task of its own may still be at it when the
//! partition is lost.

use std::collections::HashSet;

use sendpi_model::{Millis, RoomId};
use sendpi_store::{DeletedRoom, RoomRow, TIMELINE_BUCKET};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Executor;
use crate::job::{JobContext, JobError};
use crate::metrics::WorkerMetrics;
use crate::tenure::Tenure;

/// How often it is looked for deleted rooms, as a part of the time after which they are removed.
const LOOKS: u32 = 60;

/// The task that removes, if there is one.
#[derive(Debug)]
pub(super) struct Removal {
    task: Option<AbortOnDropHandle<()>>,
    last: Instant,
}

impl Default for Removal {
    fn default() -> Self {
        Self { task: None, last: Instant::now() }
    }
}

/// A partition in which may be removed what was deleted up to a time.
#[derive(Debug)]
struct RemovalScope {
    tenure: Tenure,
    until: Millis,
    /// Rooms that have something left to dispatch.
    except: HashSet<RoomId>,
}

/// What was removed of a room.
#[derive(Debug, Default)]
struct RemovedRoom {
    events: usize,
    pieces: u64,
}

impl Executor {
    /// Removes what is left of the rooms that were deleted long enough ago. Everything of them is settled.
    pub(super) fn remove_deleted(&mut self) {
        let after = self.config.remove_after;
        let is_busy = self.removal.task.as_ref().is_some_and(|task| !task.is_finished());
        if is_busy || self.removal.last.elapsed() < after / LOOKS {
            return;
        }
        self.removal.last = Instant::now();
        let old = Millis::now().before(after);
        let scopes: Vec<RemovalScope> = self
            .partitions
            .values()
            .filter_map(|owned| {
                let settled =
                    owned.settled.filter(|settled| settled.epoch == owned.tenure.epoch && !owned.suspended)?;
                Some(RemovalScope { tenure: owned.tenure, until: settled.at.min(old), except: owned.late_rooms() })
            })
            .collect();
        let (context, metrics) = (self.context.clone(), self.metrics.clone());
        let task = tokio::spawn(async move {
            for scope in scopes {
                context.remove_in(&scope, &metrics).await;
            }
        });
        self.removal.task = Some(AbortOnDropHandle::new(task));
    }
}

impl JobContext {
    async fn remove_in(&self, scope: &RemovalScope, metrics: &WorkerMetrics) {
        let partition = scope.tenure.partition;
        let rooms = match self.store.deleted_rooms(partition).await {
            Ok(rooms) => rooms,
            Err(error) => return tracing::warn!(%error, %partition, "cannot see which rooms were deleted"),
        };
        let due = |deleted: &&DeletedRoom| deleted.at <= scope.until && !scope.except.contains(&deleted.room);
        for DeletedRoom { room, .. } in rooms.iter().filter(due) {
            match self.remove_room(scope, room).await {
                Ok(Some(RemovedRoom { events, pieces })) => {
                    metrics.removed_rooms.inc();
                    metrics.removed_events.inc_by(events as u64);
                    tracing::info!(%room, events, pieces, "removed what was left of a deleted room");
                }
                Ok(None) => {}
                Err(JobError::NotOwner(_)) => return,
                Err(error) => tracing::warn!(%error, %room, "what is left of a deleted room stays for now"),
            }
        }
    }

    /// Removes what is left of a room. `None` if it was not deleted after all, or lately: the write of the deletion
    /// failed, or a crash came before the room's row.
    async fn remove_room(&self, scope: &RemovalScope, room: &RoomId) -> Result<Option<RemovedRoom>, JobError> {
        let tenure = scope.tenure;
        // A deletion that failed may have left its note before.
        let is_due = |row: &RoomRow| row.deleted && row.head.at <= scope.until;
        let Some(row) = self.store.room(room).await?.filter(is_due) else { return Ok(None) };
        self.pass_fence(tenure).await?;
        let mut removed = RemovedRoom::default();
        // The events behind the head are no more than those of some minutes.
        let last = row.head.seq / TIMELINE_BUCKET;
        for piece in 0.. {
            let events = self.store.remove_events(room, piece).await.map_err(JobError::Write)?;
            if piece > last && events == 0 {
                break;
            }
            removed.events += events;
            removed.pieces += u64::from(events > 0);
        }
        self.store.remove_room(tenure.partition, room).await.map_err(JobError::Write)?;
        Ok(Some(removed))
    }
}
