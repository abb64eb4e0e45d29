//! What operators ask of this worker.

use sendpi_bus::{NatsMessage, subject};
use sendpi_model::control::{
    ControlDone, ControlRefusal, ControlVerb, LiveRoom, LiveRooms, PartitionState, PartitionStatus, WorkerRequest,
    WorkerStatus,
};
use sendpi_model::{Partition, encode_json};

use super::Executor;
use super::live_entry::LiveEntry;

/// The most rooms of one answer.
const ROOMS: usize = 1_000;

impl Executor {
    /// Answers an operator.
    pub(super) async fn control(&mut self, message: &NatsMessage) {
        // Whoever may ask may not have the answer sent anywhere else.
        let Some(reply) = message.reply().filter(|reply| subject::is_inbox(reply)) else { return };
        let answer = match serde_json::from_slice::<WorkerRequest>(message.payload()) {
            Ok(request) => self.carry_out_control(request.verb),
            Err(error) => encode_json(&ControlRefusal { error: format!("this release does not know that: {error}") }),
        };
        if let Err(error) = self.context.bus.publish(reply.to_owned(), answer.into()).await {
            tracing::debug!(%error, "cannot answer an operator");
        }
    }

    fn carry_out_control(&mut self, verb: ControlVerb) -> Vec<u8> {
        match verb {
            ControlVerb::Status => encode_json(&self.status()),
            ControlVerb::Rooms { partition } if self.partitions.contains_key(&partition) => {
                encode_json(&self.live_rooms(partition))
            }
            ControlVerb::Rooms { partition } => {
                encode_json(&ControlRefusal { error: format!("partition {partition} is another worker's") })
            }
            ControlVerb::Drain { undo } if self.stopping.is_none() => {
                self.set_drain(!undo);
                encode_json(&ControlDone { done: true })
            }
            ControlVerb::Drain { .. } => encode_json(&ControlRefusal { error: "the worker ends".to_owned() }),
        }
    }

    /// Hands over all that this worker owns, or takes part again.
    fn set_drain(&mut self, is_drained: bool) {
        tracing::info!(is_drained, "an operator drains this worker, or takes it back");
        let share = (!is_drained).then(|| self.share.clone());
        self.take_part(share);
        self.claim_rightful();
        self.begin_moves();
    }

    fn status(&self) -> WorkerStatus {
        let mut partitions: Vec<PartitionStatus> = self
            .partitions
            .iter()
            .map(|(partition, owned)| PartitionStatus {
                partition: *partition,
                epoch: owned.tenure.epoch,
                state: match () {
                    () if owned.suspended => PartitionState::Suspended,
                    () if owned.moving.is_some() => PartitionState::Moving,
                    () => PartitionState::Serving,
                },
                rooms: 0,
                events: owned.event_rate(),
                recovering: owned.recovering.len(),
            })
            .collect();
        partitions.sort_by_key(|status| status.partition);
        for entry in self.rooms.values() {
            if let Ok(place) = partitions.binary_search_by_key(&entry.partition, |status| status.partition) {
                partitions[place].rooms += 1;
            }
        }
        WorkerStatus {
            node: self.key.node().clone(),
            draining: !self.fleet.takes_part(),
            takeovers: self.metrics.takeovers.get(),
            moves: self.metrics.moves.get(),
            partitions,
        }
    }

    fn live_rooms(&self, partition: Partition) -> LiveRooms {
        let of_it = self.rooms.iter().filter(|(_, entry)| entry.partition == partition);
        let mut rooms: Vec<LiveRoom> = of_it
            .map(|(id, entry)| LiveRoom {
                room: id.clone(),
                active: entry.room.as_ref().is_some_and(|room| room.active),
                members: entry.room.as_ref().map_or(0, |room| room.members.len()),
                online: entry.room.as_ref().map_or(0, |room| room.audience.users()),
                queue: entry.requests(),
                events: event_rate(entry),
            })
            .collect();
        let all = rooms.len();
        rooms.sort_by(|a, b| b.queue.cmp(&a.queue).then(b.events.total_cmp(&a.events)).then(a.room.cmp(&b.room)));
        rooms.truncate(ROOMS);
        LiveRooms { rooms, all }
    }
}

fn event_rate(entry: &LiveEntry) -> f64 {
    entry.idle.as_ref().map_or(0.0, |idle| idle.events_a_second(tokio::time::Instant::now()))
}
