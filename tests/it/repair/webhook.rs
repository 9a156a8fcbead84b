//! An admission webhook that says what the test wants of the agent's writes to ConfigMaps, over TLS as the API server
//! demands.
#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

use super::stage::Stage;
use crate::support::{eventually, install_tls_provider};
use axum::extract::State;
use axum::response::IntoResponse;
use axum::{Json, Router, routing::post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harness::agent::executor::FIELD_MANAGER;
use http::StatusCode;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What the webhook says.
#[derive(Debug, Clone)]
pub(crate) enum Says {
    /// Yes.
    Yes,
    /// No, with this status.
    No(Value),
    /// Nothing that could be understood.
    Nonsense,
}

#[derive(Clone)]
struct Answering {
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicU32>,
    refused: Arc<AtomicU32>,
}

/// A webhook for one namespace. It ends when it is dropped; [`Webhook::remove`] takes its configuration away.
pub(crate) struct Webhook {
    name: String,
    client: Client,
    answering: Answering,
    _server: JoinSet<()>,
}

impl Webhook {
    /// A webhook that says yes until it is told otherwise. Returns once the API server asks it.
    pub(crate) async fn start(stage: &Stage) -> Self {
        install_tls_provider();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let answering =
            Answering { says: Arc::new(Mutex::new(Says::Yes)), asked: Arc::default(), refused: Arc::default() };
        let router = Router::new().route("/", post(answer)).with_state(answering.clone());
        let mut server = JoinSet::new();
        server.spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), router));
        let name = format!("freeze.{}.example.com", stage.namespace);
        let webhook = Self { name, client: stage.client.clone(), answering, _server: server };
        webhook.register(stage, &url, &STANDARD.encode(certificate.pem())).await;
        webhook
    }

    async fn register(&self, stage: &Stage, url: &str, authority: &str) {
        let configuration = json!({
            "metadata": { "name": self.name },
            "webhooks": [{
                "name": self.name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 2,
                "clientConfig": { "url": url, "caBundle": authority },
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": stage.namespace } },
                "rules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["configmaps"],
                }],
            }],
        });
        let configuration: ValidatingWebhookConfiguration = serde_json::from_value(configuration).unwrap();
        Api::all(self.client.clone()).create(&PostParams::default(), &configuration).await.unwrap();
        let probe: Api<ConfigMap> = stage.api();
        let made = json!({ "metadata": { "name": "webhook-probe" } });
        probe.create(&PostParams::default(), &serde_json::from_value(made).unwrap()).await.unwrap();
        eventually(crate::stage::PATIENCE, || async {
            let touch = json!({ "metadata": { "annotations": { "at": jiff::Timestamp::now().to_string() } } });
            probe.patch("webhook-probe", &PatchParams::default(), &Patch::Merge(touch)).await.unwrap();
            (self.answering.asked.load(Ordering::SeqCst) > 0).then_some(())
        })
        .await;
    }

    /// Says this from now on to the agent; to everybody else it says yes.
    pub(crate) fn say(&self, says: Says) {
        *self.answering.says.lock().unwrap() = says;
    }

    /// How often the agent was refused.
    pub(crate) fn refused(&self) -> u32 {
        self.answering.refused.load(Ordering::SeqCst)
    }

    /// Its name, as the API server's answers give it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Takes its configuration away.
    pub(crate) async fn remove(self) {
        let api: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        api.delete(&self.name, &DeleteParams::default()).await.unwrap();
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, service) = (tls.clone(), TowerToHyperService::new(router.clone()));
        connections.spawn(async move {
            if let Ok(stream) = tls.accept(stream).await {
                let http = hyper::server::conn::http1::Builder::new();
                let _ended = http.serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

async fn answer(State(answering): State<Answering>, Json(review): Json<Value>) -> axum::response::Response {
    answering.asked.fetch_add(1, Ordering::SeqCst);
    let request = &review["request"];
    let is_agent = request["options"]["fieldManager"] == FIELD_MANAGER;
    let says = answering.says.lock().unwrap().clone();
    let mut response = json!({ "uid": request["uid"], "allowed": true });
    match says {
        Says::No(status) if is_agent => {
            response["allowed"] = json!(false);
            response["status"] = status;
            answering.refused.fetch_add(1, Ordering::SeqCst);
        }
        Says::Nonsense if is_agent => {
            answering.refused.fetch_add(1, Ordering::SeqCst);
            return StatusCode::BAD_GATEWAY.into_response();
        }
        Says::No(_) | Says::Nonsense | Says::Yes => {}
    }
    Json(json!({ "apiVersion": review["apiVersion"], "kind": review["kind"], "response": response })).into_response()
}
