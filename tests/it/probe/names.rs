//! Names and addresses: a real name server that answers as a test says, and what may not be reached.
#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

use super::name_server::{Answer, Family, NameServer};
use super::targets::{Target, respond};
use super::{AMPLE, SHORT, blind, failed, measured};
use crate::support::install_tls_provider;
use harness::crd::Connection;
use harness::probe::resolver::GuardedResolver;
use harness::probe::{BlindnessReason, EgressPolicy, FailureReason, Observation, Prober, Query};
use hickory_resolver::Hosts;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::proto::rr::Name;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The search domains of a pod in the namespace shop, on a node with one of its own.
const POD: [&str; 4] = ["shop.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", "corp.example."];

fn prober_with_hosts(server: SocketAddr, search: &[&str], hosts: &str) -> Prober {
    install_tls_provider();
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.to_vec());
    let search = search.iter().map(|name| Name::from_ascii(name).unwrap()).collect();
    let config = ResolverConfig::from_parts(None, search, vec![server]);
    let mut options = ResolverOpts::default();
    options.ndots = 5;
    let mut file = Hosts::default();
    file.read_hosts_conf(hosts.as_bytes()).unwrap();
    let policy = EgressPolicy { allow_loopback: true };
    Prober::with_resolver(GuardedResolver::new(config, options, file, policy).unwrap()).unwrap()
}

fn prober(server: SocketAddr, search: &[&str]) -> Prober {
    prober_with_hosts(server, search, "")
}

async fn name_server(script: impl Fn(&str) -> Answer + Send + Sync + 'static) -> SocketAddr {
    NameServer::start(move |name, _| script(name)).await.address
}

/// The zone of a cluster in which the namespaces shop and prod exist, and no Service but `web.prod`.
fn of_the_cluster(name: &str) -> Option<Answer> {
    match name {
        "web.prod.svc.cluster.local" => Some(Answer::V4(vec![Ipv4Addr::LOCALHOST])),
        "prod.svc.cluster.local" | "shop.svc.cluster.local" | "svc.cluster.local" => Some(Answer::Empty),
        name if name.ends_with("cluster.local") => Some(Answer::NoSuchName),
        _ => None,
    }
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
    let server = name_server(|_| Answer::V4(Vec::new())).await;
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
        "web.default.svc.example" => Answer::V4(vec![Ipv4Addr::LOCALHOST]),
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
    let server = name_server(|_| Answer::V4(vec![METADATA])).await;
    let observation = ask(&prober(server, &[]), "http://service.example/", AMPLE).await;
    assert_eq!(blind(&observation), BlindnessReason::EgressDenied);
    let Observation::Unknown(blindness) = observation else { unreachable!() };
    assert_eq!(blindness.message, "checks may not reach 169.254.169.254, the address of service.example");
}

#[tokio::test]
async fn of_several_addresses_only_the_allowed_are_used() {
    let server = name_server(|_| Answer::V4(vec![METADATA, Ipv4Addr::LOCALHOST, METADATA])).await;
    let target = healthy().await;
    let query = format!("http://service.example:{}/", target.address.port());
    assert_eq!(measured(ask(&prober(server, &[]), &query, AMPLE).await).status, Some(200));
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_the_addresses_that_were_judged_are_reached() {
    // Whoever asks a second time is led astray.
    let server = NameServer::start(|_, family| match family {
        Family::V4 { asked: 1 } => Answer::V4(vec![Ipv4Addr::LOCALHOST]),
        Family::V4 { .. } => Answer::V4(vec![METADATA]),
        Family::V6 => Answer::Empty,
    })
    .await;
    let target = healthy().await;
    let (prober, query) = (prober(server.address, &[]), format!("http://service.example:{}/", target.address.port()));
    assert_eq!(measured(ask(&prober, &query, AMPLE).await).status, Some(200));
    assert_eq!(server.asked("service.example"), 1);
    assert_eq!(blind(&ask(&prober, &query, AMPLE).await), BlindnessReason::EgressDenied);
    assert_eq!(target.connections(), 1);
}

#[tokio::test]
async fn the_hosts_file_comes_before_any_name_server_whatever_a_search_domain_says() {
    let astray = NameServer::start(|_, family| match family {
        Family::V4 { .. } => Answer::V4(vec![METADATA]),
        Family::V6 => Answer::V6(vec![Ipv6Addr::LOCALHOST]),
    })
    .await;
    let target = healthy().await;
    let hosts = "127.0.0.1 db db.example\n::1 six\n";
    let prober = prober_with_hosts(astray.address, &["wildcard.example."], hosts);
    for host in ["db", "DB.example", "db.example."] {
        let query = format!("http://{host}:{}/", target.address.port());
        assert_eq!(measured(ask(&prober, &query, AMPLE).await).status, Some(200), "{host}");
    }
    // Only IPv6 is in the file: no name server is asked for the other family.
    let observation = ask(&prober, &format!("http://six:{}/", target.address.port()), AMPLE).await;
    assert!(matches!(&observation, Observation::Failed(_) | Observation::Unknown(_)), "{observation:?}");
    assert_eq!(server_was_asked(&astray), 0);
}

fn server_was_asked(server: &NameServer) -> usize {
    ["db", "db.example", "six", "db.wildcard.example", "db.example.wildcard.example", "six.wildcard.example"]
        .iter()
        .map(|name| server.asked(name))
        .sum()
}

#[tokio::test]
async fn a_name_server_that_knows_nothing_of_ipv6_neither_blinds_nor_breaks() {
    let target = healthy().await;
    let query = format!("http://service.example:{}/", target.address.port());
    for (case, ipv6) in [
        ("silent", Answer::Nothing),
        ("late", Answer::Late(Duration::from_secs(2), Box::new(Answer::Empty))),
        ("failing", Answer::ServerFailure),
        ("wrong", Answer::NoSuchName),
    ] {
        let server = NameServer::start(move |_, family| match family {
            Family::V4 { .. } => Answer::V4(vec![Ipv4Addr::LOCALHOST]),
            Family::V6 => ipv6.clone(),
        })
        .await;
        let began = Instant::now();
        for timeout in [Duration::from_secs(1), Duration::from_secs(30)] {
            let observation = ask(&prober(server.address, &[]), &query, timeout).await;
            assert_eq!(measured(observation).status, Some(200), "{case} within {timeout:?}");
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{case} held up: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn ipv6_that_leads_nowhere_does_not_keep_ipv4_from_being_tried_even_if_it_comes_later() {
    let target = healthy().await;
    let query = format!("http://service.example:{}/", target.address.port());
    for delay in [Duration::ZERO, Duration::from_millis(300)] {
        let server = NameServer::start(move |_, family| match family {
            Family::V4 { .. } => Answer::Late(delay, Box::new(Answer::V4(vec![Ipv4Addr::LOCALHOST]))),
            Family::V6 => Answer::V6(vec![Ipv6Addr::LOCALHOST]),
        })
        .await;
        let observation = ask(&prober(server.address, &[]), &query, AMPLE).await;
        assert_eq!(measured(observation).status, Some(200), "{delay:?}");
    }
}

#[tokio::test]
async fn a_service_that_is_gone_is_a_breach_whatever_the_world_says() {
    let anywhere = Answer::V4(vec![Ipv4Addr::LOCALHOST]);
    for (case, world) in [("fails", Answer::ServerFailure), ("is silent", Answer::Nothing), ("lies", anywhere)] {
        let server = name_server(move |name| of_the_cluster(name).unwrap_or_else(|| world.clone())).await;
        let prober = prober(server, &POD);
        let names = ["gone.prod", "gone.prod.svc", "gone.prod.svc.cluster.local", "pod.gone.prod"];
        for name in names.into_iter().chain(["gone"].into_iter().filter(|_| case != "lies")) {
            let observation = ask(&prober, &format!("http://{name}:9/"), Duration::from_secs(4)).await;
            assert_eq!(failed(&observation), FailureReason::NameNotFound, "{name}, while the world {case}");
        }
    }
}

#[tokio::test]
async fn a_name_of_the_world_that_the_world_does_not_answer_makes_blind_in_a_cluster_too() {
    for world in [Answer::ServerFailure, Answer::Nothing] {
        let server = name_server(move |name| of_the_cluster(name).unwrap_or_else(|| world.clone())).await;
        let observation = ask(&prober(server, &POD), "http://partner.example/", SHORT).await;
        assert_eq!(blind(&observation), BlindnessReason::ResolverUnavailable);
    }
}

#[tokio::test]
async fn names_of_the_cluster_the_node_and_the_world_are_found_from_a_pod() {
    let server = name_server(|name| {
        of_the_cluster(name).unwrap_or_else(|| match name {
            "partner.example" | "printer.corp.example" => Answer::V4(vec![Ipv4Addr::LOCALHOST]),
            _ => Answer::NoSuchName,
        })
    })
    .await;
    let (prober, port) = (prober(server, &POD), healthy().await.address.port());
    for host in ["web.prod", "web.prod.svc", "web.prod.svc.cluster.local", "partner.example", "printer"] {
        let observation = ask(&prober, &format!("http://{host}:{port}/"), AMPLE).await;
        assert_eq!(measured(observation).status, Some(200), "{host}");
    }
}

#[tokio::test]
async fn aliases_are_followed_and_those_that_go_round_are_no_address() {
    let server = name_server(|name| match name {
        "alias.example" => Answer::Alias("service.example"),
        "service.example" => Answer::V4(vec![Ipv4Addr::LOCALHOST]),
        "here.example" => Answer::Alias("there.example"),
        "there.example" => Answer::Alias("here.example"),
        _ => Answer::NoSuchName,
    })
    .await;
    let (prober, port) = (prober(server, &[]), healthy().await.address.port());
    let observation = ask(&prober, &format!("http://alias.example:{port}/"), AMPLE).await;
    assert_eq!(measured(observation).status, Some(200));
    let observation = ask(&prober, &format!("http://here.example:{port}/"), AMPLE).await;
    assert_eq!(failed(&observation), FailureReason::NameNotFound);
}

#[tokio::test]
async fn an_answer_that_is_too_long_for_udp_is_asked_for_again_over_tcp() {
    let server = NameServer::start(|_, family| match family {
        Family::V4 { .. } => Answer::Truncated(vec![Ipv4Addr::LOCALHOST]),
        Family::V6 => Answer::Empty,
    })
    .await;
    let query = format!("http://service.example:{}/", healthy().await.address.port());
    assert_eq!(measured(ask(&prober(server.address, &[]), &query, AMPLE).await).status, Some(200));
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
