//! Secrets that are known by their own form, wherever they stand.

use super::Span;
use super::encoded;
use regex::Regex;
use std::sync::LazyLock;

/// A form: a pattern whose first group is the secret, and what else must be true of it.
struct Form {
    pattern: &'static str,
    is_secret: Check,
}

type Check = fn(&str) -> bool;

const fn form(pattern: &'static str) -> Form {
    Form { pattern, is_secret: |_| true }
}

const fn checked(pattern: &'static str, is_secret: Check) -> Form {
    Form { pattern, is_secret }
}

/// `\b` also matches after a line break that is written as `\n`.
const FORMS: [Form; 48] = [
    // Blocks. What is cut off at an end is a secret up to that end.
    form(r"(?s)(-{4,5} ?BEGIN [A-Za-z0-9 ]{1,64}-{4,5}.*?(?:-{4,5} ?END [A-Za-z0-9 ]{1,64}(?:-{4,5}|\z)|\z))"),
    form(r"((?:[A-Za-z0-9+/=]|\\[nr]|\s)*-{4,5} ?END [A-Za-z0-9 ]{1,64}-{4,5})"),
    form(r"(?s)Private-Lines: ?\d+(.*?)(?:Private-MAC|\z)"),
    form(r"(LS0tLS1CRUdJTi[A-Za-z0-9+/=_-]*)"),
    // Models.
    form(r"(sk-ant-[A-Za-z0-9_-]{8,})"),
    checked(r"\b(sk-[A-Za-z0-9_-]{13,})", |it| {
        it.bytes().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
    }),
    form(r"\b(hf_[A-Za-z0-9]{20,})"),
    // Code hosts and package registries.
    form(r"(gh[pousr]_[A-Za-z0-9]{12,})"),
    form(r"(github_pat_[A-Za-z0-9_]{12,})"),
    form(r"(gl(?:pat|ptt|dt|rt|cbt|ft|soat|agent|imt|oas|ffct)-[A-Za-z0-9_.-]{12,})"),
    form(r"(npm_[A-Za-z0-9]{20,})"),
    form(r"(pypi-AgE[A-Za-z0-9_-]{16,})"),
    form(r"(dckr_(?:pat|oat)_[A-Za-z0-9_-]{16,})"),
    // Clouds.
    form(r"\b((?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AROA|ANPA)[A-Z0-9]{12,})"),
    form(r"(AIza[A-Za-z0-9_-]{30,})"),
    form(r"(ya29\.[A-Za-z0-9_-]{16,})"),
    form(r"(GOCSPX-[A-Za-z0-9_-]{16,})"),
    form(r"\b(1//0[A-Za-z0-9_-]{20,})"),
    form(r"([A-Za-z0-9_.~-]{3}[0-9]Q~[A-Za-z0-9_.~-]{28,})"),
    form(r"(do[opr]_v1_[a-f0-9]{32,})"),
    form(r"(dapi[a-f0-9]{32,})"),
    // Services.
    form(r"(xox[a-z]-[A-Za-z0-9-]{10,})"),
    form(r"(xapp-[0-9]-[A-Za-z0-9-]{10,})"),
    form(r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9/_+-]{16,})"),
    form(r"discord(?:app)?\.com/api/webhooks/([0-9]+/[A-Za-z0-9_-]{16,})"),
    form(r"([rsp]k_(?:live|test)_[A-Za-z0-9]{10,})"),
    form(r"(whsec_[A-Za-z0-9+/=_-]{16,})"),
    form(r"(SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,})"),
    form(r"\b((?:AC|SK)[a-f0-9]{32})"),
    form(r"\b([0-9]{8,10}:AA[A-Za-z0-9_-]{30,})"),
    form(r"(gl(?:sa|c)_[A-Za-z0-9+/=_-]{20,})"),
    form(r"(hv[sbr]\.[A-Za-z0-9_-]{20,})"),
    form(r"(AGE-SECRET-KEY-1[0-9A-Z]{20,})"),
    // Tokens of any service.
    checked(r"(eyJ[A-Za-z0-9_-]{13,}(?:\.[A-Za-z0-9_-]*){0,4}=*)", mixed),
    checked(r"(?i:\bbasic)\s+([A-Za-z0-9+/_-]{4,}={0,2})", encoded::is_user_and_password),
    checked(r"(?i:\bbearer)\s+([A-Za-z0-9._~+/-]{16,}=*)", |it| it.bytes().any(|byte| byte.is_ascii_digit())),
    // Passwords by what stands around them.
    form(r"(?i:\b(?:login|user)\s+\S{1,128}\s+(?:account\s+\S{1,128}\s+)?passw(?:or)?d\s+)([^\s'\x22]\S*)"),
    form(r"(?i:\bmachine\s+\S{1,256}\s+passw(?:or)?d\s+)([^\s'\x22]\S*)"),
    form(r"(?m)^[ +-]?(?:[A-Za-z0-9_.-]{1,253}|\*):(?:[0-9]{3,5}|\*):[^:\s]{1,64}:[^:\s]{1,64}:(\S+)$"),
    form(r"(?i:\b(?:password|identified by)\s+)'([^']+)'"),
    form(r#"\b[A-Za-z0-9_.-]{1,64}:([^\s"'()/]{1,256})@(?:tcp|unix|udp)\("#),
    form(r"(?i)\bcurl\s(?:[^\n]{0,256}\s)?(?:-u|--user)[ =]?['\x22]?[^\s:'\x22]{1,128}:([^\s'\x22]+)"),
    form(r"(?i)\bsshpass\s+-p\s*['\x22]?([^\s'\x22]+)"),
    form(r"\bredis-cli\s(?:[^\n]{0,256}\s)?-a\s+['\x22]?([^\s'\x22]+)"),
    form(r"\b(?:mysql|mariadb)[a-z-]*\s(?:[^\n]{0,256}\s)?-p['\x22]?([^\s'\x22]+)"),
    form(r"(?i)\bjdbc:oracle:\w{1,16}:[^/@\s]{1,128}/([^@\s]{1,256})@"),
    form(r"(?m)^[ \t+-]{0,64}(?:requirepass|masterauth)\s+['\x22]?([^\s'\x22]+)"),
    checked(r"(?i:\b(?:password|passphrase|secret|token|key) (?:is|was)[ :]+)['\x22`]?([^\s'\x22`]{6,})", |it| {
        let it = it.trim_end_matches(['.', ',', ';', ':', ')', '!', '?']);
        it.bytes().any(|byte| byte.is_ascii_digit()) && it.bytes().any(|byte| byte.is_ascii_alphabetic())
    }),
];

/// One by one: together they are too many for the quick way of the engine. A test compiles every pattern, so that none
/// is left out.
static COMPILED: LazyLock<Option<Vec<(Regex, Check)>>> = LazyLock::new(|| {
    let compile = |form: &Form| {
        let pattern = form.pattern.replace(r"\b", r"(?:(?-u:\b)|\\[nrt])");
        Some((Regex::new(&pattern).ok()?, form.is_secret))
    };
    FORMS.iter().map(compile).collect()
});

/// Every secret of a known form.
pub(super) fn find(text: &str, spans: &mut Vec<Span>) {
    let Some(compiled) = &*COMPILED else {
        // Patterns that do not compile cannot say what is safe.
        spans.push(0..text.len());
        return;
    };
    for (pattern, is_secret) in compiled {
        let found = pattern.captures_iter(text).filter_map(|captures| captures.get(1));
        spans.extend(found.filter(|found| is_secret(found.as_str())).map(|found| found.range()));
    }
}

/// Letters of both cases and digits: no word of a program's text.
fn mixed(text: &str) -> bool {
    let has = |class: fn(&u8) -> bool| text.as_bytes().iter().any(class);
    has(u8::is_ascii_digit) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        for form in &FORMS {
            Regex::new(form.pattern).unwrap();
        }
        assert!(COMPILED.is_some());
    }
}
