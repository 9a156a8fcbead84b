//! The watches behind the screen: each says what changed, or why it is interrupted.

use super::model::{Event, Scope, Update};
use crate::crd::{Invariant, Ticket};
use crate::watch::attempts;
use futures::stream::{BoxStream, select_all};
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

/// All that happens in the cluster within the scope. It never ends; interrupted watches go on by themselves.
pub fn events(client: &Client, scope: &Scope) -> impl Stream<Item = Event> + Send + use<> {
    let config = watcher::Config::default().fields(&format!("metadata.name={}", scope.config.name));
    select_all([
        watched(selected::<Invariant>(client, scope), watcher::Config::default(), Event::Invariant),
        watched(selected::<Ticket>(client, scope), watcher::Config::default(), Event::Ticket),
        watched(Api::namespaced(client.clone(), &scope.config.namespace), config, Event::Config),
    ])
}

fn selected<K>(client: &Client, scope: &Scope) -> Api<DeserializeGuard<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match &scope.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn watched<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    event: fn(Update<K>) -> Event,
) -> BoxStream<'static, Event>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug + Send + 'static,
{
    attempts(api, config).map(move |attempt| event(attempt.map_err(|error| reason(&error)))).boxed()
}

/// Why a watch is interrupted, for people.
fn reason(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404 => {
            "the harness is not installed here: `harness init` installs it".to_owned()
        }
        error => {
            // The outer message of kube's errors says nothing but which step failed.
            let innermost = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source()).last();
            innermost.map_or_else(|| error.to_string(), ToString::to_string)
        }
    }
}
