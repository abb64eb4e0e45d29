//! Notices: what nodes tell each other about one user's devices, on the user's subject. A notice may be lost.

use bytes::Bytes;
use sendpi_model::server_frame::MarkerFrame;
use sendpi_model::{Millis, NodeId, encode_json};
use serde::{Deserialize, Serialize};
use slotmap::{Key, KeyData};

use crate::keys::SessionKey;

/// The version of this format.
pub(crate) const VERSION: u8 = 1;

/// A notice. A node ignores fields that it does not know.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Notice {
    pub(crate) v: u8,
    /// The name of the session that the notice comes from. A node recognizes its own notices by it.
    pub(crate) session: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) marker: Option<MarkerFrame>,
    pub(crate) at: Millis,
}

impl Notice {
    pub(crate) fn encode(&self) -> Bytes {
        encode_json(self).into()
    }
}

/// Returns the name of a session, which no other session ever has.
pub(crate) fn session_id(node: &NodeId, key: SessionKey) -> String {
    format!("{node}-{:x}", key.data().as_ffi())
}

/// Returns the key of the session with this name. `None` if the name is one of another node.
pub(crate) fn session_key(node: &NodeId, id: &str) -> Option<SessionKey> {
    let number = id.strip_prefix(node.as_str())?.strip_prefix('-')?;
    Some(KeyData::from_ffi(u64::from_str_radix(number, 16).ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_by_its_name_on_its_own_node_only() {
        let (node, other) = (NodeId::parse("n-1").unwrap(), NodeId::parse("n").unwrap());
        let key = SessionKey::from(KeyData::from_ffi((2 << 32) | 0x1f));
        assert_eq!(session_key(&node, &session_id(&node, key)), Some(key));
        assert_eq!(session_key(&other, &session_id(&node, key)), None);
    }
}
