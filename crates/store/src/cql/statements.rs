//! The statements, each under the name that metrics and errors call it.

use crate::TIMELINE_BUCKET;

/// A statement that reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Meta,
    Fences,
    Starts,
    Timeline,
    TimelineNewest,
    Nonces,
    Room,
    Members,
    Member,
    RoomsOfUser,
    RoomsOfUserAmong,
    RolesOfUser,
    Order,
    OrderAt,
    Markers,
    ActiveHours,
    ActiveRooms,
    Settled,
    Pushed,
    Revoked,
    Devices,
    RoomsEver,
    DeletedRooms,
    Seqs,
}

impl Read {
    pub(super) const ALL: [Self; 24] = [
        Self::Meta,
        Self::Fences,
        Self::Starts,
        Self::Timeline,
        Self::TimelineNewest,
        Self::Nonces,
        Self::Room,
        Self::Members,
        Self::Member,
        Self::RoomsOfUser,
        Self::RoomsOfUserAmong,
        Self::RolesOfUser,
        Self::Order,
        Self::OrderAt,
        Self::Markers,
        Self::ActiveHours,
        Self::ActiveRooms,
        Self::Settled,
        Self::Pushed,
        Self::Revoked,
        Self::Devices,
        Self::RoomsEver,
        Self::DeletedRooms,
        Self::Seqs,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Meta => "read_meta",
            Self::Fences => "read_fence",
            Self::Starts => "read_starts",
            Self::Timeline => "read_timeline",
            Self::TimelineNewest => "read_timeline_newest",
            Self::Nonces => "read_nonces",
            Self::Room => "read_room",
            Self::Members => "read_members",
            Self::Member => "read_member",
            Self::RoomsOfUser => "read_rooms_of_user",
            Self::RoomsOfUserAmong => "read_rooms_of_user_among",
            Self::RolesOfUser => "read_roles_of_user",
            Self::Order => "read_rooms_by_activity",
            Self::OrderAt => "read_rooms_by_activity_at",
            Self::Markers => "read_read_markers",
            Self::ActiveHours => "read_active_hours",
            Self::ActiveRooms => "read_active_rooms",
            Self::Settled => "read_settled",
            Self::Pushed => "read_pushed",
            Self::Revoked => "read_revoked",
            Self::Devices => "read_devices",
            Self::RoomsEver => "read_rooms_ever",
            Self::DeletedRooms => "read_deleted_rooms",
            Self::Seqs => "read_timeline_seqs",
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Meta => "SELECT value FROM meta WHERE name = ?",
            Self::Fences => "SELECT epoch, claim FROM fence WHERE partition = ? AND epoch >= ? LIMIT 16",
            Self::Starts => "SELECT epoch, next_seq, continues FROM starts WHERE room = ? AND epoch < ? LIMIT ?",
            Self::Timeline => {
                "SELECT seq, epoch, count, at, kind, sender, nonce, frame, TTL(frame) FROM timeline \
                 WHERE room = ? AND bucket = ? AND seq >= ? AND seq <= ? LIMIT ?"
            }
            Self::TimelineNewest => {
                "SELECT seq, epoch, count, at, kind, sender, nonce, frame, TTL(frame) FROM timeline \
                 WHERE room = ? AND bucket = ? AND seq >= ? AND seq <= ? ORDER BY seq DESC, epoch DESC LIMIT ?"
            }
            Self::Nonces => {
                "SELECT seq, epoch, count, at, sender, nonce FROM timeline \
                 WHERE room = ? AND bucket = ? AND seq >= ? AND seq <= ?"
            }
            Self::Room => "SELECT row FROM rooms WHERE room = ?",
            Self::Members => "SELECT row FROM members WHERE room = ? AND user > ?",
            Self::Member => "SELECT row FROM members WHERE room = ? AND user = ?",
            Self::RoomsOfUser => {
                "SELECT room, role, joined_seq, joined_count, active_at, writetime(role) FROM rooms_of_user \
                 WHERE user = ?"
            }
            Self::RoomsOfUserAmong => {
                "SELECT room, role, joined_seq, joined_count, active_at, writetime(role) FROM rooms_of_user \
                 WHERE user = ? AND room IN ?"
            }
            Self::RolesOfUser => "SELECT role FROM rooms_of_user WHERE user = ?",
            Self::Order => {
                "SELECT active_at, room FROM rooms_by_activity WHERE user = ? AND active_at >= ? AND active_at < ? \
                 LIMIT ?"
            }
            Self::OrderAt => {
                "SELECT active_at, room FROM rooms_by_activity WHERE user = ? AND active_at = ? AND room > ? LIMIT ?"
            }
            Self::Markers => "SELECT room, seq, count FROM read_markers WHERE user = ? AND room IN ?",
            Self::ActiveHours => "SELECT hour FROM active_hours WHERE partition = ? AND hour >= ? AND hour <= ?",
            Self::ActiveRooms => {
                "SELECT room FROM active_rooms WHERE partition = ? AND hour = ? AND minute >= ? AND minute <= ?"
            }
            Self::Settled => "SELECT epoch, at FROM settled WHERE partition = ? LIMIT 1",
            Self::Pushed => "SELECT row FROM pushed WHERE room = ?",
            Self::Revoked => "SELECT before FROM revoked WHERE user = ?",
            Self::Devices => "SELECT row FROM devices WHERE user = ?",
            Self::RoomsEver => "SELECT room FROM rooms_of_user WHERE user = ? AND room > ? LIMIT ?",
            Self::DeletedRooms => "SELECT room, at FROM deleted_rooms WHERE partition = ?",
            Self::Seqs => "SELECT seq FROM timeline WHERE room = ? AND bucket = ?",
        }
    }

    /// Returns how many rows one page has at most. A row of a timeline may have 20 KiB.
    pub(super) fn page(self) -> i32 {
        match self {
            Self::Timeline | Self::TimelineNewest => 256,
            _ => 1_000,
        }
    }
}

/// A statement that writes one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Write {
    Meta,
    Fence,
    Start,
    Event,
    Room,
    Member,
    RoomOfUser,
    Order,
    Marker,
    ActiveHour,
    ActiveRoom,
    Settled,
    Pushed,
    Revoked,
    Device,
    DeletedRoom,
    RemoveEvents,
    RemoveStarts,
    RemoveMembers,
    RemovePushed,
    RemoveDeletedRoom,
}

impl Write {
    pub(super) const ALL: [Self; 21] = [
        Self::Meta,
        Self::Fence,
        Self::Start,
        Self::Event,
        Self::Room,
        Self::Member,
        Self::RoomOfUser,
        Self::Order,
        Self::Marker,
        Self::ActiveHour,
        Self::ActiveRoom,
        Self::Settled,
        Self::Pushed,
        Self::Revoked,
        Self::Device,
        Self::DeletedRoom,
        Self::RemoveEvents,
        Self::RemoveStarts,
        Self::RemoveMembers,
        Self::RemovePushed,
        Self::RemoveDeletedRoom,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Meta => "write_meta",
            Self::Fence => "write_fence",
            Self::Start => "write_starts",
            Self::Event => "write_timeline",
            Self::Room => "write_rooms",
            Self::Member => "write_members",
            Self::RoomOfUser => "write_rooms_of_user",
            Self::Order => "write_rooms_by_activity",
            Self::Marker => "write_read_markers",
            Self::ActiveHour => "write_active_hours",
            Self::ActiveRoom => "write_active_rooms",
            Self::Settled => "write_settled",
            Self::Pushed => "write_pushed",
            Self::Revoked => "write_revoked",
            Self::Device => "write_devices",
            Self::DeletedRoom => "write_deleted_rooms",
            Self::RemoveEvents => "remove_timeline",
            Self::RemoveStarts => "remove_starts",
            Self::RemoveMembers => "remove_members",
            Self::RemovePushed => "remove_pushed",
            Self::RemoveDeletedRoom => "remove_deleted_rooms",
        }
    }

    /// Returns the statement. Its last value is the timestamp, or, for an event, how long it lives in seconds.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Meta => "INSERT INTO meta (name, value) VALUES (?, ?) USING TIMESTAMP ?",
            Self::Fence => "INSERT INTO fence (partition, epoch, claim) VALUES (?, ?, ?) USING TIMESTAMP ?",
            Self::Start => {
                "INSERT INTO starts (room, epoch, next_seq, continues) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
            }
            Self::Event => {
                "INSERT INTO timeline (room, bucket, seq, epoch, count, at, kind, sender, nonce, frame) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?"
            }
            Self::Room => "INSERT INTO rooms (room, row) VALUES (?, ?) USING TIMESTAMP ?",
            Self::Member => "INSERT INTO members (room, user, row) VALUES (?, ?, ?) USING TIMESTAMP ?",
            Self::RoomOfUser => {
                "INSERT INTO rooms_of_user (user, room, role, joined_seq, joined_count, active_at) \
                 VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
            }
            Self::Order => "INSERT INTO rooms_by_activity (user, active_at, room) VALUES (?, ?, ?) USING TIMESTAMP ?",
            Self::Marker => "INSERT INTO read_markers (user, room, seq, count) VALUES (?, ?, ?, ?) USING TIMESTAMP ?",
            Self::ActiveHour => "INSERT INTO active_hours (partition, hour) VALUES (?, ?) USING TIMESTAMP ?",
            Self::ActiveRoom => {
                "INSERT INTO active_rooms (partition, hour, minute, room) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
            }
            Self::Settled => "INSERT INTO settled (partition, epoch, at) VALUES (?, ?, ?) USING TIMESTAMP ?",
            Self::Pushed => "INSERT INTO pushed (room, row) VALUES (?, ?) USING TIMESTAMP ?",
            Self::Revoked => "INSERT INTO revoked (user, before) VALUES (?, ?) USING TIMESTAMP ?",
            Self::Device => "INSERT INTO devices (user, device, row) VALUES (?, ?, ?) USING TIMESTAMP ?",
            Self::DeletedRoom => "INSERT INTO deleted_rooms (partition, room, at) VALUES (?, ?, ?) USING TIMESTAMP ?",
            Self::RemoveEvents => "DELETE FROM timeline USING TIMESTAMP ? WHERE room = ? AND bucket = ?",
            Self::RemoveStarts => "DELETE FROM starts USING TIMESTAMP ? WHERE room = ?",
            Self::RemoveMembers => "DELETE FROM members USING TIMESTAMP ? WHERE room = ?",
            Self::RemovePushed => "DELETE FROM pushed USING TIMESTAMP ? WHERE room = ?",
            Self::RemoveDeletedRoom => "DELETE FROM deleted_rooms USING TIMESTAMP ? WHERE partition = ? AND room = ?",
        }
    }
}

impl Write {
    /// Returns the table into which the statement inserts. Empty for one that removes.
    pub(super) fn table(self) -> &'static str {
        self.inserted().0
    }

    /// Returns the columns that the statement inserts, in the order of its values, with commas.
    pub(super) fn columns(self) -> &'static str {
        self.inserted().1
    }

    fn inserted(self) -> (&'static str, &'static str) {
        let rest = self.text().strip_prefix("INSERT INTO ").unwrap_or_default();
        let (table, rest) = rest.split_once(" (").unwrap_or_default();
        (table, rest.split_once(')').unwrap_or_default().0)
    }
}

/// Returns the bucket of a timeline that a seq is in.
pub(super) fn bucket(seq: u64) -> u64 {
    seq / TIMELINE_BUCKET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_is_found_under_its_own_number_and_has_its_own_name() {
        assert!(Read::ALL.into_iter().enumerate().all(|(number, read)| read as usize == number));
        assert!(Write::ALL.into_iter().enumerate().all(|(number, write)| write as usize == number));
        let names = Read::ALL.map(Read::name).into_iter().chain(Write::ALL.map(Write::name));
        let unique: std::collections::HashSet<_> = names.collect();
        assert_eq!(unique.len(), Read::ALL.len() + Write::ALL.len());
        assert_eq!((Write::Start.table(), Write::Start.columns()), ("starts", "room, epoch, next_seq, continues"));
        assert_eq!(Write::RemoveStarts.table(), "");
    }
}
