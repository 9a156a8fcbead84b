//! What is known of the models: how one id names another model's, and what each can be asked for. Pure.

/// What a model can be asked for. Asking for more is a 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// `thinking: {"type": "adaptive"}`.
    pub adaptive_thinking: bool,
    /// `thinking: {"type": "disabled"}` at an effort up to high.
    pub thinking_can_be_disabled: bool,
    /// `output_config.effort`.
    pub effort: bool,
}

/// Models before the ones that think adaptively: they know neither that nor `effort`.
const BEFORE_ADAPTIVE_THINKING: [&str; 9] = [
    "claude-2",
    "claude-3",
    "claude-instant",
    "claude-opus-4",
    "claude-sonnet-4",
    "claude-haiku-4",
    "claude-4",
    "claude-v1",
    "claude-v2",
];

impl Capabilities {
    /// Of the model with this id; one that is not known is taken for a present one.
    pub fn of(model: &str) -> Self {
        let name = name(model);
        let older = BEFORE_ADAPTIVE_THINKING.iter().any(|family| {
            name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
        });
        Self { adaptive_thinking: !older, thinking_can_be_disabled: name == "claude-haiku-5-5", effort: !older }
    }
}

/// The plain name of the model that an id means: without a provider (`anthropic/`, `eu.anthropic.`), a date
/// (`-20261001`, `@20261001`), a revision (`-v1:0`) or `-latest`.
pub(super) fn name(id: &str) -> &str {
    let mut name = id.trim().rsplit(['/', '.']).next().unwrap_or(id);
    loop {
        let shorter = without_revision(name)
            .or_else(|| name.strip_suffix("-latest"))
            .or_else(|| name.strip_suffix("@latest"))
            .or_else(|| without_date(name));
        match shorter {
            Some(shorter) => name = shorter,
            None => return name,
        }
    }
}

fn without_date(name: &str) -> Option<&str> {
    let (rest, date) = name.rsplit_once(['-', '@'])?;
    (date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit())).then_some(rest)
}

/// Bedrock's `-v1` and `-v1:0`.
fn without_revision(name: &str) -> Option<&str> {
    let (rest, revision) = name.rsplit_once("-v")?;
    let mut parts = revision.split(':');
    let is_number =
        |part: Option<&str>| part.is_some_and(|it| !it.is_empty() && it.bytes().all(|b| b.is_ascii_digit()));
    let whole =
        is_number(parts.next()) && parts.next().is_none_or(|part| is_number(Some(part))) && parts.next().is_none();
    whole.then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_means_the_model_that_it_names() {
        for id in [
            "claude-haiku-5-5",
            "claude-haiku-5-5-20261001",
            "claude-haiku-5-5@20261001",
            "claude-haiku-5-5-latest",
            "claude-haiku-5-5@latest",
            "anthropic/claude-haiku-5-5",
            "anthropic.claude-haiku-5-5",
            "eu.anthropic.claude-haiku-5-5",
            "anthropic.claude-haiku-5-5-v1:0",
            "us.anthropic.claude-haiku-5-5-20261001-v1:0",
            "openrouter/anthropic/claude-haiku-5-5-20261001",
        ] {
            assert_eq!(name(id), "claude-haiku-5-5", "{id}");
        }
        for id in ["claude-opus-4-1", "claude-haiku-5-55", "claude-haiku-5-5-turbo", "gpt", "", "-v", "@"] {
            assert_eq!(name(id), id);
        }
    }

    #[test]
    fn no_model_is_asked_for_what_it_does_not_have() {
        let of = |id| {
            let Capabilities { adaptive_thinking, thinking_can_be_disabled, effort } = Capabilities::of(id);
            (adaptive_thinking, thinking_can_be_disabled, effort)
        };
        for (id, expected) in [
            ("claude-haiku-5-5-20261001", (true, true, true)),
            ("claude-opus-5-5", (true, false, true)),
            ("claude-sonnet-5-5", (true, false, true)),
            ("claude-fable-5-2", (true, false, true)),
            ("claude-haiku-4-5", (false, false, false)),
            ("claude-opus-4-1-20250805", (false, false, false)),
            ("claude-3-5-haiku-latest", (false, false, false)),
            ("gateway/small", (true, false, true)),
        ] {
            assert_eq!(of(id), expected, "{id}");
        }
    }
}
