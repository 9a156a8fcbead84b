//! A client whose connections go through a proxy.
//!
//! kube can do that, too, but reads NO_PROXY in its own way (it compares it with the proxy, and refuses to start over a
//! comma at its end), so that its features for proxies are off and the connection is made here.

use super::{CONNECT_DEADLINE, DeadlineLayer, REQUEST_DEADLINE};
use http::header::HeaderValue;
use http::{Request, Uri};
use hyper::rt::{Read, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config, Error};
use percent_encoding::percent_decode_str;
use tower::{BoxError, Service, ServiceBuilder};
use url::Url;

/// Makes a client that reaches its server through this proxy.
pub(super) fn client(config: &Config, proxy: &Url) -> Result<Client, Error> {
    let mut plain = HttpConnector::new();
    plain.enforce_http(false);
    plain.set_connect_timeout(Some(CONNECT_DEADLINE));
    let address: Uri =
        without_credentials(proxy).parse().map_err(|error: http::uri::InvalidUri| Error::Service(Box::new(error)))?;
    let credentials = credentials(proxy);
    match proxy.scheme() {
        "socks5" | "socks5h" => {
            let connector = SocksV5::new(address, plain);
            through(
                config,
                match credentials {
                    Some((user, password)) => connector.with_auth(user, password),
                    None => connector,
                },
            )
        }
        "https" => through(config, tunnel(address, over_tls(plain)?, credentials)),
        _ => through(config, tunnel(address, plain, credentials)),
    }
}

fn tunnel<C>(proxy: Uri, connector: C, credentials: Option<(String, String)>) -> Tunnel<C> {
    let tunnel = Tunnel::new(proxy, connector);
    let header = credentials.and_then(|(user, password)| {
        use base64::Engine;
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        HeaderValue::from_str(&format!("Basic {encoded}")).ok()
    });
    match header {
        Some(header) => tunnel.with_auth(header),
        None => tunnel,
    }
}

/// TLS to the proxy itself, with the authorities that this system trusts: those of the cluster say nothing about it.
fn over_tls(plain: HttpConnector) -> Result<HttpsConnector<HttpConnector>, Error> {
    let builder = HttpsConnectorBuilder::new().with_native_roots();
    let builder = builder.map_err(|error| Error::Service(Box::new(error)))?;
    Ok(builder.https_or_http().enable_http1().wrap_connector(plain))
}

fn through<C>(config: &Config, connector: C) -> Result<Client, Error>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: std::error::Error + Send + Sync + 'static,
{
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let client: legacy::Client<_, Body> = legacy::Builder::new(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    let service = tower::util::BoxService::new(tower::ServiceExt::<Request<Body>>::map_err(service, BoxError::from));
    let layer = DeadlineLayer { deadline: REQUEST_DEADLINE };
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).with_layer(&layer).build())
}

fn without_credentials(proxy: &Url) -> String {
    let port = proxy.port_or_known_default().unwrap_or(1080);
    format!("{}://{}:{port}", proxy.scheme(), proxy.host_str().unwrap_or_default())
}

fn credentials(proxy: &Url) -> Option<(String, String)> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = proxy.username();
    (!user.is_empty()).then(|| (decoded(user), decoded(proxy.password().unwrap_or_default())))
}
