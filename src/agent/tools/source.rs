//! Looks into a service's source code, read-only. Touches the world by reading files below one directory, or one
//! ConfigMap.

use super::call::{ReadSource, SourceOperation};
use super::reading::Reading;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use regex::{Regex, RegexBuilder};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// Files that are looked at.
const MAX_FILES: usize = 2000;
/// Bytes of one file.
const MAX_FILE: u64 = 256 * 1024;
/// Found lines that are shown.
const MAX_FOUND: usize = 60;

/// Where the source code is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceLocation {
    /// A directory on this machine.
    Directory(PathBuf),
    /// A ConfigMap in the invariant's namespace: a file a key.
    ConfigMap(String),
}

impl FromStr for SourceLocation {
    type Err = std::convert::Infallible;

    /// `configmap/NAME`, or a path.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.strip_prefix("configmap/") {
            Some(name) => Self::ConfigMap(name.to_owned()),
            None => Self::Directory(PathBuf::from(text)),
        })
    }
}

/// Lists, reads or searches.
pub(super) async fn read(
    client: &Client,
    namespace: &str,
    location: Option<&SourceLocation>,
    asked: &ReadSource,
) -> Result<Reading, kube::Error> {
    match location {
        None => Ok(Reading::refused("SourceNotConfigured", "the source code of this service is not available")),
        Some(SourceLocation::Directory(root)) => {
            let (root, asked) = (root.clone(), asked.clone());
            let read = tokio::task::spawn_blocking(move || in_directory(&root, &asked)).await;
            Ok(read.unwrap_or_else(|error| Reading::Failed { why: error.to_string() }))
        }
        Some(SourceLocation::ConfigMap(name)) => {
            let found = Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name).await?;
            Ok(in_files(&found.and_then(|it| it.data).unwrap_or_default(), asked))
        }
    }
}

fn in_directory(root: &Path, asked: &ReadSource) -> Reading {
    match asked.operation {
        SourceOperation::List => {
            let names = files(root).into_iter().filter(|name| name.starts_with(&asked.path)).collect::<Vec<_>>();
            listing(&names)
        }
        SourceOperation::Read => match read_file(root, &asked.path) {
            Some(text) => numbered(&asked.path, &text),
            None => Reading::refused("PathNotAllowed", "there is no such text file below the root of the source"),
        },
        SourceOperation::Search => match expression(&asked.pattern) {
            Ok(expression) => {
                let found = files(root).into_iter().flat_map(|name| {
                    let text = read_file(root, &name).unwrap_or_default();
                    matching(&name, &text, &expression)
                });
                findings(&found.take(MAX_FOUND).collect::<Vec<_>>())
            }
            Err(reading) => reading,
        },
    }
}

fn in_files(files: &BTreeMap<String, String>, asked: &ReadSource) -> Reading {
    match asked.operation {
        SourceOperation::List => listing(&files.keys().cloned().collect::<Vec<_>>()),
        SourceOperation::Read => match files.get(&asked.path) {
            Some(text) => numbered(&asked.path, text),
            None => Reading::refused("PathNotAllowed", "there is no such file in the source"),
        },
        SourceOperation::Search => match expression(&asked.pattern) {
            Ok(expression) => {
                let found = files.iter().flat_map(|(name, text)| matching(name, text, &expression));
                findings(&found.take(MAX_FOUND).collect::<Vec<_>>())
            }
            Err(reading) => reading,
        },
    }
}

fn listing(names: &[String]) -> Reading {
    Reading::text(format!("{} files", names.len()), names.join("\n"))
}

fn numbered(path: &str, text: &str) -> Reading {
    let lines: Vec<String> = text.lines().enumerate().map(|(at, line)| format!("{}: {line}", at + 1)).collect();
    Reading::text(format!("{path}, {} lines", lines.len()), lines.join("\n"))
}

fn findings(found: &[String]) -> Reading {
    let content = if found.is_empty() { "nothing matches".to_owned() } else { found.join("\n") };
    Reading::text(format!("{} lines match", found.len()), content)
}

fn expression(pattern: &str) -> Result<Regex, Reading> {
    RegexBuilder::new(pattern)
        .size_limit(1 << 20)
        .build()
        .map_err(|error| Reading::refused("InvalidArguments", format!("the pattern is no regular expression: {error}")))
}

fn matching(name: &str, text: &str, expression: &Regex) -> Vec<String> {
    let lines = text.lines().enumerate().filter(|(_, line)| expression.is_match(line));
    lines.map(|(at, line)| format!("{name}:{}: {line}", at + 1)).take(MAX_FOUND).collect()
}

/// The text of a file below the root; `None` for whatever is outside, too large or no text.
fn read_file(root: &Path, path: &str) -> Option<String> {
    let relative = Path::new(path);
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    // A link may lead out of the root.
    let (root, file) = (root.canonicalize().ok()?, root.join(relative).canonicalize().ok()?);
    let metadata = file.metadata().ok()?;
    (file.starts_with(&root) && metadata.is_file() && metadata.len() <= MAX_FILE)
        .then(|| std::fs::read_to_string(&file).ok())
        .flatten()
}

/// The files below the root, sorted; hidden ones, links and what builds leave behind are left out.
fn files(root: &Path) -> Vec<String> {
    let (mut found, mut directories) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(kind) = entry.file_type() else { continue };
            if name.starts_with('.') || matches!(name.as_str(), "target" | "node_modules") {
                continue;
            }
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file()
                && let Ok(path) = entry.path().strip_prefix(root)
            {
                found.push(path.to_string_lossy().into_owned());
            }
            if found.len() >= MAX_FILES {
                directories.clear();
                break;
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(operation: SourceOperation, path: &str, pattern: &str) -> ReadSource {
        ReadSource { operation, path: path.into(), pattern: pattern.into() }
    }

    fn content(reading: &Reading) -> String {
        match reading {
            Reading::Text { content, .. } => content.clone(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn files_are_listed_read_and_searched() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("app")).unwrap();
        std::fs::write(root.path().join("app/main.py"), "import time\ntime.sleep(delay)\n").unwrap();
        assert_eq!(content(&in_directory(root.path(), &asked(SourceOperation::List, "", ""))), "app/main.py");
        let read = in_directory(root.path(), &asked(SourceOperation::Read, "app/main.py", ""));
        assert_eq!(content(&read), "1: import time\n2: time.sleep(delay)");
        let found = in_directory(root.path(), &asked(SourceOperation::Search, "", r"sleep\("));
        assert_eq!(content(&found), "app/main.py:2: time.sleep(delay)");
    }

    #[test]
    fn nothing_outside_the_root_is_read() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "hunter2").unwrap();
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), root.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("linked")).unwrap();
        let absolute = outside.path().join("secret").to_string_lossy().into_owned();
        for path in ["../secret", "link", "linked/secret", absolute.as_str(), "", "."] {
            let read = in_directory(root.path(), &asked(SourceOperation::Read, path, ""));
            assert!(matches!(&read, Reading::Refused(it) if it.code == "PathNotAllowed"), "{path}: {read:?}");
        }
        assert_eq!(
            content(&in_directory(root.path(), &asked(SourceOperation::Search, "", "hunter2"))),
            "nothing matches"
        );
    }
}
