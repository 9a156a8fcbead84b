//! `harness crds`: the custom resource definitions as YAML.

use super::Failure;
use crate::crd::definitions;
use kube::ResourceExt;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `harness crds`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Write a file for each definition into this directory instead of printing them.
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

/// A definition as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The file's name, such as `harness.dev_tickets.yaml`.
    pub file_name: String,
    /// Its content.
    pub text: String,
}

/// Every definition, for `kubectl apply -f`.
pub fn manifests() -> Result<Vec<Manifest>, serde_yaml::Error> {
    definitions()
        .into_iter()
        .map(|definition| {
            let file_name = format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural);
            let comment = format!("# {} as `harness crds` writes it.\n", definition.name_any());
            Ok(Manifest { file_name, text: comment + &serde_yaml::to_string(&definition)? })
        })
        .collect()
}

/// Prints or writes the definitions.
pub fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let manifests = manifests()?;
    match arguments.directory {
        None => {
            let documents: Vec<String> = manifests.into_iter().map(|manifest| manifest.text).collect();
            write!(std::io::stdout(), "{}", documents.join("---\n"))?;
        }
        Some(directory) => {
            for Manifest { file_name, text } in manifests {
                let path = directory.join(file_name);
                std::fs::write(&path, text).map_err(|error| {
                    format!("could not write {}: {error}; does the directory exist?", path.display())
                })?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_definitions_are_what_the_types_generate() {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crds");
        for Manifest { file_name, text } in manifests().unwrap() {
            let committed = std::fs::read_to_string(directory.join(&file_name)).unwrap();
            assert!(committed == text, "crds/{file_name} is out of date: run `harness crds --directory crds`");
        }
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), definitions().len(), "no other files in crds/");
    }
}
