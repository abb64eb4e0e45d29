//! Where push notifications of a device go.

use serde::{Deserialize, Serialize};

use crate::{Fields, Refusal, limits};

/// The address of a device at a push service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PushAddress {
    /// The name of the push service, such as `fcm` or `apns`.
    pub kind: String,
    /// The address there, such as a registration token. Only the push service knows its form.
    pub address: String,
}

impl PushAddress {
    /// Reads an address from the fields of a request.
    ///
    /// # Errors
    /// Returns `bad_field` or `too_large`, with the field and its rule.
    pub fn read(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let (kind, address): (String, String) = (fields.required("kind")?, fields.required("address")?);
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if kind.is_empty() || kind.len() > limits::PUSH_KIND_BYTES || !kind.chars().all(is_name) {
            let most = limits::PUSH_KIND_BYTES;
            return Err(Refusal::field("kind", format!("must be 1 to {most} of the characters a-z, 0-9, _ and -")));
        }
        if address.is_empty() {
            return Err(Refusal::field("address", "must not be empty"));
        }
        if address.len() > limits::PUSH_ADDRESS_BYTES {
            return Err(Refusal::too_large("address", format!("{} bytes", limits::PUSH_ADDRESS_BYTES)));
        }
        Ok(Self { kind, address })
    }
}
