//! Reading a system event: which room it is for, and what is to be sent there.

use sendpi_bus::ingest_stream::IngestMessage;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::flow::FlowRequest;
use sendpi_model::{ClientOp, Fields, JsonObject, Nonce, Refusal, RoomId, UserId, Verb, subject_token};

/// Who sends a system event that names nobody.
const SENDER: &str = "system";

/// Returns the request that a system event is.
///
/// # Errors
/// Returns the refusal that says which rule it breaks.
pub(super) fn request_of(message: &IngestMessage) -> Result<FlowRequest, Refusal> {
    let room = room_of(&message.target)?;
    let payload = message.payload();
    let fields = Fields::parse(payload)?;
    let from: Option<String> = fields.optional("from")?;
    let user = UserId::parse_chosen(from.as_deref().unwrap_or(SENDER)).map_err(|rule| Refusal::field("from", rule))?;
    // Read as a message of a client, so that the same rules hold.
    let object = JsonObject::with_capacity(payload.len() + 64).field("room", &room);
    let object = object.fields_of(payload.trim_ascii()).finish();
    let nonce = nonce_of(message.id.as_deref().filter(|_| !mutant(Mutant::IngestIdsOff)), message.seq);
    let op = ClientOp::read("send", &Fields::parse(&object)?, Some(&user), || nonce.clone())?;
    let ClientOp::Room(_, Verb::Send { body, mentions, .. }) = op else {
        return Err(Refusal::field("body", "is required"));
    };
    let verb = Verb::Send { body, nonce: Some(nonce), retry: None, mentions };
    // A nonce that the tail does not know is looked for back to the time at which the event was published.
    Ok(FlowRequest { n: 0, room, user, is_service: true, first: Some(message.published), verb })
}

/// Returns the room that a subject names: `room.<encoded id>`, or `user.<encoded id>` for the inbox of a user.
fn room_of(target: &str) -> Result<RoomId, Refusal> {
    let unknown = || Refusal::field("subject", "must end in room.<room> or user.<user>");
    let (kind, token) = target.split_once('.').ok_or_else(unknown)?;
    let escaped = "must hold the id with every byte outside A-Z, a-z, 0-9, _ and - as =XX";
    let id = subject_token::decode(token).ok_or_else(|| Refusal::field("subject", escaped))?;
    let named = |rule| Refusal::field("subject", rule);
    match kind {
        "room" => RoomId::parse(&id).map_err(named),
        "user" => Ok(RoomId::inbox(&UserId::parse_chosen(&id).map_err(named)?)),
        _ => Err(unknown()),
    }
}

/// Returns the nonce of a system event: its `Nats-Msg-Id`, or what stands for a long one, or its number in the stream.
fn nonce_of(id: Option<&str>, seq: u64) -> Nonce {
    id.map_or_else(|| Nonce::standing_for(&format!("=seq:{seq}")), Nonce::standing_for)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_names_a_room_or_the_inbox_of_a_user() {
        let room = |target: &str| room_of(target).map(|room| room.to_string()).map_err(|refusal| refusal.message);
        assert_eq!(room("room.lobby"), Ok("lobby".into()));
        assert_eq!(room("user.auth0=7C5f"), Ok("=u:auth0|5f".into()));
        assert_eq!(room("room.=3Du=3Aann"), Ok("=u:ann".into()));
        for target in ["lobby.x", "room", "room.=6", "room.=61", "user.a=20b", "user.=3Dx", "room.=FF"] {
            assert!(room(target).unwrap_err().starts_with("subject must"), "{target}");
        }
    }

    #[test]
    fn a_nonce_is_the_publishers_name_or_stands_for_it() {
        assert_eq!(nonce_of(Some("invoice-17"), 3).as_str(), "invoice-17");
        assert_eq!(nonce_of(None, 3).as_str(), "=seq:3");
        let (one, other) = (nonce_of(Some(&"x".repeat(65)), 3), nonce_of(Some(&"x".repeat(66)), 3));
        assert!(one != other && one == nonce_of(Some(&"x".repeat(65)), 4));
    }
}
