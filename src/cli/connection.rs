//! Which cluster the user means: the flags that several subcommands share.

use super::Failure;
use crate::cluster::connect::{Target, connect};
use crate::tui::model::Cluster;
use crate::tui::text::plain;
use kube::Client;
use kube::config::Kubeconfig;
use std::path::PathBuf;

/// Which cluster is meant.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Connection {
    /// The kubeconfig file to use instead of $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use instead of its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

impl Connection {
    /// Whether the user named a cluster.
    pub fn is_explicit(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }

    /// A client of that cluster, which has answered once.
    pub async fn connect(&self) -> Result<Client, Failure> {
        let target = Target { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() };
        Ok(connect(target).await?)
    }

    /// The cluster behind `client`, as the screen names it.
    pub async fn describe(&self, client: &Client) -> Result<Cluster, Failure> {
        let version = plain(&client.apiserver_version().await?.git_version, 40);
        Ok(Cluster { version, context: self.context_name(), kubectl: format!("kubectl{}", self.flags()) })
    }

    /// The flags that name this cluster, for `harness` and `kubectl` alike, each behind a space.
    pub fn flags(&self) -> String {
        let kubeconfig = self.kubeconfig.as_ref().map(|path| ("kubeconfig", path.display().to_string()));
        let context = self.context.clone().map(|name| ("context", name));
        let given = [kubeconfig, context].into_iter().flatten();
        let flags: Vec<String> = given.map(|(flag, value)| format!(" --{flag} {}", quoted(&value))).collect();
        flags.concat()
    }

    fn context_name(&self) -> String {
        let read = || match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let named = self.context.clone().or_else(|| read().ok()?.current_context);
        named.unwrap_or_else(|| "in the cluster".to_owned())
    }
}

/// A word that a shell reads as it is; unquoted where it needs no quotes.
fn quoted(word: &str) -> String {
    let harmless = |character: char| character.is_ascii_alphanumeric() || "/._-@:+".contains(character);
    if !word.is_empty() && word.chars().all(harmless) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_can_be_pasted_into_a_shell() {
        let flags = |kubeconfig: Option<&str>, context: Option<&str>| {
            Connection { kubeconfig: kubeconfig.map(PathBuf::from), context: context.map(str::to_owned) }.flags()
        };
        assert_eq!(flags(None, None), "");
        assert_eq!(flags(Some("/run/k"), Some("kind-a")), " --kubeconfig /run/k --context kind-a");
        assert_eq!(flags(Some("/my run/it's"), None), r" --kubeconfig '/my run/it'\''s'");
    }
}
