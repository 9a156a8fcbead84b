//! Which objects a GitOps tool manages: by the marks with which it tracks them, and by the field managers that own the
//! part in question. Pure.
//!
//! What such a tool manages it writes back from its source, and so that is where a change belongs.

use crate::crd::Action;
use crate::redact;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

const ARGO_CD: &str = "Argo CD";
const FLUX: &str = "Flux";
const FLEET: &str = "Rancher Fleet";
const KAPP: &str = "kapp";
const CONFIG_SYNC: &str = "Config Sync";

/// Field managers that write from a source, and the tools they belong to.
const MANAGERS: [(&str, &str); 7] = [
    ("argocd-controller", ARGO_CD),
    ("argocd-application-controller", ARGO_CD),
    ("kustomize-controller", FLUX),
    ("helm-controller", FLUX),
    ("fleetagent", FLEET),
    ("fleet-agent", FLEET),
    ("configsync.gke.io", CONFIG_SYNC),
];

/// Every annotation and label of Argo CD begins like this.
const ARGO_PREFIX: &str = "argocd.argoproj.io/";
/// The label by which Argo CD tracks by default, and which charts of all kinds set as well.
const INSTANCE: &str = "app.kubernetes.io/instance";

/// The tool that manages an object, and where it takes it from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedBy {
    /// The tool; a field manager that is known by configuration only goes by its own name.
    pub tool: String,
    /// What to look at, as far as the object says it: an Application, a Kustomization, a file and its commit.
    pub source: Option<String>,
    /// The command that shows it, where there is one.
    pub command: Option<String>,
}

impl fmt::Display for ManagedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tool)?;
        self.source.iter().try_for_each(|source| write!(f, " ({source})"))
    }
}

impl ManagedBy {
    /// A tool of which nothing else is known.
    pub fn named(tool: &str) -> Self {
        Self { tool: redact::line(tool, 128), source: None, command: None }
    }

    fn from(tool: &str, source: Option<String>, command: Option<String>) -> Self {
        Self { tool: tool.to_owned(), source, command }
    }

    /// Where a change belongs, as an instruction.
    pub fn look_at(&self) -> String {
        let source = self.source.as_deref().map_or_else(|| "its source".to_owned(), |source| format!("its {source}"));
        let command = self.command.as_ref().map(|command| format!(": `{command}`")).unwrap_or_default();
        format!("look at the last commit of {source} in {}{command}", self.tool)
    }
}

/// Recognises what GitOps tools manage. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct GitOps {
    /// Field managers that are known by configuration.
    more: Arc<[String]>,
}

impl GitOps {
    /// One that takes these field managers for GitOps tools too.
    pub fn new(more: impl IntoIterator<Item = String>) -> Self {
        Self { more: more.into_iter().collect() }
    }

    /// The tool that a field manager belongs to.
    pub fn tool_of<'a>(&'a self, manager: &'a str) -> Option<&'a str> {
        let known = MANAGERS.iter().find(|(name, _)| *name == manager).map(|(_, tool)| *tool);
        known.or_else(|| self.more.iter().find(|name| *name == manager).map(String::as_str))
    }

    /// The tool that manages the part of an object that an action changes. The object's marks count whoever wrote the
    /// part last: the tool will write it back.
    pub fn managed_by(&self, object: &impl ResourceExt, action: Action, key: &str) -> Option<ManagedBy> {
        tracked_by(object).or_else(|| {
            let owner = object.managed_fields().iter().find_map(|entry| {
                let tool = self.tool_of(entry.manager.as_deref()?)?;
                owns(entry, action, key).then_some(tool)
            });
            owner.map(ManagedBy::named)
        })
    }
}

/// Whether a manager owns the part that an action changes, or something in it.
pub fn owns(entry: &ManagedFieldsEntry, action: Action, key: &str) -> bool {
    let Some(fields) = entry.fields_v1.as_ref().map(|fields| &fields.0) else { return false };
    let at = |path: &[&str]| path.iter().try_fold(fields, |fields: &Value, name| fields.get(format!("f:{name}")));
    match action {
        Action::EditConfig => at(&["data", key]).is_some(),
        Action::Scale => at(&["spec", "replicas"]).is_some(),
        Action::Restart | Action::Rollback => at(&["spec", "template"]).is_some(),
    }
}

/// The tool whose tracking labels or annotations the object carries.
pub fn tracked_by(object: &impl ResourceExt) -> Option<ManagedBy> {
    argo_cd(object).or_else(|| flux(object)).or_else(|| others(object))
}

fn argo_cd(object: &impl ResourceExt) -> Option<ManagedBy> {
    let tracking = annotation(object, "argocd.argoproj.io/tracking-id").map(|id| id.split(':').next().unwrap_or(id));
    let instance = label(object, "argocd.argoproj.io/instance").or_else(|| {
        // The label alone says nothing: that Argo CD set it, or that its other marks are beside it, does.
        let set_by_argo = object.managed_fields().iter().any(|entry| {
            let known = MANAGERS.iter().any(|(name, tool)| *tool == ARGO_CD && Some(*name) == entry.manager.as_deref());
            let labels = entry.fields_v1.as_ref().and_then(|fields| fields.0.pointer("/f:metadata/f:labels"));
            known && labels.is_some_and(|labels| labels.get(format!("f:{INSTANCE}")).is_some())
        });
        let mut marks = object.annotations().keys().chain(object.labels().keys());
        let is_marked = marks.any(|name| name.starts_with(ARGO_PREFIX));
        label(object, INSTANCE).filter(|_| set_by_argo || is_marked)
    });
    let application = tracking.or(instance)?;
    let named = plain(application);
    Some(ManagedBy::from(
        ARGO_CD,
        named.map(|name| format!("Application {name}")),
        named.map(|name| format!("argocd app history {name}")),
    ))
}

fn flux(object: &impl ResourceExt) -> Option<ManagedBy> {
    let found = [("kustomize", "Kustomization", "kustomizations"), ("helm", "HelmRelease", "helmreleases")];
    found.into_iter().find_map(|(group, kind, plural)| {
        let mark = |what: &str| {
            let name = format!("{group}.toolkit.fluxcd.io/{what}");
            label(object, &name).or_else(|| annotation(object, &name))
        };
        let name = mark("name")?;
        let namespace = mark("namespace").and_then(plain);
        let shown = plain(name).zip(namespace);
        Some(ManagedBy::from(
            FLUX,
            shown.map(|(name, namespace)| format!("{kind} {namespace}/{name}")),
            shown.map(|(name, namespace)| format!("flux get {plural} {name} -n {namespace}")),
        ))
    })
}

fn others(object: &impl ResourceExt) -> Option<ManagedBy> {
    let bundle = annotation(object, "objectset.rio.cattle.io/id").filter(|id| !id.is_empty());
    // Other controllers of the same library name an owner; Fleet does not.
    let bundle = bundle.filter(|_| annotation(object, "objectset.rio.cattle.io/owner-gvk").is_none());
    if let Some(bundle) = label(object, "fleet.cattle.io/bundle-name").or(bundle) {
        return Some(ManagedBy::from(FLEET, plain(bundle).map(|name| format!("bundle {name}")), None));
    }
    if label(object, "fleet.cattle.io/managed").or_else(|| annotation(object, "fleet.cattle.io/managed")).is_some() {
        return Some(ManagedBy::named(FLEET));
    }
    if let Some(app) = label(object, "kapp.k14s.io/app") {
        return Some(ManagedBy::from(KAPP, plain(app).map(|id| format!("app with label kapp.k14s.io/app={id}")), None));
    }
    let synced = annotation(object, "configmanagement.gke.io/managed") == Some("enabled")
        || label(object, "app.kubernetes.io/managed-by") == Some("configmanagement.gke.io");
    synced.then(|| {
        let path = annotation(object, "configmanagement.gke.io/source-path").and_then(plain);
        let commit = annotation(object, "configmanagement.gke.io/token").and_then(plain);
        let source = path.map(|path| {
            format!("file {path}{}", commit.map(|commit| format!(" at commit {commit}")).unwrap_or_default())
        });
        ManagedBy::from(CONFIG_SYNC, source, None)
    })
}

fn label<'a>(object: &'a impl ResourceExt, name: &str) -> Option<&'a str> {
    object.labels().get(name).map(String::as_str)
}

fn annotation<'a>(object: &'a impl ResourceExt, name: &str) -> Option<&'a str> {
    object.annotations().get(name).map(String::as_str)
}

/// A name that may stand in a command: whoever writes annotations must not write commands.
fn plain(name: &str) -> Option<&str> {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '_' | '-' | '/');
    let fits = !name.is_empty() && name.len() <= 128 && !name.starts_with('-') && name.chars().all(is_plain);
    fits.then_some(name)
}

#[cfg(test)]
mod tests;
