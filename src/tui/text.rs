//! Text from the cluster, made safe and short enough to show. Whatever wrote it may have meant harm.

use crate::redact::is_invisible;
use jiff::{SignedDuration, Timestamp};

/// At most `limit` characters of `text` (the last one `…` where it was cut), without control characters and without
/// invisible ones that reorder or hide text; a line break or a tab becomes a space.
pub fn plain(text: &str, limit: usize) -> String {
    let mut shown = text.chars().filter_map(visible);
    let mut kept: String = shown.by_ref().take(limit).collect();
    if shown.next().is_some() {
        kept.pop();
        kept.push('…');
    }
    kept
}

fn visible(character: char) -> Option<char> {
    match character {
        '\n' | '\r' | '\t' => Some(' '),
        character if character.is_control() => None,
        character if is_invisible(character) => None,
        character => Some(character),
    }
}

/// A time span for people: `4.2 s`, `3 min 12 s`, `2 h 5 min`. A negative one counts as none.
pub fn span(duration: SignedDuration) -> String {
    let milliseconds = duration.as_millis().max(0);
    let seconds = milliseconds / 1000;
    match seconds {
        0..60 => format!("{seconds}.{} s", milliseconds % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// The time from one moment to another, for people.
pub fn between(from: Timestamp, to: Timestamp) -> String {
    span(to.duration_since(from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escape_sequences_and_reordering_characters_are_removed() {
        assert_eq!(plain("\u{1b}[2Jred\u{202e}der\u{200b}\u{7}", 80), "[2Jredder");
    }

    #[test]
    fn line_breaks_become_spaces() {
        assert_eq!(plain("a\nb\tc", 80), "a b c");
    }

    #[test]
    fn a_cut_text_says_so() {
        assert_eq!(plain("abcdef", 4), "abc…");
        assert_eq!(plain("abcd", 4), "abcd");
        assert_eq!(plain("abcd", 0), "…");
    }

    #[test]
    fn spans_are_given_in_the_unit_that_fits() {
        let shown = |milliseconds| span(SignedDuration::from_millis(milliseconds));
        assert_eq!(shown(-5), "0.0 s");
        assert_eq!(shown(4_260), "4.2 s");
        assert_eq!(shown(192_000), "3 min 12 s");
        assert_eq!(shown(7_500_000), "2 h 5 min");
    }

    proptest! {
        #[test]
        fn whatever_comes_in_nothing_invisible_or_long_comes_out(text in any::<String>(), limit in 1_usize..100) {
            let shown = plain(&text, limit);
            prop_assert!(shown.chars().count() <= limit);
            prop_assert!(shown.chars().all(|character| !character.is_control() && visible(character).is_some()));
        }
    }
}
