//! Reads for users: each is a job of its own, on a task of its own, and holds up no events.

use sendpi_model::server_frame::OpFrame;
use sendpi_model::{NodeId, Refusal, UserId};

use super::Executor;
use super::job_result::JobResult;
use crate::job::{FromMemory, JobError, spawned};
use crate::room::{AnswerAddress, ReadKind, Room, RoomRead, members_answer};

/// A read that has begun.
#[derive(Debug)]
pub(super) struct BegunRead {
    to: AnswerAddress,
    user: UserId,
    bytes: usize,
}

impl Executor {
    /// Queues what users asked of rooms.
    pub(super) fn ask(&mut self, asked: Vec<RoomRead>) {
        for read in asked {
            if let Err(to) = self.reads.push(read) {
                self.links.answer(&to, &Refusal::unavailable("too much is being read", 500));
            }
        }
    }

    /// Begins the reads that may begin now.
    pub(super) fn start_reads(&mut self) {
        if self.reads.is_empty() || !self.store_serves() || self.partitions.values().all(|owned| owned.suspended) {
            return;
        }
        while let Some(read) = self.reads.next(|node| !self.links.any_heavy([node])) {
            self.start_read(read);
        }
    }

    fn start_read(&mut self, read: RoomRead) {
        let begun = BegunRead { to: read.to.clone(), user: read.user.clone(), bytes: read.kind.most_bytes() };
        let Some(owned) = self.partitions.get(&read.to.partition) else {
            // Its flow was refused when the partition was lost.
            return self.reads.ended(&begun.to.node, &begun.user, begun.bytes);
        };
        if owned.suspended {
            // The leases of the others are written again. Those who ask here must not hold them up.
            self.reads.ended(&begun.to.node, &begun.user, begun.bytes);
            return self.links.answer(&begun.to, &Refusal::unavailable("the room's owner is not known now", 500));
        }
        let room = self.rooms.get(&read.room).and_then(|entry| entry.room.as_deref());
        let memory = from_memory(room, &read.kind);
        let (context, tenure) = (self.context.clone(), owned.tenure);
        let answer = spawned(async move { context.answer(tenure, &read, memory).await });
        self.start_job(tenure, async move { JobResult::Answered { begun, result: answer.await } });
    }

    /// Notes that a read is over.
    pub(super) fn read_ended(&mut self, BegunRead { to, user, bytes }: &BegunRead) {
        self.reads.ended(&to.node, user, *bytes);
    }

    /// Answers a read. If it failed, this one request is refused.
    pub(super) async fn answered(&mut self, begun: BegunRead, result: Result<Vec<u8>, JobError>) {
        self.read_ended(&begun);
        let to = begun.to;
        match result {
            Ok(frame) => self.links.answer_frame(&to, frame.into()),
            Err(JobError::NotOwner(lost)) => {
                let nodes: Vec<NodeId> = vec![to.node];
                self.lose_partition(lost, nodes).await;
            }
            Err(error) => {
                let partition = to.partition;
                tracing::warn!(error = &error as &dyn std::error::Error, %partition, "a read failed");
                self.links.answer(&to, &Refusal::unavailable("the store did not answer", 1000));
            }
        }
    }
}

/// Returns what is in memory of an answer.
fn from_memory(room: Option<&Room>, kind: &ReadKind) -> FromMemory {
    match (kind, room) {
        (ReadKind::Page { page, .. }, Some(room)) => {
            room.tail_page(*page).map_or(FromMemory::Nothing, |(events, more)| FromMemory::Page(events, more))
        }
        (ReadKind::Members { limit, listed: Some((seq, members)), .. }, Some(room)) if room.active => {
            let online = |user: &UserId| room.audience.contains(user);
            FromMemory::Frame(members_answer(&room.id, *seq, members.clone(), *limit, online).to_frame())
        }
        (ReadKind::Members { listed: Some((seq, members)), .. }, _) => FromMemory::Members(*seq, members.clone()),
        _ => FromMemory::Nothing,
    }
}
