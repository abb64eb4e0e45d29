//! Rooms that cannot be opened, for example because a later release wrote one of their rows. Each is tried again after
//! a pause that doubles with each try.

use std::collections::HashMap;
use std::time::Duration;

use sendpi_model::RoomId;
use tokio::time::Instant;

/// The pause after the first try, and the longest one.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_mins(1));
/// A room that could not be opened this often, in about 3 seconds, holds up nothing of its partition any more.
const PATIENCE: u32 = 5;

/// What is known of a room that could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FailedOpen {
    /// The pause before the next try.
    pub(super) pause: Duration,
    /// Whether the partition waited long enough for the room.
    pub(super) patience_ended: bool,
}

/// The rooms that could not be opened when they were last tried.
#[derive(Debug, Default)]
pub(super) struct OpenBackoff(HashMap<RoomId, (u32, Instant)>);

impl OpenBackoff {
    /// Notes that a room could not be opened.
    pub(super) fn failed(&mut self, room: &RoomId, now: Instant) -> FailedOpen {
        let (tries, again) = self.0.entry(room.clone()).or_insert((0, now));
        *tries = tries.saturating_add(1);
        let pause = PAUSE.0.saturating_mul(1 << (*tries - 1).min(16)).min(PAUSE.1);
        *again = now + pause;
        FailedOpen { pause, patience_ended: *tries >= PATIENCE }
    }

    /// Notes that a room was opened.
    pub(super) fn opened(&mut self, room: &RoomId) {
        self.0.remove(room);
    }

    /// Returns for how long a room is not to be tried. `None` if it may be tried now.
    pub(super) fn pause(&self, room: &RoomId, now: Instant) -> Option<Duration> {
        let (_, again) = self.0.get(room)?;
        again.checked_duration_since(now).filter(|pause| !pause.is_zero())
    }

    /// Forgets the rooms that nobody tried for a while after their pause.
    pub(super) fn forget_old(&mut self, now: Instant) {
        self.0.retain(|_, (_, again)| now.saturating_duration_since(*again) < PAUSE.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_that_cannot_be_opened_is_tried_ever_less_often() {
        let (mut backoff, mut now) = (OpenBackoff::default(), Instant::now());
        let (room, other) = (RoomId::parse("r").unwrap(), RoomId::parse("other").unwrap());
        let mut pauses = Vec::new();
        for tries in 1..=12 {
            assert_eq!(backoff.pause(&room, now), None);
            let failed = backoff.failed(&room, now);
            assert_eq!(failed.patience_ended, tries >= PATIENCE);
            assert_eq!((backoff.pause(&room, now), backoff.pause(&other, now)), (Some(failed.pause), None));
            pauses.push(failed.pause.as_millis());
            now += failed.pause;
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
        backoff.opened(&room);
        assert_eq!(backoff.failed(&room, now).pause, PAUSE.0);
    }

    #[test]
    fn a_room_that_nobody_tries_any_more_is_forgotten() {
        let (mut backoff, now) = (OpenBackoff::default(), Instant::now());
        let pause = backoff.failed(&RoomId::parse("r").unwrap(), now).pause;
        backoff.forget_old(now + pause + PAUSE.1 - Duration::from_millis(1));
        assert_eq!(backoff.0.len(), 1);
        backoff.forget_old(now + pause + PAUSE.1);
        assert!(backoff.0.is_empty());
    }
}
