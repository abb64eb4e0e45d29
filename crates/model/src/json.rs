//! JSON encoding. [`JsonObject`] joins the bytes of parts that are already encoded instead of encoding them again.
//! Nothing else in the project does that.

use serde::Serialize;

/// Encodes a value as JSON.
///
/// # Panics
/// Never panics for the types of this project. Encoding into memory fails only for a map whose keys are not
/// strings, or for a `Serialize` that returns an error, and no type here has either.
#[must_use]
pub fn encode_json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    append_json(&mut bytes, value);
    bytes
}

fn append_json(bytes: &mut Vec<u8>, value: &impl Serialize) {
    if let Err(error) = serde_json::to_writer(bytes, value) {
        unreachable!("a type of this project cannot be encoded as JSON: {error}");
    }
}

/// A JSON object under construction. The caller ensures that each name is used once.
#[derive(Debug)]
pub struct JsonObject {
    bytes: Vec<u8>,
    is_empty: bool,
}

impl JsonObject {
    /// Creates an object without fields. `capacity` is its expected size in bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self::begin(Vec::with_capacity(capacity.max(2)))
    }

    fn begin(mut bytes: Vec<u8>) -> Self {
        bytes.push(b'{');
        Self { bytes, is_empty: true }
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: &impl Serialize) -> Self {
        self.name(name);
        append_json(&mut self.bytes, value);
        self
    }

    /// Adds a field whose value is already JSON.
    #[must_use]
    pub fn encoded_field(mut self, name: &'static str, json: &[u8]) -> Self {
        self.name(name);
        self.bytes.extend_from_slice(json);
        self
    }

    /// Adds a list of values that are already JSON.
    #[must_use]
    pub fn encoded_list(mut self, name: &'static str, values: impl IntoIterator<Item: AsRef<[u8]>>) -> Self {
        self.name(name);
        self.bytes.push(b'[');
        for (i, value) in values.into_iter().enumerate() {
            if i > 0 {
                self.bytes.push(b',');
            }
            self.bytes.extend_from_slice(value.as_ref());
        }
        self.bytes.push(b']');
        self
    }

    /// Adds a list of objects. `build` writes each of them in place.
    #[must_use]
    pub fn object_list<T>(
        mut self,
        name: &'static str,
        items: impl IntoIterator<Item = T>,
        build: impl Fn(Self, T) -> Self,
    ) -> Self {
        self.name(name);
        self.bytes.push(b'[');
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                self.bytes.push(b',');
            }
            self.bytes = build(Self::begin(self.bytes), item).finish();
        }
        self.bytes.push(b']');
        self
    }

    /// Adds all fields of an object that is already JSON. There must be no spaces around its braces.
    #[must_use]
    pub fn fields_of(mut self, object: &[u8]) -> Self {
        let fields = object.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).unwrap_or_default();
        if !fields.is_empty() {
            self.separate();
            self.bytes.extend_from_slice(fields);
        }
        self
    }

    /// Returns the object's JSON.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(b'}');
        self.bytes
    }

    fn name(&mut self, name: &'static str) {
        self.separate();
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b"\":");
    }

    fn separate(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.bytes.push(b',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_encoded_already_are_joined_as_they_are() {
        let object = JsonObject::with_capacity(0)
            .field("a", &"x\"y")
            .encoded_field("b", b"{ \"n\": 1 }")
            .encoded_list("c", [b"1", b"2"])
            .fields_of(br#"{"d":true}"#)
            .fields_of(b"{}")
            .object_list("e", [3, 4], |object, n| object.field("n", &n));
        let text = r#"{"a":"x\"y","b":{ "n": 1 },"c":[1,2],"d":true,"e":[{"n":3},{"n":4}]}"#;
        assert_eq!(String::from_utf8(object.finish()).unwrap(), text);
    }

    #[test]
    fn an_object_may_be_empty_and_may_begin_with_the_fields_of_another() {
        assert_eq!(JsonObject::with_capacity(0).finish(), b"{}");
        assert_eq!(JsonObject::with_capacity(0).fields_of(br#"{"a":1}"#).field("b", &2).finish(), br#"{"a":1,"b":2}"#);
        assert_eq!(JsonObject::with_capacity(0).encoded_list("a", [""; 0]).finish(), br#"{"a":[]}"#);
    }
}
