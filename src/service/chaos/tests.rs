use super::super::config::{Config, DEFAULT_TEXT};
use super::*;
use proptest::prelude::*;

const FAULTS: [Fault; 4] = [Fault::Slow { milliseconds: 500 }, Fault::Dead, Fault::Forbidden, Fault::Heal];

#[test]
fn each_fault_changes_its_own_key_only() {
    let text = "{\"owner\": \"me\", \"enabled\": true, \"delay_ms\": 20, \"burst\": 5}\n";
    let cases = [
        (FAULTS[0], "{\"owner\": \"me\", \"enabled\": true, \"delay_ms\": 520, \"burst\": 5}\n"),
        (FAULTS[1], "{\"owner\": \"me\", \"enabled\": false, \"delay_ms\": 20, \"burst\": 5}\n"),
        (
            FAULTS[2],
            "{\"owner\": \"me\", \"enabled\": true, \"delay_ms\": 20, \"burst\": 5, \"requests_per_second\": -1}\n",
        ),
        (FAULTS[3], "{\"owner\": \"me\", \"enabled\": true, \"delay_ms\": 0, \"burst\": 5}\n"),
    ];
    for (fault, expected) in cases {
        assert_eq!(apply(text, &fault).unwrap(), expected, "{fault:?}");
    }
}

#[test]
fn healing_removes_an_impossible_rate_keeps_a_possible_one_and_moves_no_key() {
    let broken = r#"{"requests_per_second":-1,"delay_ms":9,"enabled":false,"burst":3}"#;
    assert_eq!(apply(broken, &Fault::Heal).unwrap(), r#"{"delay_ms":0,"enabled":true,"burst":3}"#);
    let sound = r#"{"requests_per_second":7,"delay_ms":9,"enabled":false}"#;
    assert_eq!(apply(sound, &Fault::Heal).unwrap(), r#"{"requests_per_second":7,"delay_ms":0,"enabled":true}"#);
}

#[test]
fn a_forbidden_rate_is_one_that_the_service_cannot_follow() {
    let text = apply(DEFAULT_TEXT, &Fault::Forbidden).unwrap();
    assert!(Config::parse(text.as_bytes()).unwrap_err().to_string().starts_with("/requests_per_second"));
}

#[test]
fn the_style_of_the_original_is_kept() {
    for text in [
        "{\"enabled\":false,\"delay_ms\":0,\"tags\":[1,2]}",
        "{\"enabled\": false, \"delay_ms\": 0, \"tags\": [1, 2]}\n",
        "{\n  \"enabled\": false,\n  \"delay_ms\": 0\n}\n",
        "{\n\t\"enabled\": false,\n\t\"delay_ms\": 0\n}",
        "{\n    \"enabled\": false,\n    \"delay_ms\": 0,\n    \"nested\": {\n        \"a\": null\n    }\n}\n\n",
    ] {
        assert_eq!(apply(text, &Fault::Dead).unwrap(), text);
    }
}

#[test]
fn an_empty_object_gets_its_keys_in_the_style_of_people() {
    assert_eq!(apply("{}", &Fault::Heal).unwrap(), r#"{"enabled": true, "delay_ms": 0}"#);
    assert_eq!(apply("{}", &FAULTS[0]).unwrap(), r#"{"delay_ms": 500}"#);
}

#[test]
fn a_delay_that_the_service_could_not_follow_is_refused() {
    let refused = Err(ChaosError::AddDelay { milliseconds: 500 });
    assert_eq!(apply(r#"{"delay_ms": 59501}"#, &FAULTS[0]), refused);
    assert_eq!(apply(r#"{"delay_ms": "long"}"#, &FAULTS[0]), refused);
    assert_eq!(apply(r#"{"delay_ms": 18446744073709551615}"#, &FAULTS[0]), refused);
}

#[test]
fn text_that_is_no_object_is_refused_with_its_place() {
    for text in ["", "[1]", "{\"enabled\": tru", "nonsense"] {
        for fault in FAULTS {
            let reason = apply(text, &fault).unwrap_err().to_string();
            assert!(reason.contains("at line 1 column"), "{reason}");
        }
    }
}

fn any_config() -> impl Strategy<Value = Map<String, Value>> {
    let value = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from)
    ];
    let extra = proptest::collection::vec(("[a-z]{1,6}", value), 0..6);
    (extra, any::<bool>(), 0_u64..=59_000).prop_map(|(extra, enabled, delay)| {
        let mut config: Map<String, Value> = extra.into_iter().collect();
        config.insert("enabled".to_owned(), enabled.into());
        config.insert("delay_ms".to_owned(), delay.into());
        config
    })
}

fn any_fault() -> impl Strategy<Value = Fault> {
    proptest::sample::select(FAULTS.to_vec())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}", fault in any_fault()) {
        let _ = apply(&text, &fault);
    }

    #[test]
    fn other_keys_and_their_order_survive_any_fault_in_any_style(
        config in any_config(), fault in any_fault(), style in 0_usize..3,
    ) {
        let style = [Style::Compact, Style::OneLine, Style::Lines { indentation: "\t" }].into_iter().nth(style).unwrap();
        let text = style.write(&config).unwrap();
        let changed = apply(&text, &fault).unwrap();
        prop_assert_eq!(changed.contains('\n'), text.contains('\n'));
        let changed = parse(&changed).unwrap();
        let others = |config: &Map<String, Value>| {
            let concerned = ["enabled", "delay_ms", "requests_per_second"];
            config.clone().into_iter().filter(|(key, _)| !concerned.contains(&key.as_str())).collect::<Vec<_>>()
        };
        prop_assert_eq!(others(&config), others(&changed));
    }

    #[test]
    fn healing_takes_any_faults_back(faults in proptest::collection::vec(any_fault(), 0..20)) {
        let broken = faults.iter().fold(DEFAULT_TEXT.to_owned(), |text, fault| apply(&text, fault).unwrap());
        prop_assert_eq!(apply(&broken, &Fault::Heal).unwrap(), DEFAULT_TEXT);
    }
}
