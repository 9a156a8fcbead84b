//! Secrets of no known form: long words that look as if they were drawn by lot.

use super::Span;
use regex::Regex;
use std::sync::LazyLock;

/// A shorter word is no secret by its looks alone. Bytes.
const SHORTEST: usize = 20;
/// How far it is looked back for what a word is. Bytes.
const LOOK_BACK: usize = 256;

/// What is before a digest or the name of a container.
const LABELS: [&str; 20] = [
    "id",
    "uid",
    "ids",
    "hash",
    "digest",
    "checksum",
    "sha",
    "sha1",
    "sha256",
    "sha384",
    "sha512",
    "md5",
    "commit",
    "revision",
    "etag",
    "fingerprint",
    "sandbox",
    "containerd",
    "docker",
    "h1",
];

/// Where the system keeps what is named by digests.
const SYSTEM_PATHS: [&str; 4] = ["/var/", "/run/", "/sys/", "/proc/"];

/// Every word that looks random and is nothing that ordinary text holds.
pub(super) fn find(text: &str, spans: &mut Vec<Span>) {
    static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[A-Za-z0-9+/_-]{20,}={0,2}").ok());
    static UUID: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?i)[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}").ok()
    });
    for word in WORD.iter().flat_map(|word| word.find_iter(text)) {
        let mut start = word.start();
        let uuids = UUID.iter().flat_map(|uuid| uuid.find_iter(word.as_str()));
        for uuid in uuids {
            judge(text, start..word.start() + uuid.start(), spans);
            start = word.start() + uuid.end();
        }
        judge(text, start..word.end(), spans);
    }
}

/// A run of letters, digits and joining signs: secret as a whole, or in one of its parts.
fn judge(text: &str, run: Span, spans: &mut Vec<Span>) {
    let word = &text[run.clone()];
    if word.len() < SHORTEST || is_labelled(text, &run) {
        return;
    }
    if looks_random(word) {
        spans.push(run);
        return;
    }
    let in_system_path = is_in_system_path(text, run.start);
    let mut start = run.start;
    for part in word.split_inclusive(['-', '_', '/', '+']) {
        let end = start + part.len();
        let part = part.trim_end_matches(['-', '_', '/', '+', '=']);
        if looks_random_without_case(part) && !in_system_path {
            spans.push(start..start + part.len());
        }
        start = end;
    }
}

/// Letters of both cases in no order, as in base64.
fn looks_random(word: &str) -> bool {
    let has = |class: fn(&u8) -> bool| word.as_bytes().iter().any(class);
    if !has(u8::is_ascii_lowercase) || !has(u8::is_ascii_uppercase) {
        return false;
    }
    let (wordlike, restless) = match (has(u8::is_ascii_digit), word.contains('/')) {
        // The length of an AWS secret key.
        (true, _) if word.len() == 40 => (0.6, 0.15),
        (true, false) => (0.5, 0.15),
        (true, true) => (0.35, 0.15),
        (false, _) => (0.35, 0.3),
    };
    bits_per_character(word) >= 3.3 && share_of_words(word) < wordlike && share_of_turns(word) >= restless
}

/// Letters of one case, or hexadecimal digits, with digits in no order among them.
fn looks_random_without_case(part: &str) -> bool {
    let has = |class: fn(&u8) -> bool| part.as_bytes().iter().any(class);
    let mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
    part.len() >= SHORTEST && mixed && bits_per_character(part) >= 2.8 && share_of_turns(part) >= 0.2
}

/// Shannon's entropy of the bytes.
#[expect(clippy::cast_precision_loss, reason = "a share of a word's length needs no precision")]
fn bits_per_character(word: &str) -> f64 {
    let mut counts = [0_usize; 256];
    for byte in word.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let share = |count: &usize| *count as f64 / word.len() as f64;
    counts.iter().filter(|count| **count > 0).map(share).map(|share| -share * share.log2()).sum()
}

/// The share of the characters that belong to at least four letters of one case in a row.
#[expect(clippy::cast_precision_loss, reason = "a share of a word's length needs no precision")]
fn share_of_words(word: &str) -> f64 {
    let runs = word.as_bytes().chunk_by(|a, b| class(*a) == class(*b));
    let words = runs.filter(|run| run.len() >= 4 && run.iter().all(u8::is_ascii_alphabetic));
    words.map(<[u8]>::len).sum::<usize>() as f64 / word.len() as f64
}

/// The share of the characters at which a word turns from one class to another, as words of programs do not: neither a
/// capital before its word nor a joining sign counts.
#[expect(clippy::cast_precision_loss, reason = "a share of a word's length needs no precision")]
fn share_of_turns(word: &str) -> f64 {
    let turns = word.as_bytes().windows(2).filter(|pair| match (class(pair[0]), class(pair[1])) {
        (Class::Upper, Class::Lower) | (Class::Sign, _) | (_, Class::Sign) => false,
        (before, after) => before != after,
    });
    turns.count() as f64 / word.len() as f64
}

#[derive(PartialEq, Eq)]
enum Class {
    Lower,
    Upper,
    Digit,
    Sign,
}

fn class(byte: u8) -> Class {
    match byte {
        b'a'..=b'z' => Class::Lower,
        b'A'..=b'Z' => Class::Upper,
        b'0'..=b'9' => Class::Digit,
        _ => Class::Sign,
    }
}

/// Whether the word before says that this is a digest or an identifier.
fn is_labelled(text: &str, run: &Span) -> bool {
    let integrity = text[run.clone()].split_once('-').is_some_and(|(label, _)| label.starts_with("sha"));
    let from = text.floor_char_boundary(run.start.saturating_sub(LOOK_BACK));
    let before = text[from..run.start].trim_end_matches([' ', '"', '\'', '\\', ':', '=', '@', '/', '(']);
    let label = before.rsplit(|it: char| !it.is_ascii_alphanumeric()).next().unwrap_or_default();
    // `traceId` and `imageID` are identifiers, too.
    let last_word = label.strip_suffix("ID").map_or_else(|| humps(label), |_| "id");
    integrity || LABELS.iter().any(|it| label.eq_ignore_ascii_case(it) || last_word.eq_ignore_ascii_case(it))
}

/// The last word of a name in camel case.
fn humps(label: &str) -> &str {
    label.rfind(|it: char| it.is_ascii_uppercase()).map_or(label, |at| &label[at..])
}

fn is_in_system_path(text: &str, at: usize) -> bool {
    let from = text.floor_char_boundary(at.saturating_sub(LOOK_BACK));
    let is_outside = |it: char| it.is_whitespace() || "\"'=:(".contains(it);
    let before = text[from..at].rsplit(is_outside).next().unwrap_or_default();
    let path = &text[at - before.len()..];
    SYSTEM_PATHS.iter().any(|system| path.starts_with(system))
}
