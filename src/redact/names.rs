//! Which names stand for a secret.

use regex::Regex;
use std::sync::LazyLock;

/// What a name in lower case, without its punctuation and its last digits, ends with if it stands for a secret.
const ENDINGS: [&str; 41] = [
    "password",
    "passwords",
    "passwordhash",
    "passwd",
    "passphrase",
    "passcode",
    "pgpass",
    "mnemonic",
    "seedphrase",
    "pwd",
    "secret",
    "secretid",
    "secretdata",
    "secretstring",
    "secretvalue",
    "token",
    "tokenvalue",
    "jwt",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "privatekeyid",
    "privkey",
    "sshkey",
    "tlskey",
    "keydata",
    "signingkey",
    "encryptionkey",
    "masterkey",
    "accountkey",
    "sharedkey",
    "authkey",
    "authorization",
    "credential",
    "credentials",
    "connectionstring",
    "sharedaccesssignature",
    "dockerconfigjson",
    "cookie",
    "sessionid",
];

/// How much of a name is looked at, from its end. Bytes.
const LOOKED_AT: usize = 64;

/// Which values a name hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hides {
    /// Whatever follows it.
    Everything,
    /// Only what follows an equals sign: `sig=…` of a signed URL, and not "signature: invalid".
    Assigned,
    /// Only strings, lists and objects: `tokens` is a list of secrets, or a number of words.
    Composed,
}

/// Which values this name hides, if any.
pub(super) fn hides(name: &str) -> Option<Hides> {
    let plain = plain(name);
    let ends = |plain: &str| ENDINGS.iter().any(|ending| plain.ends_with(ending));
    match plain.as_str() {
        "imagepullsecrets" | "serviceaccounttokens" => None,
        "sig" | "serviceaccounttoken" => Some(Hides::Assigned),
        "auth" | "sid" => Some(Hides::Everything),
        plain if ends(plain) || last_word_is_short(name) => Some(Hides::Everything),
        plain if plain.ends_with("signature") => Some(Hides::Assigned),
        plain if plain.strip_suffix('s').is_some_and(ends) => Some(Hides::Composed),
        _ => None,
    }
}

/// Whether cookies follow, which end with the line and not with a semicolon.
pub(super) fn is_cookie(name: &str) -> bool {
    plain(name).ends_with("cookie")
}

/// Whether the name may be the working directory of a shell.
pub(super) fn is_working_directory(name: &str) -> bool {
    matches!(plain(name).as_str(), "pwd" | "oldpwd")
}

/// Whether the text shows a Secret, whose `data` are all secrets, whatever their names.
pub(super) fn shows_a_secret_object(text: &str) -> bool {
    static KIND: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"\bkind\\*["']?\s*:\s*\\*["']?Secret(?:[^A-Za-z0-9]|$)"#).ok());
    KIND.as_ref().is_some_and(|kind| kind.is_match(text))
}

fn plain(name: &str) -> String {
    let bytes = name.as_bytes();
    let end = &bytes[bytes.len().saturating_sub(LOOKED_AT)..];
    let letters = end.iter().filter(|byte| byte.is_ascii_alphanumeric());
    let plain: String = letters.map(|byte| char::from(byte.to_ascii_lowercase())).collect();
    plain.trim_end_matches(|digit: char| digit.is_ascii_digit()).to_owned()
}

/// Short names of passwords and of keys that were agreed on: `DB_PASS`, `dbPass`, `PW`, `db-pw`, `wifiPsk`, but not
/// `bypass`.
fn last_word_is_short(name: &str) -> bool {
    let last = name.rsplit(['_', '-', '.']).next().unwrap_or_default().trim_end_matches(|it: char| it.is_ascii_digit());
    ["pass", "pw", "psk"].iter().any(|word| last.eq_ignore_ascii_case(word))
        || ["Pass", "Pw", "PW", "Psk", "PSK"].iter().any(|word| last.ends_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_in_every_spelling() {
        let names = [
            "password",
            "DB_PASSWORD",
            "dbPassword2",
            "X-Api-Key",
            "aws_secret_access_key",
            "spring.datasource.password",
            "clientSecret",
            "DB_PASS",
            "dbPass",
            "pw",
            "DB_PW",
            "dbPw2",
            "PGPASS",
            "psk",
            "wifi_psk",
            "wifiPsk",
            "passcode",
            "wallet.mnemonic",
            "_authToken",
            "Set-Cookie",
            "AccountKey",
            "private_key_id",
        ];
        for name in names {
            assert_eq!(hides(name), Some(Hides::Everything), "{name}");
        }
    }

    #[test]
    fn other_names_are_not() {
        let names = [
            "bypass",
            "compass",
            "mpw",
            "upsk",
            "mnemonics_enabled",
            "secretName",
            "tokenExpirationSeconds",
            "delay_ms",
            "key",
            "author",
            "design",
        ];
        for name in names {
            assert_eq!(hides(name), None, "{name}");
        }
    }

    #[test]
    fn a_number_of_tokens_is_no_secret_and_a_list_of_them_is() {
        assert_eq!(hides("max_tokens"), Some(Hides::Composed));
        assert_eq!(hides("X-Amz-Signature"), Some(Hides::Assigned));
    }
}
