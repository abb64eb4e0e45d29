//! Characters that cannot be seen.

/// The characters of category Cf of Unicode 16, in order.
const FORMAT: [(char, char); 21] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{2064}'),
    ('\u{2066}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0001}', '\u{e0001}'),
    ('\u{e0020}', '\u{e007f}'),
];

/// Returns whether this is a format character (Cf): most of them are invisible, and some turn the direction of text.
pub(crate) fn is_format(c: char) -> bool {
    // Nearly all ids are ASCII, which has none.
    !c.is_ascii() && FORMAT.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

/// Returns whether this is a space, a line break, or a control character: categories Z* and Cc.
pub(crate) fn is_space_or_control(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

/// Returns whether the character hides in a line of text, or changes how the rest of it looks. The joiners and marks
/// that scripts and emoji need do not.
pub(crate) fn is_deceptive(c: char) -> bool {
    let needed = matches!(c,
        '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}'
        | '\u{200c}'..='\u{200f}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{e0020}'..='\u{e007f}');
    is_format(c) && !needed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_format_characters_are_in_order_and_hold_what_unicode_counts() {
        assert!(FORMAT.windows(2).all(|pair| pair[0].1 < pair[1].0));
        assert_eq!(('\0'..=char::MAX).filter(|c| is_format(*c)).count(), 170);
        assert!(!('\0'..=char::MAX).any(|c| is_format(c) && is_space_or_control(c)));
    }
}
