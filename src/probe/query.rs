//! What is asked: the grammar of an invariant's query.

use super::SyntaxError;
use std::fmt;
use url::Url;

/// A query, parsed. Displays as the text that it was parsed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    text: String,
    kind: Kind,
    url: Url,
}

/// What of the answer is the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The status code: `http://…`, `https://…`.
    Status,
    /// The milliseconds until the whole answer was there: `latency:http://…`.
    Latency,
}

const SCHEMES: &str = "http://, https:// or latency:http(s)://";

impl Query {
    /// Reads a query.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let (kind, rest, offset) = match text.strip_prefix("latency:") {
            Some(rest) => (Kind::Latency, rest, "latency:".len()),
            None => (Kind::Status, text, 0),
        };
        if !(rest.starts_with("http://") || rest.starts_with("https://")) {
            return Err(SyntaxError::new(text, offset, SCHEMES));
        }
        let authority = offset + rest.find("//").map_or(0, |at| at + 2);
        let url = Url::parse(rest)
            .map_err(|error| SyntaxError::new(text, authority, format!("HOST[:PORT]/PATH ({error})")))?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(SyntaxError::new(text, authority, "a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            // Not shown again: what was found may be a password.
            return Err(SyntaxError {
                position: authority,
                found: "a user name or a password".to_owned(),
                expected: "a host: credentials do not belong in a query".to_owned(),
            });
        }
        Ok(Self { text: text.to_owned(), kind, url })
    }

    /// What is reached.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// What of the answer is the value.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_queries_of_the_original_are_understood_verbatim() {
        let status = Query::parse("http://localhost:8001/health").unwrap();
        assert_eq!((status.kind(), status.url().port()), (Kind::Status, Some(8001)));
        let latency = Query::parse("latency:http://localhost:8001/health").unwrap();
        assert_eq!(latency.kind(), Kind::Latency);
        assert_eq!(latency.to_string(), "latency:http://localhost:8001/health");
    }

    #[test]
    fn a_broken_query_says_where_and_what_was_expected() {
        let table = [
            ("", 0),
            ("ftp://a/", 0),
            ("latency:tcp://a", 8),
            ("http://", 7),
            ("http://[::1", 7),
            ("http://a:99999/", 7),
            ("http://user:secret@a/", 7),
        ];
        for (text, position) in table {
            assert_eq!(Query::parse(text).unwrap_err().position, position, "{text}");
        }
        let message = Query::parse("https://user:secret@a/").unwrap_err().to_string();
        assert!(!message.contains("secret"), "{message}");
        let message = Query::parse("ftp://a/").unwrap_err().to_string();
        assert_eq!(message, "at character 0: found `ftp://a/`, expected http://, https:// or latency:http(s)://");
    }

    proptest! {
        #[test]
        fn any_text_is_answered_without_a_panic(text in ".*") {
            let _ = Query::parse(&text);
            let _ = Query::parse(&format!("latency:http://{text}"));
        }
    }
}
