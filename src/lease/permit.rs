//! The right to write, until a moment that its holder knows.

use futures::FutureExt;
use kube::Client;
use kube::client::Body;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch as signal;
use tokio::time::Instant;

/// A moment by two clocks, of which the first to reach it counts: the monotonic one stands still while the machine is
/// suspended, and the wall's may be set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) monotonic: Instant,
    wall: SystemTime,
}

impl Deadline {
    pub(super) fn after(time: Duration) -> Self {
        Self { monotonic: Instant::now() + time, wall: SystemTime::now() + time }
    }

    fn has_passed(self) -> bool {
        Instant::now() >= self.monotonic || SystemTime::now() >= self.wall
    }
}

/// The right to write. Cheap to clone; clones end together.
#[derive(Debug, Clone)]
pub struct Permit {
    pub(super) identity: Arc<str>,
    pub(super) until: signal::Receiver<Option<Deadline>>,
}

/// Why a request was not sent.
#[derive(Debug, thiserror::Error)]
#[error(
    "not sent: the lease is not held any more, so that another may be at work; it goes on when the lease is held again"
)]
pub(super) struct LeaseLost;

impl Permit {
    /// Who holds it.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether it is held at this moment.
    pub fn holds(&self) -> bool {
        self.until.borrow().is_some_and(|deadline| !deadline.has_passed())
    }

    /// The same client for as long as the permit is held; after that it sends nothing but questions.
    pub fn fence(&self, client: Client) -> Client {
        let (permit, namespace) = (self.clone(), client.default_namespace().to_owned());
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (permit, client) = (permit.clone(), client.clone());
            async move {
                if request.method() != http::Method::GET && !permit.holds() {
                    return Err(tower::BoxError::from(LeaseLost));
                }
                client.send(request).await.map_err(tower::BoxError::from)
            }
            .boxed()
        });
        Client::new(service, namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, PostParams};

    #[tokio::test(start_paused = true)]
    async fn without_the_lease_questions_are_asked_and_nothing_is_written() {
        let answer = |_| async {
            let object = serde_json::to_vec(&ConfigMap::default()).unwrap_or_default();
            Ok::<_, tower::BoxError>(http::Response::new(Body::from(object)))
        };
        let until = signal::Sender::new(Some(Deadline::after(Duration::from_secs(10))));
        let permit = Permit { identity: "me".into(), until: until.subscribe() };
        let client = permit.fence(Client::new(tower::service_fn(answer), "default"));
        let api: Api<ConfigMap> = Api::default_namespaced(client);
        let write = || async { api.replace("c", &PostParams::default(), &ConfigMap::default()).await };
        assert!(permit.holds() && write().await.is_ok());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(!permit.holds() && api.get("c").await.is_ok());
        let refused = write().await.map_err(|error| format!("{error:?}"));
        assert!(refused.is_err_and(|error| error.contains("LeaseLost")));
        until.send_replace(Some(Deadline::after(Duration::from_secs(10))));
        assert!(write().await.is_ok());
        until.send_replace(None);
        assert!(write().await.is_err());
    }
}
