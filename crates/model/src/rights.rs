//! Who may do what in a room, as the table of the protocol says. Pure.

use crate::{Code, Refusal, Role, RoomId, RoomKind};

/// What a user is to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No member.
    Stranger,
    /// A member with this role.
    Member(Role),
}

/// What a user wants to do in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// To become a member.
    Join,
    /// To read, to send, to choose what is pushed: what every member may do.
    TakePart,
    /// To leave.
    Leave,
    /// To mention all members.
    MentionAll,
    /// To make others members.
    Invite,
    /// To end the membership of a member with this role.
    Kick(Role),
    /// To change the name, or who may join.
    Change,
    /// To change a member's role.
    ChangeRole,
}

impl Action {
    /// Returns the least role that it takes, and what a lower one is told.
    fn least(self) -> (Role, &'static str) {
        match self {
            Self::Join | Self::TakePart | Self::Leave => (Role::Member, "only a member may do that in"),
            Self::MentionAll => (Role::Admin, "only an admin may mention everybody in"),
            Self::Invite => (Role::Admin, "only an admin may invite to"),
            Self::Kick(Role::Member) => (Role::Admin, "only an admin may kick a member of"),
            Self::Kick(_) => (Role::Owner, "only an owner may kick an admin of"),
            Self::Change => (Role::Admin, "only an admin may change"),
            Self::ChangeRole => (Role::Owner, "only an owner may change roles in"),
        }
    }

    /// Returns why it cannot be done in a room that is no group, whoever asks. `None` if it can.
    fn only_in_groups(self) -> Option<&'static str> {
        match self {
            Self::Leave => Some("it cannot be left: mute it"),
            Self::Invite => Some("nobody can be invited to it"),
            Self::Kick(_) => Some("nobody can be kicked from it"),
            Self::ChangeRole => Some("its roles cannot be changed"),
            Self::Join | Self::TakePart | Self::MentionAll | Self::Change => None,
        }
    }
}

/// Returns the refusal of a user who is no member. Strangers hear of a room only if it is open.
#[must_use]
pub fn not_a_member(room: &RoomId, is_open: bool) -> Refusal {
    if is_open {
        Refusal::new(Code::NotAMember, format!("you are not a member of {room}"))
    } else {
        Refusal::no_such_room()
    }
}

/// Checks whether a user may do something in a room. `is_open` says whether anybody may join it.
///
/// # Errors
/// `forbidden` with the rule for members. A stranger hears of a room only if it is open: `not_a_member`, and
/// `no_such_room` otherwise, as for a room that does not exist.
pub fn check(room: &RoomId, kind: RoomKind, is_open: bool, who: Standing, action: Action) -> Result<(), Refusal> {
    let forbidden = |why: String| Err(Refusal::new(Code::Forbidden, why));
    let role = match who {
        Standing::Member(role) => role,
        Standing::Stranger if is_open && action == Action::Join => return Ok(()),
        Standing::Stranger => return Err(not_a_member(room, is_open)),
    };
    let (least, rule) = action.least();
    if role < least {
        return forbidden(format!("{rule} {room}"));
    }
    match (kind, action) {
        (_, Action::Kick(Role::Owner)) => forbidden(format!("an owner of {room} cannot be kicked")),
        (RoomKind::Direct | RoomKind::Inbox, action) => match action.only_in_groups() {
            Some(why) => forbidden(format!("{room} is not a group: {why}")),
            None => Ok(()),
        },
        (RoomKind::Group, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIONS: [Action; 10] = [
        Action::Join,
        Action::TakePart,
        Action::Leave,
        Action::MentionAll,
        Action::Invite,
        Action::Kick(Role::Member),
        Action::Kick(Role::Admin),
        Action::Kick(Role::Owner),
        Action::Change,
        Action::ChangeRole,
    ];

    /// Returns a letter for each action: `+` for yes, `f` for `forbidden`, `s` for `no_such_room`, `n` for
    /// `not_a_member`.
    fn row(kind: RoomKind, is_open: bool, who: Standing) -> String {
        let room = RoomId::parse("r").unwrap();
        let letter = |action| match check(&room, kind, is_open, who, action).map_err(|refusal| refusal.code) {
            Ok(()) => '+',
            Err(Code::Forbidden) => 'f',
            Err(Code::NoSuchRoom) => 's',
            Err(Code::NotAMember) => 'n',
            Err(other) => panic!("{other:?}"),
        };
        ACTIONS.into_iter().map(letter).collect()
    }

    #[test]
    fn everybody_may_do_what_the_table_says() {
        use RoomKind::{Direct, Group};
        use Standing::{Member, Stranger};
        for (kind, is_open, who, wanted) in [
            (Group, false, Stranger, "ssssssssss"),
            (Group, true, Stranger, "+nnnnnnnnn"),
            (Group, false, Member(Role::Member), "+++fffffff"),
            (Group, false, Member(Role::Admin), "++++++ff+f"),
            (Group, false, Member(Role::Owner), "+++++++f++"),
            (Direct, false, Stranger, "ssssssssss"),
            (Direct, false, Member(Role::Member), "++ffffffff"),
            (Direct, false, Member(Role::Owner), "++f+ffff+f"),
        ] {
            assert_eq!(row(kind, is_open, who), wanted, "{kind:?} {is_open} {who:?}");
        }
    }

    #[test]
    fn a_closed_room_is_to_strangers_as_one_that_does_not_exist() {
        let room = RoomId::parse("r").unwrap();
        for action in ACTIONS {
            let refusal = check(&room, RoomKind::Group, false, Standing::Stranger, action).unwrap_err();
            assert_eq!(refusal, Refusal::no_such_room());
        }
    }
}
