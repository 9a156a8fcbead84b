//! Names and addresses: a real name server that answers as a test says, and what may not be reached.
#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

use super::targets::{Target, respond};
use super::{AMPLE, SHORT, blind, failed, measured};
use crate::support::install_tls_provider;
use harness::crd::Connection;
use harness::probe::resolver::GuardedResolver;
use harness::probe::{BlindnessReason, EgressPolicy, FailureReason, Observation, Prober, Query};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;

const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// What a name server says when it is asked for IPv4 addresses.
enum Answer {
    Addresses(Vec<Ipv4Addr>),
    NoSuchName,
    ServerFailure,
    Nothing,
}

/// A name server on an ephemeral port. IPv6 addresses it has none.
async fn name_server(script: impl Fn(&str) -> Answer + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            if let Some(message) = reply(&buffer[..length], &script) {
                let _ = socket.send_to(&message, peer).await;
            }
        }
    });
    address
}

/// RFC 1035 by hand: the header, the question as it came, and the answers.
fn reply(query: &[u8], script: impl Fn(&str) -> Answer) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] > 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let question = &query[12..at + 5];
    let asks_for_ipv4 = query[at + 1..at + 3] == [0, 1];
    let (code, addresses) = match script(&labels.join(".")) {
        Answer::Addresses(addresses) if asks_for_ipv4 => (0, addresses),
        Answer::Addresses(_) => (0, Vec::new()),
        Answer::NoSuchName => (3, Vec::new()),
        Answer::ServerFailure => (2, Vec::new()),
        Answer::Nothing => return None,
    };
    let count = u8::try_from(addresses.len()).unwrap();
    let mut message = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
    message.extend_from_slice(question);
    for address in addresses {
        // The name of the question, an IPv4 address of the Internet, to be forgotten at once, four bytes.
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        message.extend_from_slice(&address.octets());
    }
    Some(message)
}

fn prober(server: SocketAddr, search: &[&str]) -> Prober {
    install_tls_provider();
    let mut connection = ConnectionConfig::udp();
    connection.port = server.port();
    let server = NameServerConfig::new(server.ip(), true, vec![connection]);
    let search = search.iter().map(|name| Name::from_ascii(name).unwrap()).collect();
    let config = ResolverConfig::from_parts(None, search, vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().ndots = 5;
    let resolver = GuardedResolver::new(builder.build().unwrap(), EgressPolicy { allow_loopback: true });
    Prober::with_resolver(resolver).unwrap()
}

async fn ask(prober: &Prober, query: &str, timeout: Duration) -> Observation {
    prober.ask(&Query::parse(query).unwrap(), Connection::New, timeout).await.observation
}

async fn healthy() -> Target {
    Target::start(async |stream| respond(stream, "200 OK", b"").await).await
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_breach() {
    let server = name_server(|_| Answer::NoSuchName).await;
    let observation = ask(&prober(server, &[]), "http://nowhere.example/", AMPLE).await;
    assert_eq!(failed(&observation), FailureReason::NameNotFound);
}

#[tokio::test]
async fn a_name_without_an_address_is_a_breach() {
    let server = name_server(|_| Answer::Addresses(Vec::new())).await;
    let observation = ask(&prober(server, &[]), "http://empty.example/", AMPLE).await;
    assert_eq!(failed(&observation), FailureReason::NameNotFound);
}

#[tokio::test]
async fn a_name_server_that_fails_or_is_silent_makes_blind() {
    let failing = name_server(|_| Answer::ServerFailure).await;
    let observation = ask(&prober(failing, &[]), "http://service.example/", AMPLE).await;
    assert_eq!(blind(&observation), BlindnessReason::ResolverUnavailable);
    let silent = name_server(|_| Answer::Nothing).await;
    let observation = ask(&prober(silent, &[]), "http://service.example/", SHORT).await;
    assert_eq!(blind(&observation), BlindnessReason::ResolverUnavailable);
}

#[tokio::test]
async fn a_short_name_is_found_in_a_search_domain_as_in_a_pod() {
    let server = name_server(|name| match name {
        "web.default.svc.example" => Answer::Addresses(vec![Ipv4Addr::LOCALHOST]),
        _ => Answer::NoSuchName,
    })
    .await;
    let prober = prober(server, &["other.svc.example.", "default.svc.example."]);
    let port = healthy().await.address.port();
    assert_eq!(measured(ask(&prober, &format!("http://web:{port}/"), AMPLE).await).status, Some(200));
    assert_eq!(failed(&ask(&prober, &format!("http://db:{port}/"), AMPLE).await), FailureReason::NameNotFound);
}

#[tokio::test]
async fn a_name_at_a_forbidden_address_is_not_reached() {
    let server = name_server(|_| Answer::Addresses(vec![METADATA])).await;
    let observation = ask(&prober(server, &[]), "http://service.example/", AMPLE).await;
    assert_eq!(blind(&observation), BlindnessReason::EgressDenied);
    let Observation::Unknown(blindness) = observation else { unreachable!() };
    assert_eq!(blindness.message, "checks may not reach 169.254.169.254, the address of service.example");
}

#[tokio::test]
async fn of_several_addresses_only_the_allowed_are_used() {
    let server = name_server(|_| Answer::Addresses(vec![METADATA, Ipv4Addr::LOCALHOST, METADATA])).await;
    let target = healthy().await;
    let query = format!("http://service.example:{}/", target.address.port());
    assert_eq!(measured(ask(&prober(server, &[]), &query, AMPLE).await).status, Some(200));
}

#[tokio::test]
async fn a_name_that_changes_its_address_after_it_was_judged_gains_nothing() {
    let asked = AtomicUsize::new(0);
    // Each look-up asks twice, for IPv4 and for IPv6: the first is good, all later ones are not.
    let server = name_server(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Answer::Addresses(vec![Ipv4Addr::LOCALHOST]),
        _ => Answer::Addresses(vec![METADATA]),
    })
    .await;
    let target = healthy().await;
    let (prober, query) = (prober(server, &[]), format!("http://service.example:{}/", target.address.port()));
    assert_eq!(blind(&ask(&prober, &query, AMPLE).await), BlindnessReason::EgressDenied);
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn localhost_is_reached_without_any_name_server_where_only_ipv4_listens() {
    let silent = name_server(|_| Answer::Nothing).await;
    let target = healthy().await;
    let query = format!("http://localhost:{}/", target.address.port());
    assert_eq!(measured(ask(&prober(silent, &[]), &query, AMPLE).await).status, Some(200));
}

#[tokio::test]
async fn a_forbidden_address_is_not_reached_however_it_is_written() {
    install_tls_provider();
    let strict = Prober::new(EgressPolicy { allow_loopback: false }).unwrap();
    let target = healthy().await;
    let port = target.address.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "169.254.169.254",
        "0xa9fea9fe",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",
        "0",
        "[::]",
        "224.0.0.1",
        "255.255.255.255",
        "１２７.０.０.１",
    ] {
        let observation = ask(&strict, &format!("http://{host}:{port}/"), AMPLE).await;
        assert_eq!(blind(&observation), BlindnessReason::EgressDenied, "{host}");
    }
    assert_eq!(target.connections(), 0);
}
