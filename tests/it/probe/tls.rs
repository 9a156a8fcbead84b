//! Questions over TLS to servers that must not be trusted.
#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

use super::targets::{Target, respond};
use super::{AMPLE, ask, failed};
use crate::support::install_tls_provider;
use harness::probe::FailureReason;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

/// Serves one connection with a certificate that nobody signed.
fn serve(change: impl FnOnce(&mut CertificateParams)) -> SocketAddr {
    install_tls_provider();
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    change(&mut parameters);
    let certificate = parameters.self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    });
    address
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_a_tls_failure() {
    let port = serve(|_| ()).port();
    let observation = ask(&format!("https://localhost:{port}/"), AMPLE).await;
    assert_eq!(failed(&observation), FailureReason::TlsFailure);
}

#[tokio::test]
async fn an_expired_certificate_is_a_tls_failure() {
    let port = serve(|parameters| parameters.not_after = rcgen::date_time_ymd(2020, 1, 1)).port();
    let observation = ask(&format!("https://localhost:{port}/"), AMPLE).await;
    assert_eq!(failed(&observation), FailureReason::TlsFailure);
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_a_tls_failure() {
    let target = Target::start(async |stream| respond(stream, "400 Bad Request", b"").await).await;
    let observation = ask(&format!("https://localhost:{}/", target.address.port()), AMPLE).await;
    assert_eq!(failed(&observation), FailureReason::TlsFailure);
}
