//! Opening a room from its rows in the store.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use sendpi_model::{
    Event, EventKind, Head, LeftReason, Mark, Millis, Notify, Role, RoleChange, RoomChange, RoomId, RoomKind, UserId,
};
use sendpi_store::{EpochChain, MemberRow, RoomRow, SettledRow, Stamp};

use super::{Audience, Offline, Room, RoomMember, Tail};

/// The rows of a room that is being opened.
#[derive(Debug, Default)]
pub(crate) struct StoredRoom {
    pub(crate) row: Option<RoomRow>,
    pub(crate) members: Vec<MemberRow>,
    /// The starts that count, including the one of this epoch.
    pub(crate) chain: EpochChain,
    /// The newest rows that count, with their epochs, oldest first and without a gap above the head row.
    pub(crate) tail: Vec<(u64, Event)>,
    /// Messages before the tail whose rows were revised anew, because a crash may have taken that.
    pub(crate) revised: Vec<Event>,
}

/// Returns whether what an epoch wrote at a time is settled, by the newest record of its partition.
pub(crate) fn is_settled(newest: Option<&SettledRow>, epoch: u64, at: Millis) -> bool {
    newest.is_some_and(|settled| epoch < settled.epoch || (epoch == settled.epoch && at <= settled.at))
}

impl Room {
    /// Opens the room from its rows, inactive.
    pub(crate) fn open(id: RoomId, epoch: u64, opened: StoredRoom) -> Self {
        let StoredRoom { row, members, chain, tail: rows, revised } = opened;
        let banned = members.iter().filter(|row| row.banned).map(|row| row.user.clone()).collect();
        let members: BTreeMap<UserId, RoomMember> = members.into_iter().filter_map(member_of).collect();
        let head = row.as_ref().map(|row| row.head).unwrap_or_default();
        let last = row.as_ref().and_then(|row| row.last.clone()).map(Into::into);
        let mut room = Self {
            id,
            epoch,
            row,
            members,
            head,
            dispatched: 0,
            tail: Tail::default(),
            last,
            audience: Audience::default(),
            offline: Offline::default(),
            chain: Arc::new(chain),
            healed: Vec::new(),
            active: false,
            rows_at: None,
            counted: HashMap::new(),
            banned,
            targets: HashMap::new(),
            forgotten: VecDeque::new(),
            retention_default: 0,
        };
        revised.into_iter().for_each(|event| room.note_revised(event));
        // Those whom the tail concerns, as their rows say: members, and whether they are banned.
        let mut stored: BTreeMap<UserId, (Option<RoomMember>, bool)> = BTreeMap::new();
        for (_, event) in rows {
            room.apply_again(&event, &mut stored);
            // The head is the greater one of the head row and the tail.
            if event.head.seq > room.head.seq {
                room.head = event.head;
            }
            room.note_last(&event);
            room.tail.push(event);
        }
        // What a member said is in no row.
        let silent = |member: &RoomMember| RoomMember { spoke: Mark::default(), ..member.clone() };
        room.healed = stored
            .into_iter()
            .filter(|(user, (row, was_banned))| {
                room.members.get(user).map(silent) != row.as_ref().map(silent)
                    || room.banned.contains(user) != *was_banned
            })
            .map(|(user, _)| user)
            .collect();
        room.dispatched = room.head.seq;
        room.tail.trim(room.dispatched);
        room
    }

    /// Applies a membership event of the tail again to a row that is older. A crash may have come between the event
    /// and its row.
    fn apply_again(&mut self, event: &Event, stored: &mut BTreeMap<UserId, (Option<RoomMember>, bool)>) {
        let seq = event.head.seq;
        let mut note = |room: &Self, user: &UserId| {
            if !stored.contains_key(user) {
                stored.insert(user.clone(), (room.members.get(user).cloned(), room.banned.contains(user)));
            }
        };
        match event.kind {
            EventKind::Joined => {
                if let Some(row) = self.row.as_mut().filter(|row| row.stamp < Stamp::of(seq)) {
                    row.deleted = false;
                }
                for user in event.users() {
                    note(self, &user);
                    let creator = match &self.row {
                        // Whoever brings a direct room back that had no members owns it.
                        Some(row) if row.kind == RoomKind::Direct => event.from == user && !self.has_owner(),
                        Some(row) => row.creator == user && seq == 1,
                        None => false,
                    };
                    let role = if creator { Role::Owner } else { Role::Member };
                    let member = new_member(role, event.head, self.notify_default());
                    let known = self.members.entry(user).or_insert_with(|| member.clone());
                    if known.stamp < Stamp::of(seq) {
                        *known = member;
                    }
                }
            }
            EventKind::Left => {
                let reason = event.reason();
                let is_end = reason == Some(LeftReason::Deleted);
                let users = if is_end { self.members.keys().cloned().collect() } else { event.users() };
                for user in users {
                    note(self, &user);
                    if self.members.get(&user).is_some_and(|member| member.stamp.seq() <= seq) {
                        self.members.remove(&user);
                    }
                    if reason == Some(LeftReason::Banned) {
                        self.banned.insert(user);
                    }
                }
                if let Some(row) = self.row.as_mut().filter(|_| self.members.is_empty()) {
                    row.deleted = true;
                }
            }
            EventKind::Changed => {
                let RoomChange { name, access, retention_days, role, unbanned } = event.change();
                if let Some(row) = self.row.as_mut().filter(|row| row.stamp < Stamp::of(seq)) {
                    row.name = name.unwrap_or_else(|| std::mem::take(&mut row.name));
                    row.access = access.unwrap_or(row.access);
                    row.retention_days = retention_days.or(row.retention_days);
                }
                if let Some(user) = unbanned {
                    note(self, &user);
                    self.banned.remove(&user);
                }
                let Some(RoleChange { user, role }) = role else { return };
                note(self, &user);
                if let Some(member) = self.members.get_mut(&user).filter(|member| member.stamp < Stamp::of(seq)) {
                    member.role = role;
                    member.stamp = Stamp::of(seq);
                }
            }
            _ => {}
        }
    }

    /// Returns `all`, or `mentions` in a room of more than 200 members.
    pub(crate) fn notify_default(&self) -> Notify {
        // With the one who joins.
        if self.members.len() + 1 > 200 { Notify::Mentions } else { Notify::All }
    }
}

/// Returns a member who joined with the event of this head.
pub(crate) fn new_member(role: Role, head: Head, notify: Notify) -> RoomMember {
    let joined = Mark { seq: head.seq, count: head.count };
    let stamp = Stamp::of(head.seq);
    RoomMember { role, joined, joined_at: head.at, spoke: Mark::default(), notify, muted_until: None, stamp }
}

fn member_of(row: MemberRow) -> Option<(UserId, RoomMember)> {
    let member = RoomMember {
        role: row.role?,
        joined: row.joined,
        joined_at: row.joined_at,
        spoke: Mark::default(),
        notify: row.notify,
        muted_until: row.muted_until,
        stamp: row.stamp,
    };
    Some((row.user, member))
}

/// Returns the lowest seq of the tail that is to be read beside the head row.
pub(crate) fn tail_from(head_row: u64) -> u64 {
    (head_row + 1).saturating_sub(super::tail::TAIL_MIN as u64).max(1)
}

/// Cuts the rows at the first gap above the head row, because what follows it was never answered. Below the head row
/// it only drops what is before the last gap, because older rows may have expired.
pub(crate) fn cut_at_hole(rows: Vec<(u64, Event)>, head_row: u64) -> Vec<(u64, Event)> {
    let mut due = None;
    let mut kept: Vec<(u64, Event)> = Vec::with_capacity(rows.len());
    for (epoch, event) in rows {
        let seq = event.head.seq;
        match due {
            // Below the head row, a gap only means that older rows have expired. The tail begins after it.
            Some(due) if seq != due && seq <= head_row + 1 => kept.clear(),
            Some(due) if seq != due => break,
            None if seq > head_row + 1 => break,
            _ => {}
        }
        due = Some(seq + 1);
        kept.push((epoch, event));
    }
    kept
}
