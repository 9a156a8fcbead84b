//! A secret of any known form, anywhere in any text.

use crate::redact::{block, line};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

/// Secrets that are known by their own form, wherever they stand.
fn token() -> impl Strategy<Value = String> {
    let forms = [
        "sk-ant-api03-[A-Za-z0-9_-]{40}",
        "sk-proj-[A-Za-z0-9]{20}[0-9][A-Za-z0-9_-]{20}",
        "gh[pousr]_[A-Za-z0-9]{36}",
        "github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
        "glpat-[A-Za-z0-9_-]{19}[A-Za-z0-9]",
        "xox[bp]-[0-9]{11}-[0-9]{11}-[A-Za-z0-9]{24}",
        "(AKIA|ASIA)[A-Z0-9]{16}",
        "AIza[A-Za-z0-9_-]{34}[A-Za-z0-9]",
        "sk_live_[A-Za-z0-9]{24}",
        "npm_[A-Za-z0-9]{36}",
        "pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{60}",
        "dop_v1_[a-f0-9]{64}",
        "SG\\.[A-Za-z0-9_-]{22}\\.[A-Za-z0-9_-]{43}",
        "(AC|SK)[a-f0-9]{32}",
        "eyJhbGciOiJSUzI1NiIsImtpZCI6Ijk[A-Za-z0-9]{10}\\.eyJ[A-Za-z0-9_-]{60}\\.[A-Za-z0-9_-]{80}",
        "[A-Za-z0-9_~.]{3}8Q~[A-Za-z0-9_~.-]{33}[A-Za-z0-9]",
        "glsa_[A-Za-z0-9]{32}_[a-f0-9]{8}",
        "hvs\\.[A-Za-z0-9]{24}",
    ];
    proptest::sample::select(forms.to_vec()).prop_flat_map(|form| proptest::string::string_regex(form).unwrap())
}

/// Secrets that only their name, or what is around them, tells.
fn password() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_.~!*+-]{7,30}[A-Za-z0-9]".prop_filter("it is another flag", |it| !it.starts_with('-'))
}

/// Where a token may stand: `{}`.
const PLACES: [&str; 12] = [
    "{}",
    r#"{"a":"{}","b":5}"#,
    r#"{"a":"{\"b\":\"{}\"}"}"#,
    r#"{"a.env":"A=1\n{}\nB=2"}"#,
    "a: {}\nb: 5",
    "a:\n- {}\n- b",
    "X-Header: {}",
    "2026-11-23T07:42:01Z error: refused {}: try again",
    "https://host/path?q={}&r=5",
    "https://host/{}/r",
    "+  value: {}",
    "({}), '{}'",
];

/// Where a password may stand.
const NAMED_PLACES: [&str; 24] = [
    r#"{"a":1,"password":"{}","b":5}"#,
    r#"{"a":{"clientSecret": "{}" } , "b":5}"#,
    r#"{"credentials":{"user":"bob","words":["a","{}"]},"b":5}"#,
    r#"{"a":"{\"password\":\"{}\",\"b\":5}"}"#,
    r#"{"a.yaml":"b: 1\npassword: {}\nc: 2\n"}"#,
    r#"{"a.yaml":"b: 1\npassword: |\n  {}\nc: 2\n"}"#,
    r#"[{"name":"DB_PASSWORD","value":"{}"}]"#,
    r#"{"apiVersion":"v1","kind":"Secret","stringData":{"a":"{}"}}"#,
    "a: 1\npassword: {}\nb: 2",
    "a: 1\napi-key: \"{}\"\nb: 2",
    "db:\n  password: |\n    {}\n    {}\n  port: 5",
    "- name: DB_PASSWORD\n  value: {}\n- name: A",
    "+  password: {}\n   b: 2",
    "DB_PASSWORD={}\nA=1",
    "export API_TOKEN='{}'",
    "mysql -u bob --password {} -h db",
    "postgres://bob:{}@db:5432/app?ssl=1",
    "Server=db;User Id=bob;Password={};Encrypt=true",
    "host=db password={} user=bob",
    "Cookie: a=b; session={}; c=d",
    "Authorization: Token {}",
    "GET /login?user=bob&access_token={}&b=5 HTTP/1.1",
    "machine host login bob password {}",
    "<password>{}</password>",
];

fn assert_hidden(shown: &str, secret: &str, text: &str) -> Result<(), TestCaseError> {
    prop_assert!(!shown.contains(secret), "{} is in {} (of {})", secret, shown, text);
    let tail = &secret[secret.len() - 8..];
    prop_assert!(!shown.contains(tail), "the end of {} is in {} (of {})", secret, shown, text);
    Ok(())
}

/// Text that holds names, signs and quotes more often than chance would have it.
fn crafted() -> impl Strategy<Value = String> {
    let parts = [
        "password",
        "token",
        "name",
        "value",
        ": ",
        "=",
        "\"",
        "'",
        "\\",
        "\\n",
        "\n",
        "  ",
        "- ",
        "+",
        "{",
        "}",
        "[",
        "]",
        ",",
        ";",
        "&",
        "|",
        ">",
        "<",
        "</",
        "://",
        "@",
        "bob",
        "--password ",
        "«redacted»",
        "kind: Secret",
        "data",
        "…",
        "ü",
        "-----BEGIN A-----",
        "-----END A-----",
        "Bearer ",
        "cG Fzc3dvcmQ6IGE=",
        "cGFzc3dvcmQ6IGE=",
        "3f2a9c0b7d1e4f5a6b8c9d0e",
        "sha256:",
    ];
    prop::collection::vec(proptest::sample::select(parts.to_vec()), 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn a_token_never_shows_wherever_it_stands(token in token(), place in 0..PLACES.len(), around in "[^A-Za-z0-9]{0,12}") {
        let text = format!("{around}{}{around}", PLACES[place].replace("{}", &token));
        assert_hidden(&line(&text, 10_000), &token, &text)?;
        assert_hidden(&block(&text, 10_000), &token, &text)?;
    }

    #[test]
    fn a_password_never_shows_behind_its_name(password in password(), place in 0..NAMED_PLACES.len()) {
        let text = NAMED_PLACES[place].replace("{}", &password);
        assert_hidden(&line(&text, 10_000), &password, &text)?;
        assert_hidden(&block(&text, 10_000), &password, &text)?;
    }

    #[test]
    fn nor_in_base64(password in password(), place in 0..NAMED_PLACES.len()) {
        let encoded = STANDARD.encode(NAMED_PLACES[place].replace("{}", &password));
        let text = format!("config: {encoded} end");
        assert_hidden(&line(&text, 10_000), encoded.trim_end_matches('='), &text)?;
    }

    #[test]
    fn a_pem_block_never_shows_however_it_is_written_or_cut(
        body in prop::collection::vec("[A-Za-z0-9+/]{64}", 1..6), last in "[A-Za-z0-9+/]{8,60}", cut in 0_usize..60, escaped: bool,
    ) {
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n{last}\n-----END PRIVATE KEY-----\n", body.join("\n"));
        let whole = if escaped { pem.replace('\n', "\\n") } else { pem };
        let text = format!("key: {}", &whole[..whole.len() - cut.min(whole.len())]);
        for shown in [line(&text, 10_000), block(&text, 10_000)] {
            for part in body.iter().chain([&last]) {
                assert_hidden(&shown, part, &text)?;
            }
        }
    }

    #[test]
    fn redacting_twice_is_redacting_once_and_the_limit_holds(text in any::<String>(), crafted in crafted(), limit in 1_usize..300) {
        for text in [&text, &crafted] {
            for shown in [line(text, limit), block(text, limit)] {
                prop_assert!(shown.chars().count() <= limit);
            }
            let once = line(text, limit);
            prop_assert_eq!(line(&once, limit), once);
            let once = block(text, limit);
            prop_assert_eq!(block(&once, limit), once);
        }
    }
}

/// Parts of which a slow search would make a square.
#[test]
fn hostile_text_is_looked_through_in_linear_time() {
    let parts = [
        "a",
        "\\",
        "\"",
        "password",
        "password=\"",
        "password:\"\\",
        "password:{",
        "secret:{\"defaultMode\":",
        "\"password: x",
        "http://a:",
        "-----BEGIN A-----",
        "-----END A-----",
        "password: |\n",
        " password:\n ",
        "name: token ",
        "eyJ",
        "pwd=\"/",
        "a:5432:a:a:",
        "A1b2C3d4/",
        "token='",
        "--token ",
    ];
    for part in parts {
        let text = part.repeat(200_000 / part.len());
        let shown = line(&text, 100);
        assert!(shown.chars().count() <= 100 && !shown.is_empty(), "{part}");
    }
}
