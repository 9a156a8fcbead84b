//! Secrets that must go, by where they stand.

use crate::document::Format;
use crate::redact::{MARKER, block, changes, diff, line, names_a_secret, remember, value};
use base64::Engine;
use serde_json::json;

/// The text as a block, as a line, and what must not be in either.
fn assert_hidden(text: &str, secret: &str) {
    for shown in [block(text, 10_000), line(text, 10_000)] {
        assert!(!shown.contains(secret), "{secret:?} of {text:?} is in {shown:?}");
        let tail: String = secret.chars().skip(secret.chars().count().saturating_sub(8)).collect();
        assert!(!shown.contains(&tail), "the end of {secret:?} of {text:?} is in {shown:?}");
    }
}

#[test]
fn a_value_behind_a_secret_name_is_masked_and_the_rest_stays() {
    let table = [
        (r#"{"password": "hunter2", "delay_ms": 5}"#, r#"{"password": "«redacted»", "delay_ms": 5}"#),
        (r#"{"password":12345,"delay_ms":5}"#, r#"{"password":«redacted»,"delay_ms":5}"#),
        (r#"{"credentials":{"a":["b",{"c":"}"}]},"d":5}"#, r#"{"credentials":«redacted»,"d":5}"#),
        (r#"{"tokens":["a","b"],"max_tokens":4096}"#, r#"{"tokens":«redacted»,"max_tokens":4096}"#),
        (r#"{"password":"a\"b\\","d":5}"#, r#"{"password":"«redacted»","d":5}"#),
        (r#""{\"password\":\"a\\\"b\",\"d\":5}""#, r#""{\"password\":\"«redacted»\",\"d\":5}""#),
        ("Authorization: Bearer abc.def", "Authorization: Bearer «redacted»"),
        ("curl -H 'Authorization: Bearer abc.def' http://a/b", "curl -H 'Authorization: Bearer «redacted»' http://a/b"),
        ("Set-Cookie: sid=abc; Path=/; HttpOnly", "Set-Cookie: «redacted»"),
        ("now with password=hunter2 by bob", "now with password=«redacted» by bob"),
        ("DB_PASSWORD=a,b;c", "DB_PASSWORD=«redacted»"),
        (r#"{"pw": "hunter2", "d": 5}"#, r#"{"pw": "«redacted»", "d": 5}"#),
        ("PGPASS=hunter2", "PGPASS=«redacted»"),
        ("ssid=a psk=hunter2", "ssid=a psk=«redacted»"),
        ("<passcode>hunter2</passcode>", "<passcode>«redacted»</passcode>"),
        (r#"mnemonic: "abandon ability able""#, r#"mnemonic: "«redacted»""#),
        ("mysql --password hunter2 --user bob", "mysql --password «redacted» --user bob"),
        (r#"["--password","hunter2","--user","bob"]"#, r#"["--password","«redacted»","--user","bob"]"#),
        ("GET /a?token=abc&page=2 200", "GET /a?token=«redacted»&page=2 200"),
        ("GET /a?sv=1&sig=abc%3D&se=2 200", "GET /a?sv=1&sig=«redacted»&se=2 200"),
        ("Server=db;User Id=bob;Password=a=b;Timeout=5", "Server=db;User Id=bob;Password=«redacted»;Timeout=5"),
        ("Server=db;Pwd=hunter2;User Id=bob", "Server=db;Pwd=«redacted»;User Id=bob"),
        ("host=db user=bob password='a b' port=5", "host=db user=bob password='«redacted»' port=5"),
        ("postgres://bob:hunter2@db:5432/app", "postgres://bob:«redacted»@db:5432/app"),
        ("redis://:p@ss@cache/0 timed out", "redis://:«redacted»@cache/0 timed out"),
        (r#""postgres:\/\/bob:hunter2@db\/app""#, r#""postgres:\/\/bob:«redacted»@db\/app""#),
        ("bob:hunter2@tcp(db:3306)/app", "bob:«redacted»@tcp(db:3306)/app"),
        ("<user>bob</user><password>hunter2</password>", "<user>bob</user><password>«redacted»</password>"),
        ("machine a login bob password hunter2", "machine a login bob password «redacted»"),
        ("db:5432:app:bob:hunter2", "db:5432:app:bob:«redacted»"),
        (
            r#"[{"name":"DB_PASSWORD","value":"x"},{"name":"A","value":"y"}]"#,
            r#"[{"name":"DB_PASSWORD","value":"«redacted»"},{"name":"A","value":"y"}]"#,
        ),
        ("Name:DB_PASSWORD,Value:hunter2,ValueFrom:nil", "Name:DB_PASSWORD,Value:«redacted»,ValueFrom:nil"),
        (
            r#"{"kind":"Secret","data":{"a":"eA=="},"type":"Opaque"}"#,
            r#"{"kind":"Secret","data":«redacted»,"type":"Opaque"}"#,
        ),
        ("ALTER USER bob PASSWORD 'hunter2'", "ALTER USER bob PASSWORD '«redacted»'"),
        ("seen ghp_0123456789abcdef here", "seen «redacted» here"),
        ("redis-cli -h cache -a hunter2 ping", "redis-cli -h cache -a «redacted» ping"),
        ("mysqldump -ubob -phunter2 app", "mysqldump -ubob -p«redacted» app"),
        ("jdbc:oracle:thin:bob/hunter2@//db:1521/app", "jdbc:oracle:thin:bob/«redacted»@//db:1521/app"),
        ("requirepass hunter2", "requirepass «redacted»"),
        ("the password is hunter2, and", "the password is «redacted» and"),
    ];
    for (text, expected) in table {
        assert_eq!(line(text, 1000), expected, "{text}");
        assert_eq!(block(text, 1000), expected, "{text}");
    }
}

#[test]
fn blocks_of_yaml_go_as_a_whole_and_their_neighbours_stay() {
    let table = [
        ("a: 1\npassword: my long phrase\nb: 2", "a: 1\npassword: «redacted»\nb: 2"),
        ("a:\n  password: |\n    one\n\n    two\n  b: 2", "a:\n  password: «redacted»\n  b: 2"),
        ("credentials:\n  user: bob\n  word: x\nb: 2", "credentials:\n  «redacted»\nb: 2"),
        ("passwords:\n- one\n- two\nb: 2", "passwords:\n- «redacted»\nb: 2"),
        ("+password: >-\n+  one\n+b: 2", "+password: «redacted»\n+b: 2"),
        (
            "- name: DB_PASSWORD\n  value: a b\n- name: A\n  value: c",
            "- name: DB_PASSWORD\n  value: «redacted»\n- name: A\n  value: c",
        ),
        ("kind: Secret\ndata:\n  a: eA==\nmetadata: {}", "kind: Secret\ndata:\n  «redacted»\nmetadata: {}"),
        ("args:\n- --password\n- hunter2\n- --user", "args:\n- --password\n- «redacted»\n- --user"),
        ("token:\nnext: 5", "token:\nnext: 5"),
        ("password: # of the database\n  one\nb: 2", "password: # of the database\n  «redacted»\nb: 2"),
        ("password: &shared |\n  one\n  two\nb: 2", "password: «redacted»\nb: 2"),
        ("password: !!str\n  one\nb: 2", "password: !!str\n  «redacted»\nb: 2"),
        ("password = \"\"\"\none\ntwo\"\"\"\nb = 2", "password = \"\"\"«redacted»\"\"\"\nb = 2"),
    ];
    for (text, expected) in table {
        assert_eq!(block(text, 1000), expected, "{text}");
    }
}

#[test]
fn secrets_in_a_string_of_a_string_are_found() {
    let yaml = r#"{"data":{"a.yaml":"user: bob\npassword: my phrase\nport: 5\n"}}"#;
    assert_eq!(line(yaml, 1000), r#"{"data":{"a.yaml":"user: bob\npassword: «redacted»\nport: 5\n"}}"#);
    assert_hidden(r#"{"a.yaml":"password: |\n  one-secret\n  two-secret\nport: 5\n"}"#, "two-secret");
    assert_hidden(r#"{"a.env":"A=1\nPASSWORD=hunter2-hunter2\nB=2"}"#, "hunter2-hunter2");
    assert_hidden(r#"{"key":"A\nsk-aaaaaaaaaaaaaaaaaa1"}"#, "sk-aaaaaaaaaaaaaaaaaa1");
}

#[test]
fn a_pem_block_goes_as_a_whole_however_it_is_written_or_cut() {
    let pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIabcdefghijklmnop\nqrstuvwx\n-----END RSA PRIVATE KEY-----";
    assert_eq!(block(&format!("a\n{pem}\nb"), 1000), "a\n«redacted»\nb");
    assert_eq!(line(&format!("a {} b", pem.replace('\n', "\\n")), 1000), "a «redacted» b");
    assert_eq!(block(&format!("a\n{}", &pem[..60]), 1000), "a\n«redacted»");
    assert_hidden(&pem[40..], "qrstuvwx");
}

#[test]
fn base64_of_a_secret_is_a_secret() {
    for text in ["password: hunter2", "postgres://bob:hunter2@db/app", "export A=1\nTOKEN=xyz"] {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        assert_hidden(&format!("config: {encoded} end"), encoded.trim_end_matches('='));
    }
    assert_hidden("sent Basic Ym9iOmh1bnRlcjI= to it", "Ym9iOmh1bnRlcjI");
    assert_eq!(line("Basic authentication is on", 100), "Basic authentication is on");
}

#[test]
fn words_that_look_random_are_masked_wherever_they_stand() {
    let words = [
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "3f2a9c0b7d1e4f5a6b8c9d0e1f2a3b4c",
        "q7Zk2Lp9Xv4Tn8Rb3Wm6",
        "k3j9x2m7q1w8e5r4t6y0u2i1",
    ];
    for word in words {
        assert_eq!(line(&format!("got {word}, then 5"), 100), "got «redacted», then 5");
    }
}

#[test]
fn a_remembered_secret_is_masked_as_it_is_in_base64_and_cut() {
    let secret = "correct horse battery staple";
    remember(secret);
    remember("short");
    assert_eq!(line("say correct horse battery staple now", 100), "say «redacted» now");
    assert_hidden(&base64::engine::general_purpose::STANDARD.encode(secret), "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ");
    assert_eq!(line("say correct horse batt…", 100), "say «redacted»…");
    assert_eq!(line("a short word", 100), "a short word");
}

#[test]
fn a_value_at_a_secret_path_is_masked_and_so_is_a_secret_in_any_value() {
    assert_eq!(value("/db/api_key", &json!("x")), MARKER);
    assert_eq!(value("/credentials/user", &json!("bob")), MARKER);
    assert_eq!(value("/dsn", &json!("postgres://bob:hunter2@db/app")), r#""postgres://bob:«redacted»@db/app""#);
    assert_eq!(value("/db", &json!({"password": "x", "port": 5})), r#"{"password":"«redacted»","port":5}"#);
    assert_eq!(value("/delay_ms", &json!(500)), "500");
    assert_eq!(value("/max_tokens", &json!(500)), "500");
    assert!(names_a_secret("ANTHROPIC_API_KEY") && !names_a_secret("HARNESS_LOG"));
}

#[test]
fn a_diff_shows_no_secret_and_says_when_one_changes() {
    let before = "a: 1\npassword: |\n  one\n  two\n  three\nb: 2\n";
    let after = "a: 1\npassword: |\n  one\n  two\n  other\nb: 3\n";
    let shown = diff(before, after, 1000);
    assert!(shown.contains("-b: 2\n+b: 3") && !shown.contains("three") && !shown.contains("other"), "{shown}");
    assert!(shown.ends_with("# values that are shown as «redacted» differ, too\n"), "{shown}");
    assert!(!diff(before, &before.replace("b: 2", "b: 3"), 1000).contains("differ"));
}

#[test]
fn changes_of_a_text_that_is_no_json_show_no_secret() {
    let found = changes(Format::Text, "password: one\nb: 2", "password: two\nb: 2");
    assert!(
        found.iter().all(|it| !format!("{it:?}").contains("one") && !format!("{it:?}").contains("two")),
        "{found:?}"
    );
}

#[test]
fn control_characters_never_pass() {
    assert_eq!(line("a\x1b[31mb\nc", 256), "a [31mb c");
    assert_eq!(block("a\x1bb\nc\td", 256), "ab\nc d");
}

#[test]
fn long_text_is_cut_with_a_sign() {
    assert_eq!(line("abcdef", 4), "abc…");
}
