//! One JSON object, split into its fields without parsing their values.
//!
//! Client frames and flow requests are read through this, so that a bad value is refused with the name of its
//! field, and a message's body passes through byte for byte.

use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::{Code, Refusal};

/// The fields of one JSON object, in order, each with its value as it was received.
#[derive(Debug, Clone)]
pub struct Fields<'a>(Vec<(std::borrow::Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Splits one JSON object into its fields.
    ///
    /// # Errors
    /// Returns `bad_frame` if `text` is not one JSON object.
    pub fn parse(text: &'a [u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(text)
            .map_err(|e| Refusal::new(Code::BadFrame, format!("the frame must be one JSON object: {e}")))
    }

    /// Returns the value of field `name` as it was received. `None` if the field is missing or `null`.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        let (_, value) = self.0.iter().find(|(n, _)| n == name)?;
        (value.get() != "null").then_some(*value)
    }

    /// Returns whether there is a field `name`, also if it is `null`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// Returns the value of field `name`. `None` if the field is missing or `null`.
    ///
    /// # Errors
    /// Returns `bad_field` with the name and the rule if the value is of another type.
    pub fn optional<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Refusal> {
        self.raw(name)
            .map(|raw| serde_json::from_str(raw.get()).map_err(|e| Refusal::field(name, rule(&e))))
            .transpose()
    }

    /// Returns the value of field `name`.
    ///
    /// # Errors
    /// Returns `bad_field` with the name and the rule if the field is missing or of another type.
    pub fn required<T: DeserializeOwned>(&self, name: &str) -> Result<T, Refusal> {
        self.optional(name)?.ok_or_else(|| Refusal::field(name, "is required"))
    }
}

/// Returns what serde found wrong, without the position, because the refusal already names the field.
fn rule(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    if text.starts_with("must ") { text.to_owned() } else { format!("is not valid: {text}") }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some(Name(name)) = map.next_key()? {
                    fields.push((name, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// A name, or a short text, borrowed if it has no escapes: a plain `Cow` would always be copied.
#[derive(Deserialize)]
pub(crate) struct Name<'a>(#[serde(borrow)] pub(crate) std::borrow::Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RoomId;

    #[test]
    fn a_bad_value_is_refused_with_its_field_and_rule() {
        let fields = Fields::parse(br#"{"seq":"x","room":"a b","n\u0061me":3}"#).unwrap();
        let refusal = fields.required::<u64>("seq").unwrap_err();
        assert_eq!((refusal.code, refusal.field.as_deref()), (Code::BadField, Some("seq")));
        let refusal = fields.required::<RoomId>("room").unwrap_err();
        assert_eq!(refusal.message, "room must not contain spaces, control or invisible format characters");
        assert_eq!(fields.required::<u64>("name").unwrap(), 3);
        assert_eq!(fields.required::<u64>("gone").unwrap_err().message, "gone is required");
    }

    #[test]
    fn what_is_no_object_is_a_bad_frame() {
        for text in ["[]", "1", "{", "{}x", ""] {
            assert_eq!(Fields::parse(text.as_bytes()).unwrap_err().code, Code::BadFrame, "{text}");
        }
    }
}
