//! Ids as tokens of NATS subjects and as keys of KV buckets. Every byte outside `[A-Za-z0-9_-]` is written as `=XX`.
//!
//! The encoding is injective, and no id can inject a wildcard or a further token.

use std::fmt::Write;

/// Encodes `id` as one token.
#[must_use]
pub fn encode(id: &str) -> String {
    let mut token = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            token.push(char::from(byte));
        } else {
            // Writing into a `String` cannot fail.
            let _ = write!(token, "={byte:02X}");
        }
    }
    token
}

/// Decodes a token that [`encode`] wrote. `None` if `encode` cannot have written it.
#[must_use]
pub fn decode(token: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'=' => {
                let (high, low) = (hex(rest.next()?)?, hex(rest.next()?)?);
                bytes.push(high << 4 | low);
            }
            b if b.is_ascii_alphanumeric() || b == b'_' || b == b'-' => bytes.push(b),
            _ => return None,
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    (encode(&text) == token).then_some(text)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards_and_dots_are_written_out() {
        assert_eq!(encode("auth0|5f7c"), "auth0=7C5f7c");
        assert_eq!(encode("a.*.>"), "a=2E=2A=2E=3E");
    }

    proptest! {
        #[test]
        fn every_id_comes_back(id in "\\PC{1,40}") {
            let token = encode(&id);
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-=".contains(&b)));
            prop_assert_eq!(decode(&token), Some(id));
        }

        #[test]
        fn no_two_tokens_mean_the_same(token in "[A-F0-9=_-]{0,12}") {
            if let Some(id) = decode(&token) {
                prop_assert_eq!(encode(&id), token);
            }
        }
    }
}
