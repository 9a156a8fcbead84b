use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

fn measured(value: f64) -> Measurement {
    Measurement {
        value: Value::Number(value),
        status: Some(200),
        latency: Duration::from_millis(250),
        body: "ab".repeat(1000),
        labels: BTreeMap::from([("pod".into(), "a".into())]),
    }
}

fn judge(text: &str, value: f64) -> Result<bool, String> {
    Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).judge(&measured(value))
}

#[test]
fn numbers_compare_by_what_they_are_worth_whatever_their_type() {
    for (text, expected) in [
        ("value == 200", true),
        ("value == 200.0", true),
        ("value != 200", false),
        ("value != 201", true),
        ("200 == value", true),
        ("value in [200, 302]", true),
        ("value in [200.5, 302]", false),
        ("value < 200.5 && value <= 200 && value > 199", true),
        ("status == 200 && latency < 300", true),
        ("status == 200.0", true),
        ("status / 100 == 2", true),
        ("latency == 250", true),
        ("body.size() == 2000.0", true),
        ("value == '200'", false),
        ("'pod' in labels && !('app' in labels)", true),
        ("labels == {'pod': 'a'}", true),
    ] {
        assert_eq!(judge(text, 200.0), Ok(expected), "{text}");
    }
}

#[test]
fn what_could_exhaust_the_operator_is_refused_when_it_is_read() {
    let loops = "[1, 2].all(a, [1, 2].exists(b, a == b))".to_owned();
    let sum = format!("1{} < 2", " + 1".repeat(200));
    for text in [
        "(".repeat(1000),
        "[".repeat(1000),
        "{".repeat(1000),
        format!("{}1{} == 1", "int(".repeat(90), ")".repeat(90)),
        "true?true:".repeat(100) + "true",
        format!("labels{}", "['a']".repeat(200)),
        sum,
        loops,
    ] {
        assert!(Expression::parse(&text).is_err(), "{text}");
    }
}

#[test]
fn what_is_just_small_enough_is_read_and_judged_on_an_ordinary_stack() {
    for (before, middle, after) in [
        ("(", "value == 200", ")"),
        ("int(", "1", ")"),
        ("[", "1", "]"),
        ("{1:", "1", "}"),
        ("true ? true : ", "true", ""),
    ] {
        let count = MAX_DEPTH - 1;
        let text = format!("{}{middle}{}", before.repeat(count), after.repeat(count));
        let _ = judge(&text, 200.0);
    }
}

#[test]
fn a_regular_expression_has_a_limited_size() {
    assert_eq!(judge(r"body.matches('^(ab)+$') && !body.matches('\\w{3}-\\d+')", 1.0), Ok(true));
    let message = judge(r"body.matches('\\w{900}')", 1.0).unwrap_err();
    assert!(message.contains("size limit"), "{message}");
}

#[test]
fn a_mistake_is_found_where_it_stands() {
    for (text, position) in [
        ("value <", 7),
        ("valu < 3", 0),
        ("'é' == valu", 7),
        ("value < 1 &&\n value <", 21),
        ("body.status == 'ok'", 0),
        ("[1].map(x, x) == [1]", 0),
    ] {
        assert_eq!(Expression::parse(text).err().map(|error| error.position), Some(position), "{text}");
    }
}

#[test]
fn what_cannot_be_evaluated_is_neither_true_nor_false() {
    for text in ["labels.app == 'a'", "body < 3", "nope(body)", "body.nope()", "1 / 0 == 1", "status", "labels"] {
        assert!(judge(text, 1.0).is_err(), "{text}");
    }
}

const WORDS: [&str; 34] = [
    "value",
    "status",
    "latency",
    "body",
    "labels",
    "1",
    "200",
    "-9223372036854775808",
    "1.5",
    "1u",
    "'a'",
    "b'a'",
    "true",
    "null",
    "==",
    "!=",
    "<",
    "in",
    "&&",
    "||",
    "!",
    "-",
    "+",
    "%",
    "/",
    "*",
    "?",
    ":",
    "(",
    ")",
    "[",
    "]",
    ".matches",
    ".contains",
];

proptest! {
    #[test]
    fn any_sequence_of_known_words_is_answered_without_a_panic(
        words in prop::collection::vec(prop::sample::select(&WORDS[..]), 1..12),
    ) {
        if let Ok(expression) = Expression::parse(&words.join(" ")) {
            let _ = expression.judge(&measured(1.0));
        }
    }
}
