//! Regular expressions whose work is bounded, whatever the pattern and the text.
//!
//! The engine reads the text once. It builds the states of its automaton as it needs them and gives up when they are
//! too many; what it gave up is simulated, if that is short enough. Both are counted in steps and not by a clock, so that
//! the same answer is always judged alike.

use regex_automata::hybrid::dfa::{self, DFA};
use regex_automata::nfa::thompson;
use regex_automata::nfa::thompson::pikevm::PikeVM;
use regex_automata::{Anchored, Input};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most that the patterns of one condition may take when they are compiled. Bytes.
pub(super) const MAX_PATTERNS: usize = 256 * 1024;
/// The most of an automaton that is kept, and how often that may be thrown away to go on. Bytes.
const MAX_AUTOMATON: usize = 256 * 1024;
const MAX_CLEARED: usize = 1;
/// What one judgement may take in steps: about 20 ms.
const BUDGET: usize = 2_000_000;
/// The longest text that is searched. Bytes.
const MAX_TEXT: usize = 64 * 1024;
/// Compiled patterns that a thread keeps for the next judgement. Bytes.
const KEPT: usize = 2 * 1024 * 1024;

/// The condition takes more work on this answer than is given to it.
#[derive(Debug)]
pub(super) struct TooCostly;

/// What is left of the work that one judgement may take.
#[derive(Debug)]
pub(super) struct Work(AtomicUsize);

impl Default for Work {
    fn default() -> Self {
        Self(AtomicUsize::new(BUDGET))
    }
}

impl Work {
    /// Takes so many steps, if they are left. If they are not, none is left any more.
    pub(super) fn spend(&self, steps: usize) -> Result<(), TooCostly> {
        let left = self.0.load(Ordering::Relaxed).checked_sub(steps.max(1));
        self.0.store(left.unwrap_or(0), Ordering::Relaxed);
        left.map(drop).ok_or(TooCostly)
    }

    /// Something was too costly.
    pub(super) fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// A compiled pattern.
pub(super) struct Pattern(DFA);

impl Pattern {
    /// Compiles a pattern; an error says why it is none.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        let config = dfa::Config::new()
            .cache_capacity(MAX_AUTOMATON)
            .skip_cache_capacity_check(true)
            .minimum_cache_clear_count(Some(MAX_CLEARED))
            .unicode_word_boundary(true);
        let limits =
            thompson::Config::new().nfa_size_limit(Some(MAX_PATTERNS)).which_captures(thompson::WhichCaptures::None);
        let compiled = thompson::Compiler::new().configure(limits).build(pattern).map_err(|error| {
            if error.size_limit().is_some() { "it is too large".to_owned() } else { innermost(&error) }
        })?;
        let dfa = DFA::builder().configure(config).build_from_nfa(compiled).map_err(|error| innermost(&error))?;
        Ok(Self(dfa))
    }

    /// What it takes. Bytes.
    pub(super) fn size(&self) -> usize {
        self.0.get_nfa().memory_usage()
    }

    fn is_match(&self, text: &str, work: &Work) -> Result<bool, TooCostly> {
        if text.len() > MAX_TEXT {
            return work.spend(usize::MAX).map(|()| false);
        }
        let input = Input::new(text).anchored(Anchored::No).earliest(true);
        let mut cache = self.0.create_cache();
        let searched = self.0.try_search_fwd(&mut cache, &input);
        // A state costs about as many steps as it takes bytes.
        work.spend(text.len() / 16 + cache.memory_usage() + cache.clear_count() * MAX_AUTOMATON)?;
        if let Ok(found) = searched {
            return Ok(found.is_some());
        }
        let nfa = self.0.get_nfa();
        work.spend(nfa.states().len().saturating_mul(text.len()))?;
        let simulation = PikeVM::new_from_nfa(nfa.clone()).map_err(|_| TooCostly)?;
        Ok(simulation.is_match(&mut simulation.create_cache(), input))
    }
}

/// Whether a pattern matches somewhere in a text. An error is told in words.
pub(super) fn matches(text: &str, pattern: &str, work: &Work) -> Result<bool, String> {
    let compiled = COMPILED.with_borrow_mut(|compiled| compiled.get(pattern))?;
    compiled.is_match(text, work).map_err(|TooCostly| "too much work".to_owned())
}

thread_local! {
    static COMPILED: RefCell<Compiled> = RefCell::default();
}

/// Patterns that this thread compiled. To compile one costs more than to use it.
#[derive(Default)]
struct Compiled {
    patterns: HashMap<String, Rc<Pattern>>,
    size: usize,
}

impl Compiled {
    fn get(&mut self, pattern: &str) -> Result<Rc<Pattern>, String> {
        if let Some(found) = self.patterns.get(pattern) {
            return Ok(Rc::clone(found));
        }
        let compiled = Rc::new(Pattern::new(pattern)?);
        if self.size + compiled.size() > KEPT {
            self.patterns.clear();
            self.size = 0;
        }
        self.size += compiled.size();
        self.patterns.insert(pattern.to_owned(), Rc::clone(&compiled));
        Ok(compiled)
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    // A syntax error draws the pattern over several lines; the last one says what is wrong.
    let said = error.to_string();
    said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn search(pattern: &str, text: &str) -> Option<bool> {
        Pattern::new(pattern).unwrap().is_match(text, &Work::default()).ok()
    }

    /// Every window of it is another state.
    fn hostile(length: usize) -> String {
        let mut state = 1_u32;
        let letter = |()| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if state & 0x8000_0000 == 0 { 'a' } else { 'b' }
        };
        std::iter::repeat_n((), length).map(letter).collect()
    }

    #[test]
    fn what_would_take_long_is_given_up() {
        let text = hostile(MAX_TEXT);
        assert_eq!(search("a[ab]{900}c", &text), None);
        // The same of a short text is short.
        assert_eq!(search("a[ab]{900}c", &text[..1000]), Some(false));
        let work = Work::default();
        let pattern = Pattern::new("a[ab]{300}c").unwrap();
        let judged = (0..64).take_while(|_| pattern.is_match(&text, &work).is_ok()).count();
        assert!(judged < 8 && work.is_spent(), "{judged}");
    }

    #[test]
    fn ordinary_patterns_see_the_whole_of_an_answer() {
        let page = "<p>All is well — ça va, 現在.</p>\n".repeat(1500);
        for (pattern, expected) in [
            (r"(?i)error|exception|panic", false),
            (r"\bwell\b", true),
            (r"\bva\b.*現在", true),
            (r#""status"\s*:\s*"(up|ok)""#, false),
            (r"\w{3}-\d+", false),
            (r"現在\.</p>\n\z", true),
        ] {
            assert_eq!(search(pattern, &page), Some(expected), "{pattern}");
        }
        assert_eq!(search("x", &"x".repeat(MAX_TEXT + 1)), None);
    }

    #[test]
    fn a_pattern_that_is_none_or_too_large_says_so_in_one_line() {
        for (pattern, expected) in
            [("(", "unclosed group"), (r"\w{900}", "too large"), ("a{2,1}", "invalid repetition")]
        {
            let said = Pattern::new(pattern).err().unwrap();
            assert!(said.contains(expected) && !said.contains('\n'), "{said}");
        }
    }

    proptest! {
        #[test]
        fn it_says_what_the_engine_without_bounds_says(
            pattern in r"(\\b|\^|[ab.é]|\[ab\]|a\*|b\+|\(a\|b\)|\\w\?|\$){1,8}",
            text in "[abé \n]{0,24}",
        ) {
            if let Ok(unbounded) = regex::Regex::new(&pattern) {
                prop_assert_eq!(search(&pattern, &text), Some(unbounded.is_match(&text)));
            }
        }
    }
}
