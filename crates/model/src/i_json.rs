//! JSON that every reader can read (RFC 7493), checked where a client's JSON is kept as it was sent.
//!
//! Strict readers stop at what JSON's grammar allows but says nothing about: half of a surrogate pair, a name twice in
//! one object, a number that no double holds. One such body would make its room's history unreadable for them.

use std::borrow::Cow;

use crate::{Refusal, limits};

/// The names that serde_json gives its own types. A client in Rust takes an object that begins with one for such a
/// type.
const RESERVED: &str = "$serde_json::private::";
/// Numbers with fewer characters than this are doubles if they have no exponent.
const SHORT: usize = 300;
/// Among this many names, each is compared with each. More are sorted.
const FEW: usize = 8;

/// Checks an object that a client sent in field `field`: its shape, size and depth, and that every reader can read it.
/// `json` is known to be JSON. It is scanned once, and nothing of ordinary size is allocated but the list of names.
///
/// # Errors
/// Returns `bad_field` or `too_large` with the rule that is broken.
pub(crate) fn check_object(field: &str, json: &str) -> Result<(), Refusal> {
    if !json.starts_with('{') {
        return Err(Refusal::field(field, "must be a JSON object"));
    }
    if json.len() > limits::BODY_BYTES {
        return Err(Refusal::too_large(field, format!("{} bytes", limits::BODY_BYTES)));
    }
    Scan { json, ..Scan::default() }.run().map_err(|broken| match broken {
        Broken::TooDeep => Refusal::too_large(field, format!("{} levels deep", limits::BODY_DEPTH)),
        broken => Refusal::field(field, broken),
    })
}

/// The rule that a text breaks.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("is nested too deeply")]
    TooDeep,
    #[error("must not contain half of a surrogate pair: its text may be cut within an emoji")]
    HalfSurrogate,
    #[error("must not contain a code point that is no character, such as U+FFFE")]
    Noncharacter,
    #[error("must not contain the name {0:?} twice in one object")]
    Twice(String),
    #[error("must not contain a name that begins with {:?}", RESERVED)]
    Reserved,
    #[error("must not contain a number beyond the range of a double")]
    Number,
}

/// One pass over a text.
#[derive(Default)]
struct Scan<'a> {
    json: &'a str,
    /// How many bytes were read.
    at: usize,
    /// For each open object or array, where its names begin in `names`. `None` for an array.
    open: [Option<usize>; limits::BODY_DEPTH],
    depth: usize,
    /// The names of all open objects, decoded.
    names: Vec<Cow<'a, str>>,
}

impl<'a> Scan<'a> {
    fn run(mut self) -> Result<(), Broken> {
        // Whether the next string of an object is a name.
        let mut name_next = false;
        while let Some(byte) = self.json.as_bytes().get(self.at) {
            self.at += 1;
            match byte {
                b'{' | b'[' => {
                    let names = (*byte == b'{').then_some(self.names.len());
                    *self.open.get_mut(self.depth).ok_or(Broken::TooDeep)? = names;
                    self.depth += 1;
                    name_next = names.is_some();
                }
                b'}' | b']' => self.close()?,
                b',' => name_next = self.in_object().is_some(),
                b':' => name_next = false,
                b'"' => {
                    let text = self.string(name_next)?;
                    if name_next {
                        self.names.push(text);
                    }
                }
                b'-' | b'0'..=b'9' => self.number()?,
                // Spaces, and the letters of `true`, `false` and `null`.
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns where the names of the innermost object begin. `None` within an array.
    fn in_object(&self) -> Option<usize> {
        self.depth.checked_sub(1).and_then(|depth| self.open[depth])
    }

    /// Ends the innermost object or array. The names of an object are compared.
    fn close(&mut self) -> Result<(), Broken> {
        if let Some(first) = self.in_object() {
            let names = &mut self.names[first..];
            if let Some(name) = repeated(names) {
                return Err(Broken::Twice(name.chars().take(64).collect()));
            }
            if names.iter().any(|name| name.starts_with(RESERVED)) {
                return Err(Broken::Reserved);
            }
            self.names.truncate(first);
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    /// Reads a string behind its opening quote. A name is decoded. Any other string is decoded only if it has escapes
    /// that could be half of a surrogate pair.
    fn string(&mut self, is_name: bool) -> Result<Cow<'a, str>, Broken> {
        let (begin, bytes) = (self.at, self.json.as_bytes());
        let (mut escaped, mut unicode, mut high) = (false, false, false);
        while let Some(byte) = bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    unicode |= bytes.get(self.at) == Some(&b'u');
                    self.at += 1;
                }
                _ => high |= *byte >= 0xEF,
            }
        }
        // Both ends are next to a quote, so they are between characters.
        let text = if unicode || (escaped && is_name) {
            let quoted = self.json.get(begin - 1..self.at).unwrap_or_default();
            Cow::Owned(serde_json::from_str::<String>(quoted).map_err(|_| Broken::HalfSurrogate)?)
        } else {
            Cow::Borrowed(self.json.get(begin..self.at - 1).unwrap_or_default())
        };
        if (high || unicode) && text.chars().any(is_noncharacter) {
            return Err(Broken::Noncharacter);
        }
        Ok(text)
    }

    /// Reads a number behind its first character.
    fn number(&mut self) -> Result<(), Broken> {
        let begin = self.at - 1;
        let rest = self.json.as_bytes().iter().skip(self.at);
        self.at += rest.take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')).count();
        let number = self.json.get(begin..self.at).unwrap_or_default();
        if number.len() < SHORT && !number.contains(['e', 'E']) {
            return Ok(());
        }
        // The two readers round differently at the edge of the range.
        let is_double = number.parse::<f64>().is_ok_and(f64::is_finite) && serde_json::from_str::<f64>(number).is_ok();
        if is_double { Ok(()) } else { Err(Broken::Number) }
    }
}

/// Returns a name that `names` have twice. It may change their order.
fn repeated<'n>(names: &'n mut [Cow<'_, str>]) -> Option<&'n str> {
    if names.len() <= FEW {
        let mut places = 1..names.len();
        return places.find(|place| names[..*place].contains(&names[*place])).map(|place| names[place].as_ref());
    }
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].as_ref())
}

/// Returns whether Unicode says that this code point will never be a character.
fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}
