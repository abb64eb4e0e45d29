//! What a notification shows, by what the store says at the time at which it is posted.

use sendpi_bus::push_log::PushOutcome;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Event, Millis, Notify, Preview, PushAddress, RoomId, RoomKind, UserId};
use sendpi_store::{ReadError, Store};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::collapse::EventRange;

/// How many of the newest events of a range are looked at.
const LOOKED_AT: u64 = 200;

/// A notification for one user.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Notification {
    /// Always `push`.
    pub(crate) r#type: &'static str,
    /// The user.
    pub(crate) user: UserId,
    /// Where the devices of the user get notifications. Empty if none has an address.
    pub(crate) devices: Vec<PushDevice>,
    /// The room.
    pub(crate) room: RoomOfPush,
    /// The seq of the first message that is pushed.
    pub(crate) first: u64,
    /// The seq of the last one.
    pub(crate) last: u64,
    /// How many there are.
    pub(crate) count: u64,
    /// The newest of them.
    pub(crate) message: Preview,
}

/// A device with its push address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PushDevice {
    device: sendpi_model::DeviceId,
    #[serde(flatten)]
    address: PushAddress,
}

/// The room of a notification.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RoomOfPush {
    room: RoomId,
    name: String,
    kind: RoomKind,
}

impl Notification {
    /// Returns the name of the notification. The same messages for the same user have the same name, so that a receiver
    /// recognizes one that is posted again.
    pub(crate) fn id(&self) -> String {
        let mut hash = Sha256::new();
        for text in [self.room.room.as_str(), self.user.as_str()] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        hash.update(self.first.to_le_bytes());
        hash.update(self.last.to_le_bytes());
        let digits: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("push_{digits}")
    }
}

/// Returns the devices of a user.
pub(crate) async fn devices_of(store: &dyn Store, user: &UserId) -> Result<Vec<PushDevice>, ReadError> {
    let rows = store.devices(user).await?.into_iter();
    Ok(rows.filter_map(|row| Some(PushDevice { device: row.device, address: row.address? })).collect())
}

/// Returns the notification for what is due, or why there is none any more.
pub(crate) async fn prepare(
    store: &dyn Store,
    (room, user): (&RoomId, &UserId),
    due: EventRange,
    now: Millis,
) -> Result<Result<Notification, PushOutcome>, ReadError> {
    let (Some(row), Some(member)) = (store.room(room).await?, store.member(room, user).await?) else {
        return Ok(Err(PushOutcome::NotAMember));
    };
    if member.notify == Notify::None || member.muted_until.is_some_and(|until| now < until) {
        return Ok(Err(PushOutcome::Muted));
    }
    let marker = store.read_markers(user, std::slice::from_ref(room)).await?.pop().flatten();
    let unread_from = marker.map_or(0, |marker| marker.seq) + 1;
    if unread_from > due.last && !mutant(Mutant::ReadPushed) {
        return Ok(Err(PushOutcome::Read));
    }
    let first = if mutant(Mutant::ReadPushed) { due.first } else { due.first.max(unread_from) };
    let looked_from = first.max((due.last + 1).saturating_sub(LOOKED_AT));
    let rows = store.timeline(room, looked_from..=due.last, 2 * LOOKED_AT as usize, true).await?;
    let chain = store.chain(room).await?;
    let events = chain.filter(rows).into_iter().map(|row| row.event);
    let wanted: Vec<Event> = events.filter(|event| is_wanted(event, user, member.notify)).collect();
    let Some(newest) = wanted.last() else { return Ok(Err(PushOutcome::Deleted)) };
    // Beyond what was looked at, the channel's count is all that is known.
    let count = if looked_from == first { wanted.len() as u64 } else { due.count };
    Ok(Ok(Notification {
        r#type: "push",
        user: user.clone(),
        devices: devices_of(store, user).await?,
        room: RoomOfPush { room: room.clone(), name: row.name, kind: row.kind },
        first,
        last: due.last,
        count,
        message: newest.preview(),
    }))
}

fn is_wanted(event: &Event, user: &UserId, notify: Notify) -> bool {
    let is_mentioned = || event.mentions().is_some_and(|mentions| mentions.include(user));
    event.kind.is_counted()
        && !event.is_message_of(user)
        && !event.is_deleted()
        && (notify == Notify::All || is_mentioned())
}
