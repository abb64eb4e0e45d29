//! Who may do what in a room, as the table of the protocol says. Pure.

use crate::{Code, Refusal, Role, RoomId, RoomKind};

/// What a user is to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No member.
    Stranger,
    /// No member, and never to become one.
    Banned,
    /// A member with this role.
    Member(Role),
    /// A service that acts as itself. It has the rights of an admin everywhere, and is no member.
    Service,
}

/// What a user wants to do in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// To become a member.
    Join,
    /// To read and to send: what every member may do.
    TakePart,
    /// To keep a read marker, and to choose what is pushed: what only members have of their own.
    KeepPlace,
    /// To leave.
    Leave,
    /// To mention all members.
    MentionAll,
    /// To delete the messages of others.
    DeleteOthers,
    /// To make others members.
    Invite,
    /// To end the membership of a member with this role.
    Kick(Role),
    /// To ban a member with this role, or as if with the role of a member somebody who is none.
    Ban(Role),
    /// To end a ban.
    Unban,
    /// To change the name, or who may join.
    Change,
    /// To change a member's role.
    ChangeRole,
    /// To delete the room.
    DeleteRoom,
}

impl Action {
    /// Returns the least role that it takes, and what a lower one is told.
    fn least(self) -> (Role, &'static str) {
        match self {
            Self::Join | Self::TakePart | Self::KeepPlace | Self::Leave => {
                (Role::Member, "only a member may do that in")
            }
            Self::MentionAll => (Role::Admin, "only an admin may mention everybody in"),
            Self::DeleteOthers => (Role::Admin, "only an admin may delete the messages of others in"),
            Self::Invite => (Role::Admin, "only an admin may invite to"),
            Self::Kick(Role::Member) => (Role::Admin, "only an admin may kick a member of"),
            Self::Kick(_) => (Role::Owner, "only an owner may kick an admin of"),
            Self::Ban(Role::Member) => (Role::Admin, "only an admin may ban somebody from"),
            Self::Ban(_) => (Role::Owner, "only an owner may ban an admin of"),
            Self::Unban => (Role::Admin, "only an admin may end a ban from"),
            Self::Change => (Role::Admin, "only an admin may change"),
            Self::ChangeRole => (Role::Owner, "only an owner may change roles in"),
            Self::DeleteRoom => (Role::Owner, "only an owner may delete"),
        }
    }

    /// Returns why it cannot be done in a room that is no group, whoever asks. `None` if it can.
    fn only_in_groups(self) -> Option<&'static str> {
        match self {
            Self::Leave => Some("it cannot be left: mute it"),
            Self::Invite => Some("nobody can be invited to it"),
            Self::Kick(_) => Some("nobody can be kicked from it"),
            Self::Ban(_) | Self::Unban => Some("nobody can be banned from it"),
            Self::ChangeRole => Some("its roles cannot be changed"),
            Self::DeleteRoom => Some("it cannot be deleted"),
            Self::Join | Self::TakePart | Self::KeepPlace | Self::MentionAll | Self::DeleteOthers | Self::Change => {
                None
            }
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

/// Checks whether a user may do something in a room that exists. `is_open` says whether anybody may join it.
///
/// # Errors
/// `forbidden` with the rule for members. A stranger hears of a room only if it is open: `not_a_member`, and
/// `no_such_room` otherwise, as for a room that does not exist. So does a user who is banned.
pub fn check(room: &RoomId, kind: RoomKind, is_open: bool, who: Standing, action: Action) -> Result<(), Refusal> {
    let forbidden = |why: String| Err(Refusal::new(Code::Forbidden, why));
    let role = match (who, action) {
        (Standing::Member(role), _) => role,
        (Standing::Stranger | Standing::Service, Action::Join) if is_open => return Ok(()),
        (Standing::Banned, Action::Join) if is_open => return forbidden(format!("you are banned from {room}")),
        (Standing::Service, Action::Join) => return forbidden(format!("{room} is not open")),
        (Standing::Service, Action::KeepPlace | Action::Leave) => return Err(not_a_member(room, true)),
        (Standing::Service, _) => Role::Admin,
        (Standing::Stranger | Standing::Banned, _) => return Err(not_a_member(room, is_open)),
    };
    let (least, rule) = action.least();
    if role < least {
        return forbidden(format!("{rule} {room}"));
    }
    match (kind, action) {
        (_, Action::Kick(Role::Owner)) => forbidden(format!("an owner of {room} cannot be kicked")),
        (_, Action::Ban(Role::Owner)) => forbidden(format!("an owner of {room} cannot be banned")),
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

    const ACTIONS: [Action; 17] = [
        Action::Join,
        Action::TakePart,
        Action::KeepPlace,
        Action::Leave,
        Action::MentionAll,
        Action::DeleteOthers,
        Action::Invite,
        Action::Unban,
        Action::Change,
        Action::ChangeRole,
        Action::DeleteRoom,
        Action::Kick(Role::Member),
        Action::Kick(Role::Admin),
        Action::Kick(Role::Owner),
        Action::Ban(Role::Member),
        Action::Ban(Role::Admin),
        Action::Ban(Role::Owner),
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
        use Standing::{Banned, Member, Service, Stranger};
        for (kind, is_open, who, wanted) in [
            (Group, false, Stranger, "sssssssssss ssssss"),
            (Group, true, Stranger, "+nnnnnnnnnn nnnnnn"),
            (Group, false, Banned, "sssssssssss ssssss"),
            (Group, true, Banned, "fnnnnnnnnnn nnnnnn"),
            (Group, false, Member(Role::Member), "++++fffffff ffffff"),
            (Group, false, Member(Role::Admin), "+++++++++ff +ff+ff"),
            (Group, false, Member(Role::Owner), "+++++++++++ ++f++f"),
            (Group, false, Service, "f+nn+++++ff +ff+ff"),
            (Group, true, Service, "++nn+++++ff +ff+ff"),
            (Direct, false, Stranger, "sssssssssss ssssss"),
            (Direct, false, Member(Role::Member), "+++ffffffff ffffff"),
            (Direct, false, Member(Role::Owner), "+++f++ff+ff ffffff"),
            (Direct, false, Service, "f+nn++ff+ff ffffff"),
        ] {
            assert_eq!(row(kind, is_open, who), wanted.replace(' ', ""), "{kind:?} {is_open} {who:?}");
        }
    }

    #[test]
    fn a_closed_room_is_to_strangers_as_one_that_does_not_exist() {
        let room = RoomId::parse("r").unwrap();
        for (who, action) in ACTIONS.into_iter().flat_map(|a| [(Standing::Stranger, a), (Standing::Banned, a)]) {
            let refusal = check(&room, RoomKind::Group, false, who, action).unwrap_err();
            assert_eq!(refusal, Refusal::no_such_room());
        }
    }
}
