//! Questions over TLS to servers that must not be trusted.
#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

use super::targets::{Target, respond};
use super::{AMPLE, ask, failed};
use crate::support::install_tls_provider;
use harness::crd::Connection;
use harness::probe::FailureReason;
use harness::probe::resolver::GuardedResolver;
use harness::probe::{EgressPolicy, Observation, Prober, Query};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig, ServerConnection};
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
    serve_with(certificate.der().clone(), &key)
}

fn serve_with(certificate: CertificateDer<'static>, key: &KeyPair) -> SocketAddr {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
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

/// A question to a server whose certificate was issued by an authority that is trusted.
async fn ask_trusting(change: impl FnOnce(&mut CertificateParams)) -> Observation {
    install_tls_provider();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    change(&mut parameters);
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.signed_by(&key, &authority).unwrap();
    let port = serve_with(certificate.der().clone(), &key).port();
    let mut trusted = RootCertStore::empty();
    trusted.add(authority.der().clone()).unwrap();
    let resolver = GuardedResolver::system(EgressPolicy { allow_loopback: true });
    let query = Query::parse(&format!("https://localhost:{port}/")).unwrap();
    Prober::trusting(trusted, resolver).unwrap().ask(&query, Connection::New, AMPLE).await.observation
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_is_accepted() {
    assert_eq!(super::measured(ask_trusting(|_| ()).await).status, Some(200));
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_said_in_plain_words() {
    type Change = fn(&mut CertificateParams);
    let changes: [(Change, &str); 4] = [
        (|it| it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), "the certificate of an authority (CA:TRUE)"),
        (|it| it.not_after = rcgen::date_time_ymd(2020, 1, 1), "the certificate expired on 2020-01-01"),
        (|it| it.not_before = rcgen::date_time_ymd(4000, 1, 1), "not valid before 4000-01-01"),
        (
            |it| it.subject_alt_names = vec![rcgen::SanType::DnsName("a.example".try_into().unwrap())],
            "the certificate is not for localhost, but for a.example",
        ),
    ];
    for (change, expected) in changes {
        let Observation::Failed(failure) = ask_trusting(change).await else { panic!("{expected}") };
        assert_eq!(failure.reason, FailureReason::TlsFailure, "{expected}");
        assert!(failure.message.contains(expected), "{}", failure.message);
    }
}
