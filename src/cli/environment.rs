//! `.env` in the working directory: the harness's own variables, and no others. A file that came with somebody's
//! sources must not choose a cluster, a program that is started, a proxy, or what a library does.

use std::io;

/// The variables that may stand in `.env`.
pub const OWN: [&str; 19] = [
    "HARNESS_LOG",
    "HARNESS_PLANNER",
    "HARNESS_DAY_DOLLARS",
    "HARNESS_DAY_TOKENS",
    "HARNESS_SOURCE",
    "HARNESS_PRICE",
    "HARNESS_MODEL_RESPONSE_TIMEOUT",
    "HARNESS_MODEL_IDLE_TIMEOUT",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_CUSTOM_HEADERS",
    "ANTHROPIC_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "ANTHROPIC_IDENTITY_TOKEN_FILE",
    "ANTHROPIC_FEDERATION_RULE_ID",
    "ANTHROPIC_ORGANIZATION_ID",
    "ANTHROPIC_SERVICE_ACCOUNT_ID",
    "ANTHROPIC_WORKSPACE_ID",
];

/// What is wrong with `.env`. It never shows a line, which may hold a key.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// The file cannot be read.
    #[error(".env in the working directory cannot be read: {0}")]
    Read(#[source] io::Error),
    /// A line is none.
    #[error(".env in the working directory cannot be understood; expected lines of the form NAME=VALUE")]
    Parse,
}

/// Sets the harness's own variables from `.env`, where they are not set yet. Before any thread exists.
pub fn load() -> Result<(), EnvironmentError> {
    match std::fs::read_to_string(".env") {
        Ok(text) => dotenvy::from_read(own(&text)?.as_bytes()).map_err(|_| EnvironmentError::Parse),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(EnvironmentError::Read(error)),
    }
}

/// The lines of a text that set the harness's own variables.
fn own(text: &str) -> Result<String, EnvironmentError> {
    let mut lines = Vec::new();
    for item in dotenvy::from_read_iter(text.as_bytes()) {
        let (name, value) = item.map_err(|_| EnvironmentError::Parse)?;
        if OWN.contains(&name.as_str()) {
            let quoted = value.replace('\\', r"\\").replace('"', r#"\""#).replace('$', r"\$").replace('\n', r"\n");
            lines.push(format!("{name}=\"{quoted}\"\n"));
        }
    }
    Ok(lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claude::Settings;
    use crate::cli::Cli;
    use clap::CommandFactory;
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    #[test]
    fn only_the_harness_own_variables_are_taken_with_their_values_as_they_are() {
        let text = "KUBECONFIG=/evil\nexport HARNESS_LOG=debug\nPATH=/evil\nKUBEBUILDER_ASSETS=/evil\n\
            HTTPS_PROXY=http://evil\nSSL_CERT_FILE=/evil\nXDG_CACHE_HOME=/evil\nHOME=/evil\nLD_PRELOAD=/evil\n\
            ANTHROPIC_CUSTOM_HEADERS=\"A: b\\nC: d\"\nANTHROPIC_API_KEY='a$b\"\\c'\n";
        let own = own(text).unwrap();
        let read: Vec<(String, String)> = dotenvy::from_read_iter(own.as_bytes()).map(Result::unwrap).collect();
        let expected =
            [("HARNESS_LOG", "debug"), ("ANTHROPIC_CUSTOM_HEADERS", "A: b\nC: d"), ("ANTHROPIC_API_KEY", "a$b\"\\c")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_line_that_is_none_is_not_shown() {
        let error = own("ANTHROPIC_API_KEY=sk-secret and more'\n").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn the_list_the_example_and_what_is_read_are_the_same() {
        let listed: BTreeSet<String> = OWN.iter().map(|name| (*name).to_owned()).collect();
        let example = include_str!("../../.env.example");
        let shown = example.lines().filter_map(|line| line.strip_prefix('#')?.split_once('='));
        let shown: BTreeSet<String> =
            shown.map(|(name, _)| name.to_owned()).filter(|name| !name.contains(' ')).collect();
        assert_eq!(shown, listed);
        let mut read = BTreeSet::new();
        of_arguments(&Cli::command(), &mut read);
        let asked = RefCell::new(BTreeSet::new());
        for given in ["", "ANTHROPIC_API_KEY", "ANTHROPIC_IDENTITY_TOKEN_FILE"] {
            let _ = Settings::from_variables(|name| {
                asked.borrow_mut().insert(name.to_owned());
                let is_set = name == given || (given.ends_with("FILE") && name.ends_with("_ID"));
                is_set.then(|| "x".to_owned())
            });
        }
        read.extend(asked.into_inner());
        assert_eq!(read, listed);
    }

    fn of_arguments(command: &clap::Command, names: &mut BTreeSet<String>) {
        names.extend(command.get_arguments().filter_map(|it| Some(it.get_env()?.to_str()?.to_owned())));
        command.get_subcommands().for_each(|command| of_arguments(command, names));
    }
}
