//! The items of a link message.

use bytes::{Buf, BufMut, Bytes};

use super::LinkError;
use crate::{Partition, RoomId, UserId};

/// The reason why a user entered or left a room's audience on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AudienceReason {
    /// The user attached or detached, or was online when the channel was activated. The client gets no notice.
    Presence = 0,
    /// The user became a member: `room_added`.
    Joined = 1,
    /// The user left: `room_removed`.
    Left = 2,
    /// The user was kicked: `room_removed`.
    Kicked = 3,
    /// The user was banned: `room_removed`.
    Banned = 4,
    /// The room was deleted: `room_removed`.
    Deleted = 5,
}

impl AudienceReason {
    fn from_number(number: u8) -> Self {
        use AudienceReason::{Banned, Deleted, Joined, Kicked, Left, Presence};
        [Joined, Left, Kicked, Banned, Deleted].into_iter().find(|reason| *reason as u8 == number).unwrap_or(Presence)
    }

    /// Returns the reason in `room_removed`. `None` if the client gets no such notice.
    #[must_use]
    pub fn removal(self) -> Option<&'static str> {
        match self {
            Self::Left => Some("left"),
            Self::Kicked => Some("kicked"),
            Self::Banned => Some("banned"),
            Self::Deleted => Some("deleted"),
            Self::Presence | Self::Joined => None,
        }
    }
}

/// `+user`: from here on, the user's sessions on this node get the room's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudienceAdded {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
    /// The reason.
    pub reason: AudienceReason,
    /// The seq of the last event that was dispatched before.
    pub seq: u64,
    /// [`crate::RoomInfo`] as JSON if the reason is [`AudienceReason::Joined`], otherwise empty.
    pub info: Bytes,
}

/// `−user`: from here on, the user's sessions on this node get no events of the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudienceRemoved {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
    /// The reason.
    pub reason: AudienceReason,
}

/// One item of a link message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkItem {
    /// An event for the room's audience on this node.
    Event {
        /// The room.
        room: RoomId,
        /// The seq of the first event that this one stands for. It is below `seq` if the event is dispatched by a new
        /// owner, for all that the one before may have left: whoever misses some of them reads them from the owner.
        first: u64,
        /// The seq of the event, or 0 if it is ephemeral.
        seq: u64,
        /// The client's frame.
        frame: Bytes,
    },
    /// `+user`.
    Added(AudienceAdded),
    /// `−user`.
    Removed(AudienceRemoved),
    /// The answer to a request of the node's flow to `partition`.
    Answer {
        /// The partition of the flow.
        partition: Partition,
        /// The number of the request in the flow.
        n: u64,
        /// The client's frame, without an id.
        frame: Bytes,
    },
}

const EVENT: u8 = 1;
const ADDED: u8 = 2;
const REMOVED: u8 = 3;
const ANSWER: u8 = 4;
/// An event that stands for those before it, too.
const RANGE: u8 = 5;

/// Appends `item` to a message.
pub fn encode_item(message: &mut Vec<u8>, item: &LinkItem) {
    let start = message.len();
    message.put_u32_le(0);
    match item {
        LinkItem::Event { room, first, seq, frame } => {
            message.put_u8(if first == seq { EVENT } else { RANGE });
            put_text(message, room.as_str());
            if first != seq {
                message.put_u64_le(*first);
            }
            message.put_u64_le(*seq);
            message.put_slice(frame);
        }
        LinkItem::Added(added) => {
            message.put_u8(ADDED);
            put_text(message, added.room.as_str());
            put_text(message, added.user.as_str());
            message.put_u8(added.reason as u8);
            message.put_u64_le(added.seq);
            message.put_slice(&added.info);
        }
        LinkItem::Removed(removed) => {
            message.put_u8(REMOVED);
            put_text(message, removed.room.as_str());
            put_text(message, removed.user.as_str());
            message.put_u8(removed.reason as u8);
        }
        LinkItem::Answer { partition, n, frame } => {
            message.put_u8(ANSWER);
            message.put_u16_le(partition.0);
            message.put_u64_le(*n);
            message.put_slice(frame);
        }
    }
    let length = (message.len() - start - 4) as u32;
    message[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Reads one item, without its length. `None` if its kind is unknown.
pub(super) fn decode(mut bytes: Bytes) -> Result<Option<LinkItem>, LinkError> {
    let short = |_| LinkError::Malformed;
    let item = match bytes.try_get_u8().map_err(short)? {
        EVENT => {
            let (room, seq) = (get_room(&mut bytes)?, bytes.try_get_u64_le().map_err(short)?);
            LinkItem::Event { room, first: seq, seq, frame: bytes }
        }
        RANGE => {
            let room = get_room(&mut bytes)?;
            let (first, seq) = (bytes.try_get_u64_le().map_err(short)?, bytes.try_get_u64_le().map_err(short)?);
            LinkItem::Event { room, first: first.min(seq), seq, frame: bytes }
        }
        ADDED => {
            let (room, user) = (get_room(&mut bytes)?, get_user(&mut bytes)?);
            let reason = AudienceReason::from_number(bytes.try_get_u8().map_err(short)?);
            let seq = bytes.try_get_u64_le().map_err(short)?;
            LinkItem::Added(AudienceAdded { room, user, reason, seq, info: bytes })
        }
        REMOVED => {
            let (room, user) = (get_room(&mut bytes)?, get_user(&mut bytes)?);
            let reason = AudienceReason::from_number(bytes.try_get_u8().map_err(short)?);
            LinkItem::Removed(AudienceRemoved { room, user, reason })
        }
        ANSWER => {
            let partition = Partition(bytes.try_get_u16_le().map_err(short)?);
            let n = bytes.try_get_u64_le().map_err(short)?;
            LinkItem::Answer { partition, n, frame: bytes }
        }
        _ => return Ok(None),
    };
    Ok(Some(item))
}

/// Appends an id. The rules of ids keep its length within a `u16`.
fn put_text(message: &mut Vec<u8>, text: &str) {
    message.put_u16_le(text.len() as u16);
    message.put_slice(text.as_bytes());
}

fn get_text(bytes: &mut Bytes) -> Result<Bytes, LinkError> {
    let length = usize::from(bytes.try_get_u16_le().map_err(|_| LinkError::Malformed)?);
    if length > bytes.len() {
        return Err(LinkError::Malformed);
    }
    Ok(bytes.split_to(length))
}

fn get_room(bytes: &mut Bytes) -> Result<RoomId, LinkError> {
    let text = get_text(bytes)?;
    std::str::from_utf8(&text).ok().and_then(|t| RoomId::parse(t).ok()).ok_or(LinkError::Malformed)
}

fn get_user(bytes: &mut Bytes) -> Result<UserId, LinkError> {
    let text = get_text(bytes)?;
    std::str::from_utf8(&text).ok().and_then(|t| UserId::parse(t).ok()).ok_or(LinkError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{LinkHeader, read_message};
    use super::*;

    fn items() -> impl Strategy<Value = Vec<LinkItem>> {
        let room = "[a-z|=.*]{1,12}".prop_map(|t| RoomId::parse(&t).unwrap());
        let user = "[a-z|.é]{1,12}".prop_map(|t| UserId::parse(&t).unwrap());
        let json = proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let reason = (0..6u8).prop_map(AudienceReason::from_number);
        let item = prop_oneof![
            (room.clone(), any::<u32>(), any::<u64>(), json.clone()).prop_map(|(room, more, seq, frame)| {
                LinkItem::Event { room, first: seq.saturating_sub(u64::from(more % 3)), seq, frame }
            }),
            (room.clone(), user.clone(), reason.clone(), any::<u64>(), json.clone()).prop_map(
                |(room, user, reason, seq, info)| LinkItem::Added(AudienceAdded { room, user, reason, seq, info })
            ),
            (room, user, reason).prop_map(|(room, user, reason)| LinkItem::Removed(AudienceRemoved {
                room,
                user,
                reason
            })),
            (any::<u16>(), any::<u64>(), json).prop_map(|(p, n, frame)| LinkItem::Answer {
                partition: Partition(p),
                n,
                frame
            }),
        ];
        proptest::collection::vec(item, 0..8)
    }

    proptest! {
        #[test]
        fn items_come_back_in_order(items in items(), incarnation: u64, number: u64) {
            let header = LinkHeader { incarnation, number, is_announcement: false };
            let mut message = header.encode();
            items.iter().for_each(|item| encode_item(&mut message, item));
            let (read, rest) = read_message(message.into()).unwrap();
            prop_assert_eq!(read, header);
            prop_assert_eq!(rest.collect::<Result<Vec<_>, _>>().unwrap(), items);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut message = LinkHeader { incarnation: 1, number: 1, is_announcement: false }.encode();
            message.extend(bytes);
            if let Ok((_, items)) = read_message(message.into()) {
                let _ = items.count();
            }
        }
    }

    #[test]
    fn an_item_of_an_unknown_kind_is_skipped() {
        let mut message = LinkHeader { incarnation: 1, number: 1, is_announcement: false }.encode();
        message.extend([2, 0, 0, 0, 99, 1]);
        let answer = LinkItem::Answer { partition: Partition(1), n: 2, frame: Bytes::from_static(b"{}") };
        encode_item(&mut message, &answer);
        let (_, items) = read_message(message.into()).unwrap();
        assert_eq!(items.collect::<Result<Vec<_>, _>>().unwrap(), [answer]);
    }
}
