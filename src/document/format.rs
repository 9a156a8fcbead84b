//! Which format a key's text has.

use crate::crd::ConfigMapKey;

/// As an `allow` list may say it.
pub use crate::crd::ConfigFormat as Format;

impl Format {
    /// The format of a key, by the ending of its name; without one that is known, by what its text is.
    pub fn of(key: &str, text: &str) -> Self {
        let name = key.rsplit('/').next().unwrap_or(key).to_ascii_lowercase();
        let ending = name.rsplit_once('.').map_or(name.as_str(), |(_, ending)| ending);
        match ending {
            "json" => Self::Json,
            "jsonc" | "json5" | "code-workspace" => Self::JsonWithComments,
            "yaml" | "yml" => Self::Yaml,
            "toml" => Self::Toml,
            "properties" => Self::Properties,
            "env" => Self::Env,
            "ini" | "cfg" | "cnf" => Self::Ini,
            _ => Self::by_content(text),
        }
    }

    /// The format of a key that an `allow` list names: as it says, or as it is told by the key and its text.
    pub fn of_key(key: &ConfigMapKey, text: &str) -> Self {
        key.format.unwrap_or_else(|| Self::of(&key.key, text))
    }

    fn by_content(text: &str) -> Self {
        let start = text.trim_start();
        // A broken document is one of its format, with the place where it breaks; `[` may begin a section, too.
        if start.starts_with('{') || (start.starts_with('[') && super::json::parse(text).is_ok()) {
            Self::Json
        } else if start.starts_with("---\n") || start.starts_with("---\r") {
            Self::Yaml
        } else {
            Self::Text
        }
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::JsonWithComments => "JSON with comments",
            Self::Yaml => "YAML",
            Self::Toml => "TOML",
            Self::Properties => "a properties file",
            Self::Env => "an env file",
            Self::Ini => "an INI file",
            Self::Text => "a document with paths",
        }
    }
}
