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
    let expression = Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    expression.judge(&measured(value)).map_err(|failure| match failure {
        Failure::Error(message) => message,
        Failure::TooCostly => "too costly".to_owned(),
    })
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
    let wide = r"body.matches('\\w{20}')";
    for text in [r"body.matches('\\w{900}')", "body.matches(body)", "body.matches('(')", &format!("{wide} || {wide}")] {
        let message = Expression::parse(text).err().unwrap().to_string();
        assert!(message.contains("a regular expression in quotes"), "{message}");
    }
}

#[test]
fn what_takes_too_much_work_on_an_answer_is_neither_true_nor_false() {
    let mut state = 1_u32;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if state & 0x8000_0000 == 0 { 'a' } else { 'b' }
    });
    let measurement = Measurement { body: letters.take(64 * 1024).collect(), ..measured(1.0) };
    let copies = format!("({}).size() > 1", ["body"; 30].join(" + "));
    let many = ["body.matches('a[ab]{200}c')"; 10].join(" || ");
    for text in ["!body.matches('a[ab]{900}c')", &copies, &many, "(body + body).matches('x')"] {
        let expression = Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(expression.is_costly(&measurement), "{text}");
        assert!(matches!(expression.judge(&measurement), Err(Failure::TooCostly)), "{text}");
    }
    // What can be said without it is said.
    let expression = Expression::parse("status == 200 || body.matches('a[ab]{900}c')").unwrap();
    assert!(matches!(expression.judge(&measurement), Ok(true)));
}

#[test]
fn what_is_done_in_microseconds_is_done_at_once() {
    for (text, costly) in [("value == 200", false), ("body.contains('a')", false), ("body.matches('a')", true)] {
        assert_eq!(Expression::parse(text).unwrap().is_costly(&measured(1.0)), costly, "{text}");
        let long = Measurement { body: "a".repeat(SHORT_BODY + 1), ..measured(1.0) };
        assert!(Expression::parse(text).unwrap().is_costly(&long), "{text}");
    }
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
