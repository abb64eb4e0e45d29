//! Limits how often a session's "is typing" is passed on: every 2 s for one room, and for 10 different rooms a
//! minute. Pure.

use std::time::Duration;

use sendpi_model::RoomId;
use tokio::time::Instant;

const SAME_ROOM: Duration = Duration::from_secs(2);
const ROOMS: usize = 10;
const FORGET: Duration = Duration::from_secs(60);

/// The rooms for which a session's typing was passed on in the last minute, with the times.
#[derive(Debug, Default)]
pub(crate) struct TypingLimit(Vec<(RoomId, Instant)>);

impl TypingLimit {
    /// Returns whether to pass on that the user is typing in `room`.
    pub(crate) fn admit(&mut self, room: &RoomId, now: Instant) -> bool {
        self.0.retain(|(_, at)| now - *at < FORGET);
        if let Some((_, at)) = self.0.iter_mut().find(|(known, _)| known == room) {
            let due = now - *at >= SAME_ROOM;
            if due {
                *at = now;
            }
            return due;
        }
        if self.0.len() >= ROOMS {
            return false;
        }
        self.0.push((room.clone(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_room_every_two_seconds_and_ten_rooms_a_minute() {
        let (mut typing, now) = (TypingLimit::default(), Instant::now());
        let room = |n: usize| RoomId::parse(&format!("r{n}")).unwrap();
        assert!(typing.admit(&room(0), now));
        assert!(!typing.admit(&room(0), now + Duration::from_secs(1)));
        assert!(typing.admit(&room(0), now + SAME_ROOM));
        let admitted = (1..20).filter(|n| typing.admit(&room(*n), now + SAME_ROOM)).count();
        assert_eq!(admitted, ROOMS - 1);
        assert!(typing.admit(&room(15), now + SAME_ROOM + FORGET));
    }
}
