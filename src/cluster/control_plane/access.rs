//! How to reach one control plane, and as whom: kubeconfigs and clients.

use super::ControlPlaneError;
use super::certificates::{Authority, Identity};
use crate::cluster::connect;
use k8s_openapi::ByteString;
use serde_json::json;

/// The group that RBAC lets do everything.
const ADMINISTRATORS: &str = "system:masters";

/// The address of an API server, its authority, and the administrator's identity.
pub(super) struct Access {
    port: u16,
    authority: Authority,
    administrator: Identity,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the keys.
        formatter.debug_struct("Access").field("server", &self.server()).finish_non_exhaustive()
    }
}

impl Access {
    /// Makes an authority and an administrator for an API server that will listen on `port`.
    pub(super) fn new(port: u16) -> Result<Self, ControlPlaneError> {
        let authority = Authority::generate().map_err(ControlPlaneError::MakeCertificate)?;
        let administrator =
            authority.user("harness", Some(ADMINISTRATORS)).map_err(ControlPlaneError::MakeCertificate)?;
        Ok(Self { port, authority, administrator })
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The same authority and administrator, on another port.
    pub(super) fn moved_to(self, port: u16) -> Self {
        Self { port, ..self }
    }

    pub(super) fn administrator_kubeconfig(&self) -> String {
        self.kubeconfig(&self.administrator)
    }

    pub(super) fn administrator_client(&self) -> Result<kube::Client, ControlPlaneError> {
        self.client(&self.administrator)
    }

    pub(super) fn user_kubeconfig(&self, name: &str, group: Option<&str>) -> Result<String, ControlPlaneError> {
        Ok(self.kubeconfig(&self.user(name, group)?))
    }

    pub(super) fn user_client(&self, name: &str, group: Option<&str>) -> Result<kube::Client, ControlPlaneError> {
        self.client(&self.user(name, group)?)
    }

    fn user(&self, name: &str, group: Option<&str>) -> Result<Identity, ControlPlaneError> {
        self.authority.user(name, group).map_err(ControlPlaneError::MakeCertificate)
    }

    fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn kubeconfig(&self, identity: &Identity) -> String {
        // JSON is YAML: no second serialiser, and nothing that would need quoting.
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "harness", "cluster": {
                "server": self.server(),
                "certificate-authority-data": base64(&self.authority.pem()),
            }}],
            "users": [{"name": "harness", "user": credentials(identity)}],
            "contexts": [{"name": "harness", "context": {"cluster": "harness", "user": "harness"}}],
            "current-context": "harness",
        });
        format!("{text:#}\n")
    }

    fn client(&self, identity: &Identity) -> Result<kube::Client, ControlPlaneError> {
        let fail = |error| ControlPlaneError::UseApi(Box::new(error));
        let server = self.server().parse::<http::Uri>().map_err(|error| fail(kube::Error::HttpError(error.into())))?;
        let mut config = kube::Config::new(server);
        config.root_cert = Some(vec![self.authority.der()]);
        config.auth_info =
            serde_json::from_value(credentials(identity)).map_err(|error| fail(kube::Error::SerdeError(error)))?;
        connect::client(config).map_err(fail)
    }
}

fn credentials(identity: &Identity) -> serde_json::Value {
    json!({
        "client-certificate-data": base64(&identity.certificate_pem),
        "client-key-data": base64(&identity.key_pem),
    })
}

fn base64(pem: &str) -> ByteString {
    ByteString(pem.as_bytes().to_vec())
}
