//! Questions to real sockets: what each way to answer, or not to answer, means.
#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

mod name_server;
mod names;
mod targets;
mod tls;

use crate::support::install_tls_provider;
use harness::crd::Connection;
use harness::probe::{
    BlindnessReason, Condition, EgressPolicy, FailureReason, Measurement, Observation, Prober, Query, Value, Verdict,
    judge,
};
use std::net::SocketAddr;
use std::time::Duration;
use targets::{Target, answer, head, respond};
use tokio::io::AsyncWriteExt;

/// Long enough for any answer on this machine: no test waits for it to end.
pub(crate) const AMPLE: Duration = Duration::from_secs(20);
/// For targets that never answer.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

fn prober() -> Prober {
    install_tls_provider();
    Prober::new(EgressPolicy { allow_loopback: true }).unwrap()
}

async fn ask(query: &str, timeout: Duration) -> Observation {
    prober().ask(&Query::parse(query).unwrap(), Connection::New, timeout).await.observation
}

fn at(address: SocketAddr) -> String {
    format!("http://{address}/health")
}

pub(crate) fn measured(observation: Observation) -> Measurement {
    let Observation::Measured(measurement) = observation else { panic!("{observation:?}") };
    measurement
}

pub(crate) fn failed(observation: &Observation) -> FailureReason {
    let Observation::Failed(failure) = observation else { panic!("{observation:?}") };
    failure.reason
}

pub(crate) fn blind(observation: &Observation) -> BlindnessReason {
    let Observation::Unknown(blindness) = observation else { panic!("{observation:?}") };
    blindness.reason
}

#[tokio::test]
async fn an_answer_is_measured() {
    let target = Target::start(async |stream| respond(stream, "503 Service Unavailable", b"down").await).await;
    let query = Query::parse(&at(target.address)).unwrap();
    let sample = prober().ask(&query, Connection::New, AMPLE).await;
    let judgement = judge(&sample, &Condition::parse("== 200").unwrap());
    assert_eq!((judgement.verdict, judgement.reading.to_string().as_str()), (Verdict::Breached, "503"));
    let found = measured(sample.observation);
    assert_eq!((found.status, found.value, found.body.as_str()), (Some(503), Value::Number(503.0), "down"));
}

#[tokio::test]
async fn a_latency_is_at_least_the_time_that_the_target_took() {
    let target = Target::start(async |stream| {
        tokio::time::sleep(Duration::from_millis(40)).await;
        respond(stream, "200 OK", b"").await;
    })
    .await;
    let found = measured(ask(&format!("latency:{}", at(target.address)), AMPLE).await);
    let Value::Number(milliseconds) = found.value else { panic!("{:?}", found.value) };
    assert!(milliseconds >= 40.0, "{milliseconds}");
}

#[tokio::test]
async fn a_question_says_who_asks_and_asks_for_nothing_compressed() {
    let target = Target::start(async |mut stream| {
        let head = head(&mut stream).await;
        answer(stream, "200 OK", head.as_bytes()).await;
    })
    .await;
    let head = measured(ask(&at(target.address), AMPLE).await).body;
    assert!(head.starts_with("GET /health HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("user-agent: harness/{}\r\n", env!("CARGO_PKG_VERSION"))), "{head}");
    assert!(head.contains("accept-encoding: identity\r\n"), "{head}");
}

#[tokio::test]
async fn each_question_makes_its_own_connection() {
    let target = Target::start(async |stream| respond(stream, "200 OK", b"").await).await;
    let (prober, query) = (prober(), Query::parse(&at(target.address)).unwrap());
    for _ in 0..3 {
        measured(prober.ask(&query, Connection::New, AMPLE).await.observation);
    }
    assert_eq!(target.connections(), 3);
}

#[tokio::test]
async fn a_question_that_may_uses_the_connection_of_the_last_one() {
    let target = Target::start(async |mut stream| {
        while !head(&mut stream).await.is_empty() {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let (prober, query) = (prober(), Query::parse(&at(target.address)).unwrap());
    for (connection, made) in [(Connection::Reuse, 1), (Connection::Reuse, 1), (Connection::New, 2)] {
        measured(prober.ask(&query, connection, AMPLE).await.observation);
        assert_eq!(target.connections(), made, "{connection:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_the_answer_and_is_not_followed() {
    let target = Target::start(async |stream| respond(stream, "302 Found\r\nlocation: /elsewhere", b"").await).await;
    assert_eq!(measured(ask(&at(target.address), AMPLE).await).status, Some(302));
    assert_eq!(target.connections(), 1);
}

#[tokio::test]
async fn a_refused_connection_is_a_breach_with_its_reason() {
    let address = targets::nobody().await;
    assert_eq!(failed(&ask(&at(address), AMPLE).await), FailureReason::ConnectionRefused);
}

#[tokio::test]
async fn a_refused_connection_to_localhost_is_a_breach_too() {
    let port = targets::nobody().await.port();
    let observation = ask(&format!("http://localhost:{port}/"), AMPLE).await;
    assert_eq!(failed(&observation), FailureReason::ConnectionRefused);
}

#[tokio::test]
async fn a_connection_cut_before_the_answer_is_a_reset() {
    let target = Target::start(async |mut stream| {
        head(&mut stream).await;
        // The kernel forgets the connection at once and says so.
        stream.set_zero_linger().unwrap();
    })
    .await;
    assert_eq!(failed(&ask(&at(target.address), AMPLE).await), FailureReason::ConnectionReset);
}

#[tokio::test]
async fn a_connection_closed_in_order_before_the_answer_is_a_protocol_error() {
    let target = Target::start(async |mut stream| {
        head(&mut stream).await;
        let _ = stream.shutdown().await;
    })
    .await;
    assert_eq!(failed(&ask(&at(target.address), AMPLE).await), FailureReason::ProtocolError);
}

#[tokio::test]
async fn a_target_that_accepts_and_never_answers_times_out() {
    let target = Target::start(async |_stream| std::future::pending().await).await;
    assert_eq!(failed(&ask(&at(target.address), SHORT).await), FailureReason::TimedOut);
}

#[tokio::test]
async fn a_body_that_stops_on_the_way_times_out() {
    let target = Target::start(async |mut stream| {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    assert_eq!(failed(&ask(&at(target.address), SHORT).await), FailureReason::TimedOut);
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_a_protocol_error() {
    let target = Target::start(async |mut stream| {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await.unwrap();
        let _ = stream.shutdown().await;
    })
    .await;
    assert_eq!(failed(&ask(&at(target.address), AMPLE).await), FailureReason::ProtocolError);
}

#[tokio::test]
async fn a_long_body_is_read_to_its_end_and_kept_at_its_start() {
    const LENGTH: usize = 1024 * 1024;
    let target = Target::start(async |mut stream| {
        head(&mut stream).await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; LENGTH - 1]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        let _ = stream.write_all(b"x").await;
    })
    .await;
    let found = measured(ask(&format!("latency:{}", at(target.address)), AMPLE).await);
    assert!(found.latency >= Duration::from_millis(400), "{:?}", found.latency);
    assert_eq!((found.status, found.body.len()), (Some(200), 64 * 1024));
}

#[tokio::test]
async fn a_long_body_that_ends_too_early_is_a_protocol_error_however_it_says_its_length() {
    for (head, part) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "20000\r\n"),
    ] {
        let target = Target::start(move |mut stream| async move {
            targets::head(&mut stream).await;
            let _ = stream.write_all(format!("{head}{part}{}", "x".repeat(128 * 1024)).as_bytes()).await;
            let _ = stream.shutdown().await;
        })
        .await;
        assert_eq!(failed(&ask(&at(target.address), AMPLE).await), FailureReason::ProtocolError, "{head}");
    }
}

#[tokio::test]
async fn an_endless_body_times_out_and_is_let_go() {
    let target = Target::start(async |mut stream| {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&[b'x'; 16 * 1024]).await.is_ok() {}
    })
    .await;
    assert_eq!(failed(&ask(&at(target.address), SHORT).await), FailureReason::TimedOut);
    // The connection is dropped: the target can write no more.
    target.finished().await;
}

#[tokio::test]
async fn a_body_that_comes_compressed_all_the_same_is_understood() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, b"all is well").unwrap();
    let compressed: std::sync::Arc<[u8]> = encoder.finish().unwrap().into();
    let target = Target::start(move |stream| {
        let compressed = std::sync::Arc::clone(&compressed);
        async move { respond(stream, "200 OK\r\ncontent-encoding: gzip", &compressed).await }
    })
    .await;
    assert_eq!(measured(ask(&at(target.address), AMPLE).await).body, "all is well");
    let broken =
        Target::start(async |stream| respond(stream, "200 OK\r\ncontent-encoding: gzip", b"plain").await).await;
    assert_eq!(failed(&ask(&at(broken.address), AMPLE).await), FailureReason::ProtocolError);
}

#[tokio::test]
async fn many_header_fields_are_an_answer() {
    let fields = "\r\nx-field: value".repeat(400);
    let target = Target::start(move |stream| {
        let status = format!("200 OK{fields}");
        async move { respond(stream, &status, b"").await }
    })
    .await;
    assert_eq!(measured(ask(&at(target.address), AMPLE).await).status, Some(200));
}

#[tokio::test]
async fn a_kept_connection_that_is_closed_at_the_next_question_is_no_breach() {
    let target = Target::start(async |mut stream| {
        head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        // The next question is read, and not answered.
        head(&mut stream).await;
        let _ = stream.shutdown().await;
    })
    .await;
    let (prober, query) = (prober(), Query::parse(&at(target.address)).unwrap());
    for connections in 1..4 {
        let observation = prober.ask(&query, Connection::Reuse, AMPLE).await.observation;
        assert_eq!(measured(observation).status, Some(200));
        assert_eq!(target.connections(), connections);
    }
}

#[tokio::test]
async fn a_question_over_a_kept_connection_is_repeated_only_once() {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let target = Target::start(move |mut stream| {
        let first = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        async move {
            head(&mut stream).await;
            if first {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                head(&mut stream).await;
            }
            let _ = stream.shutdown().await;
        }
    })
    .await;
    let (prober, query) = (prober(), Query::parse(&at(target.address)).unwrap());
    measured(prober.ask(&query, Connection::Reuse, AMPLE).await.observation);
    let observation = prober.ask(&query, Connection::Reuse, AMPLE).await.observation;
    assert_eq!(failed(&observation), FailureReason::ProtocolError);
    assert_eq!(target.connections(), 2);
}

#[tokio::test]
async fn endless_headers_are_a_protocol_error() {
    let target = Target::start(async |mut stream| {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        while stream.write_all(b"x-more: and more\r\n").await.is_ok() {}
    })
    .await;
    let reason = failed(&ask(&at(target.address), AMPLE).await);
    assert_eq!(reason, FailureReason::ProtocolError);
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_a_protocol_error() {
    let target = Target::start(async |mut stream| {
        head(&mut stream).await;
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n\r\n").await;
        let _ = stream.shutdown().await;
    })
    .await;
    assert_eq!(failed(&ask(&at(target.address), AMPLE).await), FailureReason::ProtocolError);
}

#[tokio::test]
async fn what_is_no_utf_8_in_a_body_is_replaced() {
    let target = Target::start(async |stream| respond(stream, "200 OK", b"a\xff\xfeb").await).await;
    assert_eq!(measured(ask(&at(target.address), AMPLE).await).body, "a\u{fffd}\u{fffd}b");
}
