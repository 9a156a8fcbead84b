//! Documents as people write them, and as generators do.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn read(text: &str, format: Format) -> Document {
    parse(text, format).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

fn restored(current: &str, good: &str, path: &str, format: Format) -> String {
    restore(current, good, &[path.to_owned()], format).unwrap_or_else(|error| panic!("{error}:\n{current}"))
}

#[test]
fn only_the_value_changes_to_the_byte() {
    let table = [
        (
            Format::Json,
            "{\"a\": 123456789012345678901234,\t\"b\" :1.10,\r\n\"c\":[1, 2 ,3],\"d\":\"\\u003c\", \"delay\": 0 }\n",
            "/delay",
            "0",
            "900",
        ),
        (Format::Json, "{\"a\":1e3,\"delay\":5}", "/delay", "5", "\"x\""),
        (
            Format::JsonWithComments,
            "{ // first\n  \"delay\": 5, /* ms */\n  \"list\": [1, 2,],\n}\n",
            "/delay",
            "5",
            "900",
        ),
        (
            Format::Yaml,
            "# head\nbase: &base {delay: 5, x: 1.10}\nuse: *base\nlist:\n- a   # one\n- b\nother: 0o17\n",
            "/list/1",
            "b",
            "c",
        ),
        (
            Format::Yaml,
            "a:\n    delay:   5    # ms\n    text: |\n      one\n      two\nb: 'it''s'\n",
            "/a/delay",
            "5",
            "900",
        ),
        (Format::Yaml, "a: 1\n---\nb:\n- host: x\n  timeout: 5\n...\n", "/1/b/0/timeout", "5", "900"),
        (
            Format::Toml,
            "# head\ndelay = 5 # ms\nbig = 1_000\nx = 1.10\n[a.b]\nc = '''q'''\nd = 1979-05-27\n",
            "/delay",
            "5",
            "900",
        ),
        (
            Format::Toml,
            "[[up]]\nhost = \"a\"\ntimeout = 5\n[[up]]\nhost = \"b\"\ntimeout=7 \n",
            "/up/1/timeout",
            "7",
            "900",
        ),
        (Format::Properties, "# head\nserver.port = 5\n long : a \\\n   b\nk\\ ey=v\n", "/server.port", "5", "900"),
        (Format::Env, "# head\nexport DELAY=5\nQ=\"a b\" \n\nX=$Y # z\n", "/DELAY", "5", "900"),
        (Format::Ini, "top = 1\n; head\n[a]\ndelay = 5 ; ms?\nx: y\n[b]\ndelay = 7\n", "/b/delay", "7", "900"),
    ];
    for (format, good, path, value, fault) in table {
        let at = read(good, format).root.at(path).unwrap_or_else(|| panic!("{path} in {good}")).span.clone();
        assert_eq!(&good[at.clone()], value, "{good}");
        let current = format!("{}{fault}{}", &good[..at.start], &good[at.end..]);
        assert_eq!(restored(&current, good, path, format), good);
    }
}

#[test]
fn a_member_that_was_removed_or_added_is_put_back_in_its_place() {
    let table = [
        (Format::Json, r#"{"a": 1, "b": 2, "c": 3}"#, r#"{"a": 1, "c": 3}"#, "/b"),
        (Format::Json, "{\n  \"a\": 1,\n  \"b\": 2\n}\n", "{\n  \"a\": 1\n}\n", "/b"),
        (Format::Json, r#"{"a":{"b":1}}"#, r#"{"a":{}}"#, "/a/b"),
        (Format::Yaml, "a: 1\nb:\n  c: 2 # two\n  d: 3\n", "a: 1\nb:\n  d: 3\n", "/b/c"),
        (Format::Yaml, "a: {b: 1, c: 2}\n", "a: {b: 1}\n", "/a/c"),
        (Format::Toml, "a = 1\n[t]\nb = 2\nc = 3\n", "a = 1\n[t]\nb = 2\n", "/t/c"),
        (Format::Properties, "a=1\nb=2\nc=3\n", "a=1\nc=3\n", "/b"),
        (Format::Env, "A=1\nB=2", "A=1", "/B"),
        (Format::Ini, "[a]\nx = 1\ny = 2\n[b]\nz = 3\n", "[a]\nx = 1\n[b]\nz = 3\n", "/a/y"),
        (Format::Ini, "[a]\nx = 1\n[b]\nz = 3\n", "[a]\n[b]\nz = 3\n", "/a/x"),
    ];
    for (format, with, without, path) in table {
        let added = restored(without, with, path, format);
        assert!(differences(&read(&added, format), &read(with, format)).is_empty(), "{added}");
        let removed = restored(with, without, path, format);
        assert!(differences(&read(&removed, format), &read(without, format)).is_empty(), "{removed}");
    }
}

#[test]
fn what_readers_could_read_in_two_ways_is_not_parsed() {
    let table = [
        (Format::Json, r#"{"admin":true,"admin":false}"#, "stands there twice"),
        (Format::Json, r#"{"a":{"x":1,"\u0078":2}}"#, "stands there twice"),
        (Format::Json, r#"{"a":NaN}"#, "expected value"),
        (Format::Json, r#"{"a":1,}"#, "key must be a string"),
        (Format::Json, "{\"a\":1} // c", "trailing characters"),
        (Format::Json, "\u{feff}{}", "byte order mark"),
        (Format::Json, "", "EOF"),
        (Format::JsonWithComments, "{'a': 1}", "not JSON with comments at line 1"),
        (Format::JsonWithComments, "{\"a\": +1}", "not JSON with comments at line 1"),
        (Format::Yaml, "a: 1\na: 2\n", "stands there twice"),
        (Format::Yaml, "a: &x [*x]\n", "inside of what it names"),
        (Format::Yaml, "? [a]\n: 1\n", "not a plain text"),
        (Format::Yaml, "a: [1\n", "not YAML"),
        (Format::Toml, "a = 1\na = 2\n", "not TOML at line 2"),
        (Format::Properties, "a=1\na=2\n", "stands there twice"),
        (Format::Env, "A=1\nnonsense\n", "line 2"),
        (Format::Env, "A=\"1\nB=2\"\n", "quote"),
        (Format::Ini, "[a]\nx=1\n[a]\ny=2\n", "stands there twice"),
        (Format::Ini, "[a]\nx=1\n  more\n", "indented"),
        (Format::Text, "anything", "without values"),
    ];
    for (format, text, why) in table {
        let error = parse(text, format).map(|it| it.value()).unwrap_err().to_string();
        assert!(error.contains(why), "{text:?}: {error}");
    }
}

#[test]
fn deep_and_explosive_documents_are_given_up() {
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(5000), close.repeat(5000));
    assert!(parse(&deep("[", "]"), Format::Json).is_err());
    assert!(parse(&deep("[", "]"), Format::JsonWithComments).is_err());
    assert!(parse(&deep("[", "]"), Format::Yaml).is_err());
    assert!(parse(&format!("a = {}", deep("[", "]")), Format::Toml).is_err());
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let before = format!("*a{}", level - 1);
        let _ = writeln!(laughs, "a{level}: &a{level} [{}]", vec![before; 10].join(", "));
    }
    assert!(parse(&laughs, Format::Yaml).is_err());
}

#[test]
fn elements_are_named_by_number_or_by_a_member() {
    let document = read(
        r#"{"upstreams":[{"host":"a","timeout_ms":1},{"host":"b","timeout_ms":2}],"x":{"[a=b]":1}}"#,
        Format::Json,
    );
    let resolve = |path: &str| document.resolve(path);
    assert_eq!(resolve("/upstreams/[host=b]/timeout_ms").as_deref(), Some("/upstreams/1/timeout_ms"));
    assert_eq!(resolve("/upstreams/0").as_deref(), Some("/upstreams/0"));
    assert_eq!(resolve("/upstreams/[host=c]/timeout_ms"), None);
    assert_eq!(resolve("/upstreams/[timeout_ms=2]").as_deref(), Some("/upstreams/1"));
    assert_eq!(resolve("/x/[a=b]").as_deref(), Some("/x/[a=b]"));
    assert_eq!(document.at("/upstreams/00"), None);
}

#[test]
fn differences_are_told_by_all_that_a_reader_could_see() {
    let paths = |format, one: &str, other: &str| -> Vec<String> {
        differences(&read(one, format), &read(other, format)).into_iter().map(|it| it.path).collect()
    };
    assert_eq!(
        paths(Format::Json, r#"{"a":123456789012345678901,"b":1.10}"#, r#"{"a":123456789012345678902,"b":1.1}"#),
        ["/a", "/b"]
    );
    assert_eq!(paths(Format::Json, r#"{"a":[1,{"b":2}]}"#, r#"{"a":[1,{"b":3}]}"#), ["/a/1/b"]);
    assert_eq!(paths(Format::Json, r#"{"a":[1]}"#, r#"{"a":[1,2]}"#), ["/a"]);
    assert_eq!(paths(Format::Json, r#"{"a":"<"}"#, "{ \"a\" : \"\\u003c\" }"), Vec::<String>::new());
    assert_eq!(paths(Format::Yaml, "a: yes\nb: 1\n", "a: \"yes\"\nb: 1.0\n"), ["/a", "/b"]);
    assert_eq!(paths(Format::Yaml, "a: &x {k: 1}\nb: *x\n", "a: &x {k: 2}\nb: *x\n"), ["/a/k", "/b/k"]);
}

#[test]
fn a_change_through_an_alias_is_none_of_one_path() {
    let (good, bad) = ("a: &x {k: 1}\nb: *x\n", "a: &x {k: 2}\nb: *x\n");
    assert!(restore(bad, good, &["/b/k".into()], Format::Yaml).is_err());
    assert_eq!(restore(bad, good, &["/a/k".into(), "/b/k".into()], Format::Yaml).unwrap(), good);
}

#[test]
fn the_format_is_told_by_the_name_and_else_by_the_text() {
    for (key, text, format) in [
        ("service_config.json", "", Format::Json),
        ("a.YML", "", Format::Yaml),
        ("Cargo.toml", "", Format::Toml),
        (".env", "", Format::Env),
        ("application.properties", "", Format::Properties),
        ("my.cnf", "", Format::Ini),
        ("tsconfig.jsonc", "", Format::JsonWithComments),
        ("config", r#" {"a": 1}"#, Format::Json),
        ("config", "---\na: 1\n", Format::Yaml),
        ("config", "a: 1\n", Format::Text),
        ("nginx.conf", "listen 80;", Format::Text),
    ] {
        assert_eq!(Format::of(key, text), format, "{key}");
    }
}

/// A value of a generated document, as it is written in each format.
#[derive(Debug, Clone, PartialEq)]
enum Leaf {
    Number(String),
    Flag(bool),
    Words(String),
}

#[derive(Debug, Clone, PartialEq)]
enum Made {
    Leaf(Leaf),
    List(Vec<Leaf>),
    Map(BTreeMap<String, Made>),
}

fn leaf() -> impl Strategy<Value = Leaf> {
    prop_oneof![
        prop_oneof![
            any::<i32>().prop_map(|it| it.to_string()),
            Just("123456789012345678901234".to_owned()),
            Just("1.10".to_owned()),
            Just("1e3".to_owned()),
            Just("-0.5".to_owned()),
        ]
        .prop_map(Leaf::Number),
        any::<bool>().prop_map(Leaf::Flag),
        "[a-z<é\u{1f980}]{1,6}( [a-z]{1,3})?".prop_map(Leaf::Words),
    ]
}

fn made(depth: u32) -> impl Strategy<Value = BTreeMap<String, Made>> {
    let node = leaf().prop_map(Made::Leaf).prop_recursive(depth, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(leaf(), 1..4).prop_map(Made::List),
            prop::collection::btree_map("[a-d]{1,2}", inner, 1..4).prop_map(Made::Map),
        ]
    });
    prop::collection::btree_map("[a-d]{1,2}", node, 1..5)
}

/// How a text is laid out.
#[derive(Debug, Clone, Copy)]
struct Layout {
    indent: usize,
    comments: bool,
    carriage_returns: bool,
    escapes: bool,
}

fn layout() -> impl Strategy<Value = Layout> {
    (1..4_usize, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(indent, comments, carriage_returns, escapes)| Layout { indent, comments, carriage_returns, escapes },
    )
}

fn quoted(text: &str, layout: Layout) -> String {
    let text = Value::from(text).to_string();
    if layout.escapes { text.replace('<', "\\u003c") } else { text }
}

fn leaf_text(leaf: &Leaf, layout: Layout, plain: bool) -> String {
    match leaf {
        Leaf::Number(raw) => raw.clone(),
        Leaf::Flag(flag) => flag.to_string(),
        Leaf::Words(text) if plain => text.clone(),
        Leaf::Words(text) => quoted(text, layout),
    }
}

fn list_text(list: &[Leaf], layout: Layout) -> String {
    format!(
        "[{}]",
        list.iter().map(|it| leaf_text(it, layout, false)).collect::<Vec<_>>().join(if layout.indent > 1 {
            ", "
        } else {
            ","
        })
    )
}

fn json_text(map: &BTreeMap<String, Made>, layout: Layout, level: usize) -> String {
    let pad = " ".repeat(layout.indent * (level + 1));
    let comment = if layout.comments { " // c\n" } else { "\n" };
    let members: Vec<String> = map
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Made::Leaf(leaf) => leaf_text(leaf, layout, false),
                Made::List(list) => list_text(list, layout),
                Made::Map(map) => json_text(map, layout, level + 1),
            };
            format!("{pad}\"{name}\": {value}")
        })
        .collect();
    format!("{{{comment}{}\n{}}}", members.join(",\n"), " ".repeat(layout.indent * level))
}

fn yaml_text(map: &BTreeMap<String, Made>, layout: Layout, level: usize) -> String {
    let pad = " ".repeat(layout.indent * level);
    map.iter()
        .map(|(name, value)| {
            let comment = if layout.comments { "   # c" } else { "" };
            match value {
                Made::Leaf(leaf) => format!("{pad}{name}: {}{comment}\n", leaf_text(leaf, layout, !layout.escapes)),
                Made::List(list) => format!("{pad}{name}: {}{comment}\n", list_text(list, layout)),
                Made::Map(map) => format!("{pad}{name}:{comment}\n{}", yaml_text(map, layout, level + 1)),
            }
        })
        .collect()
}

fn toml_text(map: &BTreeMap<String, Made>, layout: Layout, at: &str) -> String {
    let mut text = String::new();
    let comment = if layout.comments { " # c" } else { "" };
    for (name, value) in map {
        match value {
            // TOML has no larger numbers than 64 bits.
            Made::Leaf(Leaf::Number(raw)) if raw.len() > 20 => drop(writeln!(text, "{name} = '{raw}'{comment}")),
            Made::Leaf(leaf) => drop(writeln!(text, "{name} = {}{comment}", leaf_text(leaf, layout, false))),
            Made::List(list) if list.iter().any(|it| matches!(it, Leaf::Number(raw) if raw.len() > 20)) => {}
            Made::List(list) => drop(writeln!(text, "{name} = {}{comment}", list_text(list, layout))),
            Made::Map(_) => {}
        }
    }
    for (name, value) in map {
        if let Made::Map(map) = value {
            let table = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            let _ = write!(text, "\n[{table}]{comment}\n{}", toml_text(map, layout, &table));
        }
    }
    text
}

fn flat_text(map: &BTreeMap<String, Made>, layout: Layout, separator: &str) -> String {
    let comment = if layout.comments { "# c\n" } else { "" };
    map.iter()
        .filter_map(|(name, value)| match value {
            Made::Leaf(leaf) => Some(format!("{comment}{name}{separator}{}\n", leaf_text(leaf, layout, true))),
            Made::List(_) | Made::Map(_) => None,
        })
        .collect()
}

fn ini_text(map: &BTreeMap<String, Made>, layout: Layout) -> String {
    let sections = map.iter().filter_map(|(name, value)| match value {
        Made::Map(map) => Some(format!("[{name}]\n{}", flat_text(map, layout, " = "))),
        Made::Leaf(_) | Made::List(_) => None,
    });
    format!("{}{}", flat_text(map, layout, "="), sections.collect::<String>())
}

const FORMATS: [Format; 7] =
    [Format::Json, Format::JsonWithComments, Format::Yaml, Format::Toml, Format::Properties, Format::Env, Format::Ini];

fn written(map: &BTreeMap<String, Made>, format: Format, layout: Layout) -> String {
    let text = match format {
        Format::Json => json_text(map, Layout { comments: false, ..layout }, 0) + "\n",
        Format::JsonWithComments => json_text(map, layout, 0),
        Format::Yaml => yaml_text(map, layout, 0),
        Format::Toml => toml_text(map, layout, ""),
        Format::Properties => flat_text(map, layout, " = "),
        Format::Env => flat_text(map, Layout { comments: layout.comments, ..layout }, "="),
        Format::Ini => ini_text(map, layout),
        Format::Text => String::new(),
    };
    if layout.carriage_returns { text.replace('\n', "\r\n") } else { text }
}

/// What another reader of the format sees, as JSON whose numbers are texts.
fn independently(text: &str, format: Format) -> Option<Value> {
    fn plain(value: Value) -> Value {
        match value {
            Value::Number(number) => Value::from(number.as_f64().unwrap_or_default().to_string()),
            Value::Array(list) => Value::Array(list.into_iter().map(plain).collect()),
            Value::Object(map) => Value::Object(map.into_iter().map(|(name, value)| (name, plain(value))).collect()),
            other => other,
        }
    }
    let read = match format {
        Format::Json => serde_json::from_str::<Value>(text).ok(),
        Format::Yaml => serde_yaml::from_str::<Value>(text).ok(),
        Format::Toml => ::toml::from_str::<Value>(text).ok(),
        Format::Properties => {
            let read = java_properties::PropertiesIter::new_with_encoding(text.as_bytes(), encoding_rs::UTF_8);
            let mut map = serde_json::Map::new();
            let mut read = read;
            read.read_into(|name, value| {
                map.insert(name, Value::from(value));
            })
            .ok()?;
            Some(Value::Object(map))
        }
        Format::JsonWithComments | Format::Env | Format::Ini | Format::Text => None,
    };
    read.map(plain)
}

/// A value that is put somewhere else.
fn put(document: &mut Value, path: &str, value: Option<Value>) -> Option<()> {
    let (parent, name) = path.rsplit_once('/')?;
    match (document.pointer_mut(parent)?, value) {
        (Value::Object(map), Some(value)) => drop(map.insert(unescape(name), value)),
        (Value::Object(map), None) => drop(map.shift_remove(&unescape(name))),
        (Value::Array(list), Some(value)) => *list.get_mut(name.parse::<usize>().ok()?)? = value,
        _ => return None,
    }
    Some(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn bytes_outside_of_what_is_put_back_stay_and_another_reader_agrees(
        good in made(3), fault in made(3), layout in layout(), choice in any::<prop::sample::Index>(),
    ) {
        for format in FORMATS {
            // A fault is some of another document: members changed, removed and added.
            let mut broken = good.clone();
            for (name, value) in &fault {
                match (broken.get(name), value) {
                    (Some(_), Made::Leaf(Leaf::Flag(_))) => drop(broken.remove(name)),
                    _ => drop(broken.insert(name.clone(), value.clone())),
                }
            }
            let (good, current) = (written(&good, format, layout), written(&broken, format, layout));
            if good.trim().is_empty() || current.trim().is_empty() {
                continue;
            }
            let (before, wanted) = (read(&current, format), read(&good, format));
            let found = differences(&before, &wanted);
            if found.is_empty() {
                continue;
            }
            let path = &found[choice.index(found.len())].path;
            let Ok(after) = restore(&current, &good, std::slice::from_ref(path), format) else {
                // Only where a mapping is made or emptied, or stands in another layout, may it be given up.
                let (now, then) = (before.root.at(path), wanted.root.at(path));
                let scalar = |node: Option<&Node>| node.is_some_and(|it| matches!(it.kind, Kind::Scalar(_)));
                prop_assert!(!(scalar(now) && scalar(then)), "{format:?} {path}\n{current}\n{good}");
                continue;
            };
            for found in differences(&before, &read(&after, format)) {
                prop_assert!(within(&found.path, path), "{format:?}: {} is outside of {path}", found.path);
            }
            if let Some(now) = before.root.at(path).filter(|_| wanted.root.at(path).is_some()) {
                prop_assert!(after.starts_with(&current[..now.span.start]), "{format:?} {path}\n{current}\n{after}");
                prop_assert!(after.ends_with(&current[now.span.end..]), "{format:?} {path}\n{current}\n{after}");
            } else {
                // Every line but those of the member is there, in its order.
                let mut lines = after.lines().map(|it| it.trim_end_matches(',').to_owned());
                let changed = similar_lines(&current, &after);
                prop_assert!(changed, "{format:?} {path}\n{current}\n{after}");
                prop_assert!(lines.next().is_some() || after.is_empty());
            }
            if let (Some(mut expected), Some(theirs), Some(seen)) =
                (independently(&current, format), independently(&good, format), independently(&after, format))
                && put(&mut expected, path, theirs.pointer(path).cloned()).is_some()
            {
                prop_assert_eq!(seen, expected, "{:?} {}\n{}", format, path, after);
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,60}", other in "[-{}\\[\\]:,a-c\"'#&*|>=\n \\\\]{0,40}") {
        for format in FORMATS {
            for text in [&text, &other] {
                if let Ok(document) = parse(text, format) {
                    let _ = document.value();
                    let _ = restore(text, &text.clone(), &["/a".to_owned()], format);
                }
            }
        }
    }

    #[test]
    fn what_is_read_is_what_another_reader_reads(good in made(3), layout in layout()) {
        for format in FORMATS {
            let text = written(&good, format, layout);
            if let (Ok(document), Some(seen)) = (parse(&text, format), independently(&text, format)) {
                let paths = |value: &Value| -> Vec<String> { all_paths(value, String::new()) };
                let (mut ours, mut theirs) = (paths(&document.value()), paths(&seen));
                ours.sort();
                theirs.sort();
                prop_assert_eq!(ours, theirs, "{:?}\n{}", format, text);
            }
        }
    }
}

fn all_paths(value: &Value, at: String) -> Vec<String> {
    match value {
        Value::Object(map) => {
            map.iter().flat_map(|(name, value)| all_paths(value, format!("{at}/{}", escape(name)))).collect()
        }
        Value::Array(list) => {
            list.iter().enumerate().flat_map(|(index, value)| all_paths(value, format!("{at}/{index}"))).collect()
        }
        _ => vec![at],
    }
}

/// Whether one of two texts is the other with something cut out of one place.
fn similar_lines(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() < other.len() { (one, other) } else { (other, one) };
    let head = short.bytes().zip(long.bytes()).take_while(|(a, b)| a == b).count();
    let tail = short.bytes().rev().zip(long.bytes().rev()).take_while(|(a, b)| a == b).count();
    head + tail >= short.len()
}
