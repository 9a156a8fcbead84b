//! Characters that are not seen, and reorder or hide what is.

/// Soft hyphen, zero-width, bidirectional, line separators, fillers, invisible operators, byte order mark, tags and
/// variation selectors: with them a text says something else to a person than to a program, or a name of a secret
/// is not recognised.
pub fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use crate::redact::{block, line};

    #[test]
    fn what_is_not_seen_is_not_stored_and_hides_no_secret() {
        assert_eq!(line("a\u{202e}b\u{200b}c\u{2066}d", 80), "abcd");
        assert_eq!(block("a\u{200d}\nb\u{e0041}", 80), "a\nb");
        assert_eq!(line("pass\u{200b}word=hunter2", 80), "password=«redacted»");
        assert_eq!(block("password\u{feff}: hunter2", 80), "password: «redacted»");
    }
}
