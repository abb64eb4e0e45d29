//! Reading the timeline for bounces: what a user wants of a range that is longer than the tail.

use sendpi_model::RoomId;
use sendpi_store::EpochChain;

use super::{JobContext, JobError};
use crate::room::BounceScan;
use crate::tenure::Tenure;

/// The most rows of one read.
const PAGE: usize = 1_000;

impl JobContext {
    /// Shows the events of a room to `scans`, newest first, as far back as their ranges go. They share the reads.
    pub(crate) async fn scan(
        &self,
        tenure: Tenure,
        room: &RoomId,
        chain: &EpochChain,
        scans: &mut [BounceScan],
    ) -> Result<(), JobError> {
        let first = scans.iter().map(|scan| scan.bounce.first).min().unwrap_or(u64::MAX);
        let mut last = scans.iter().map(|scan| scan.bounce.last).max().unwrap_or(0);
        while last >= first {
            let rows = self.store.timeline(room, first..=last, PAGE, true).await?;
            let edge = rows.first().filter(|_| rows.len() == PAGE).map(|row| row.event.head.seq);
            let mut events = chain.filter(rows);
            // The lowest seq that was read may have further rows, so it is read again.
            events.retain(|row| edge != Some(row.event.head.seq) || edge == Some(last));
            for row in events.iter().rev() {
                scans.iter_mut().for_each(|scan| scan.look(&row.event));
            }
            let Some(edge) = edge else { break };
            last = if edge < last { edge } else { last - 1 };
            tokio::task::yield_now().await;
        }
        // The rows may be void if the owner was overtaken while it read.
        self.pass_fence(tenure).await
    }
}
