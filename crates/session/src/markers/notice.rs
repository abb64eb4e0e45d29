//! What nodes tell each other about one user's devices, on the user's subject. It may be lost.

use bytes::Bytes;
use sendpi_model::server_frame::MarkerFrame;
use sendpi_model::{DeviceId, Millis, NodeId, encode_json};
use serde::{Deserialize, Serialize};
use slotmap::{Key, KeyData};

use crate::keys::SessionKey;

/// The version of this format.
pub(crate) const VERSION: u8 = 1;

/// One notice; a node ignores what it does not know.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Notice {
    pub(crate) v: u8,
    /// The session that it came from.
    pub(crate) session: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) marker: Option<MarkerFrame>,
    /// This device signed in again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replaced: Option<DeviceId>,
    pub(crate) at: Millis,
}

impl Notice {
    pub(crate) fn encode(&self) -> Bytes {
        encode_json(self).into()
    }
}

/// A session's name, which no other session ever has.
pub(crate) fn session_id(node: &NodeId, key: SessionKey) -> String {
    format!("{node}-{:x}", key.data().as_ffi())
}

/// The session of this node that has this name. `None` if it is one of another node.
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
