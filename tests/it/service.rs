//! The demo service over real HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be prepared has failed")]

mod process;

use harness::service::{Service, ServiceError, Settings};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test gives up.
const DEADLINE: Duration = Duration::from_secs(20);
const HEALTHY: &str = r#"{"enabled": true, "delay_ms": 0}"#;

/// A service with a config file of its own.
struct Running {
    address: std::net::SocketAddr,
    config: PathBuf,
    client: Client,
    shutdown: CancellationToken,
    ended: JoinHandle<Result<(), ServiceError>>,
    _directory: TempDir,
}

impl Running {
    async fn with_config(text: &str) -> Self {
        let running = Self::without_config().await;
        running.write(text);
        running
    }

    async fn without_config() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("service_config.json");
        let settings = Settings { config: config.clone(), address: ([127, 0, 0, 1], 0).into() };
        let service = Service::bind(settings).await.unwrap();
        let address = service.address();
        let shutdown = CancellationToken::new();
        let ended = tokio::spawn(service.serve(shutdown.clone().cancelled_owned()));
        Self { address, config, client: client(), shutdown, ended, _directory: directory }
    }

    fn write(&self, text: &str) {
        fs::write(&self.config, text).unwrap();
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(format!("http://{}{path}", self.address)).send().await.unwrap()
    }

    async fn health(&self) -> (StatusCode, Value) {
        read(self.get("/health").await).await
    }

    async fn post(&self, body: impl Into<reqwest::Body>) -> Response {
        self.client.post(format!("http://{}/check", self.address)).body(body).send().await.unwrap()
    }

    async fn check(&self, key: &str) -> Response {
        self.post(json!({ "key": key }).to_string()).await
    }

    async fn metrics(&self) -> String {
        self.get("/metrics").await.text().await.unwrap()
    }
}

fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().timeout(DEADLINE).build().unwrap()
}

async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_sound_config_is_healthy_and_says_what_is_in_force() {
    let service = Running::with_config(r#"{"enabled": true, "delay_ms": 0, "burst": 5, "owner": "me"}"#).await;
    let expected = json!({"status": "ok", "delay_ms": 0, "requests_per_second": 10, "burst": 5});
    assert_eq!(service.health().await, (StatusCode::OK, expected));
}

#[tokio::test]
async fn a_disabled_service_says_so_on_health_and_on_check() {
    let service = Running::with_config(r#"{"enabled": false, "delay_ms": 0}"#).await;
    let reason = format!("{}: /enabled is false", service.config.display());
    let expected = (StatusCode::SERVICE_UNAVAILABLE, json!({"status": "unhealthy", "reason": reason}));
    assert_eq!(service.health().await, expected);
    assert_eq!(read(service.check("alice").await).await, expected);
}

#[tokio::test]
async fn a_delay_makes_health_late_and_leaves_check_alone() {
    let service = Running::with_config(r#"{"enabled": true, "delay_ms": 150}"#).await;
    let started = Instant::now();
    assert_eq!(service.health().await.0, StatusCode::OK);
    assert!(started.elapsed() >= Duration::from_millis(150));

    service.write(r#"{"enabled": true, "delay_ms": 60000}"#);
    assert_eq!(service.check("alice").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_disabled_service_says_so_late_if_it_is_slow_too() {
    let service = Running::with_config(r#"{"enabled": false, "delay_ms": 150}"#).await;
    let started = Instant::now();
    assert_eq!(service.health().await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert!(started.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn each_kind_of_broken_config_is_named_with_its_file_and_place_and_healed_by_a_sound_one() {
    let service = Running::without_config().await;
    let cases = [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("{\n\"enabled\": true,\n}", "trailing comma at line 3 column 1"),
        ("7", "expected a JSON object"),
        (r#"{"enabled": 1, "delay_ms": 0}"#, "/enabled: expected true or false, found 1"),
        (r#"{"enabled": true, "delay_ms": 60001}"#, "/delay_ms: expected a whole number"),
        (r#"{"enabled": true, "delay_ms": 0, "requests_per_second": -1}"#, "/requests_per_second: expected"),
        (r#"{"enabled": true, "delay_ms": 0, "burst": 0}"#, "/burst: expected"),
        (&" ".repeat(70_000), "has more than 65536 bytes"),
    ];
    let unhealthy = async |expected: &str| {
        let (status, answer) = service.health().await;
        assert_eq!((status, &answer["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("unhealthy")));
        let reason = answer["reason"].as_str().unwrap();
        assert!(reason.contains(expected), "{reason:?} does not contain {expected:?}");
        assert!(reason.contains(service.config.to_str().unwrap()), "{reason:?} does not name the file");
    };
    unhealthy("No such file or directory").await;
    for (text, expected) in cases {
        service.write(text);
        unhealthy(expected).await;
    }
    fs::remove_file(&service.config).unwrap();
    fs::create_dir(&service.config).unwrap();
    unhealthy("is not a regular file").await;
    fs::remove_dir(&service.config).unwrap();
    symlink("/dev/zero", &service.config).unwrap();
    unhealthy("is not a regular file").await;
    fs::remove_file(&service.config).unwrap();
    service.write(HEALTHY);
    assert_eq!(service.health().await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_config_that_is_swapped_as_a_kubelet_does_is_in_force_at_once() {
    let service = Running::without_config().await;
    let directory = service.config.parent().unwrap();
    let project = |version: &str, text: &str| {
        fs::create_dir(directory.join(version)).unwrap();
        fs::write(directory.join(version).join("service_config.json"), text).unwrap();
        symlink(version, directory.join("..data_tmp")).unwrap();
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    };
    symlink(Path::new("..data").join("service_config.json"), &service.config).unwrap();
    project("..first", HEALTHY);
    assert_eq!(service.health().await.0, StatusCode::OK);
    project("..second", r#"{"enabled": false, "delay_ms": 0}"#);
    assert_eq!(service.health().await.0, StatusCode::SERVICE_UNAVAILABLE);
    project("..third", HEALTHY);
    assert_eq!(service.health().await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_key_that_has_used_its_burst_is_limited_and_told_when_to_come_back() {
    let service =
        Running::with_config(r#"{"enabled": true, "delay_ms": 0, "requests_per_second": 1, "burst": 3}"#).await;
    let response = service.check("alice").await;
    assert_eq!(header(&response, "ratelimit-policy"), Some(r#""default";q=3;w=3"#));
    assert_eq!(header(&response, "ratelimit"), Some(r#""default";r=2;t=1"#));
    assert_eq!(header(&response, "retry-after"), None);
    assert_eq!(read(response).await, (StatusCode::OK, json!({"allowed": true, "remaining": 2})));

    // A slow machine may give tokens back in the meantime, so as many as are needed.
    let deadline = Instant::now() + DEADLINE;
    let limited = loop {
        let response = service.check("alice").await;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            break response;
        }
        assert!(Instant::now() < deadline, "never limited");
    };
    assert_eq!(header(&limited, "ratelimit-policy"), Some(r#""default";q=3;w=3"#));
    assert_eq!(header(&limited, "ratelimit"), Some(r#""default";r=0;t=1"#));
    assert_eq!(header(&limited, "retry-after"), Some("1"));
    let (_, answer) = read(limited).await;
    assert_eq!((&answer["allowed"], &answer["remaining"]), (&json!(false), &json!(0)));
    assert!((1..=1000).contains(&answer["retry_after_ms"].as_u64().unwrap()), "{answer}");
}

#[tokio::test]
async fn each_key_has_a_bucket_of_its_own() {
    let service =
        Running::with_config(r#"{"enabled": true, "delay_ms": 0, "requests_per_second": 1, "burst": 9}"#).await;
    service.check("alice").await;
    let (_, answer) = read(service.check("bob").await).await;
    assert_eq!(answer, json!({"allowed": true, "remaining": 8}));
}

#[tokio::test]
async fn a_changed_rate_is_in_force_at_the_next_check() {
    let service = Running::with_config(HEALTHY).await;
    assert_eq!(read(service.check("alice").await).await.1["remaining"], json!(19));
    service.write(r#"{"enabled": true, "delay_ms": 0, "burst": 100}"#);
    assert_eq!(read(service.check("alice").await).await.1["remaining"], json!(99));
}

#[tokio::test]
async fn made_up_keys_take_no_more_places_than_there_are() {
    let service =
        Running::with_config(r#"{"enabled": true, "delay_ms": 0, "requests_per_second": 1, "burst": 1000}"#).await;
    let (mut reader, mut writer) = TcpStream::connect(service.address).await.unwrap().into_split();
    let flood = tokio::spawn(async move {
        for key in 0..10_050 {
            let body = format!(r#"{{"key": "{key}"}}"#);
            let head = format!("POST /check HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", body.len());
            let last = if key == 10_049 { "Connection: close\r\n" } else { "" };
            writer.write_all(format!("{head}{last}\r\n{body}").as_bytes()).await.unwrap();
        }
        writer
    });
    let mut answers = String::new();
    timeout(DEADLINE, reader.read_to_string(&mut answers)).await.unwrap().unwrap();
    drop(flood.await.unwrap());
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 10_050);
    // The keys past the last place share one bucket.
    assert!(answers.contains(r#""remaining":998"#), "the keys past the last place did not share a bucket");
    assert!(service.metrics().await.contains("\nrate_limiter_keys 10000\n"));
}

#[tokio::test]
async fn idle_keys_leave() {
    let service =
        Running::with_config(r#"{"enabled": true, "delay_ms": 0, "requests_per_second": 100, "burst": 1}"#).await;
    service.check("alice").await;
    let emptied = async {
        while !service.metrics().await.contains("\nrate_limiter_keys 0\n") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, emptied).await.unwrap();
}

#[tokio::test]
async fn a_body_that_is_no_key_is_refused_with_its_place() {
    let service = Running::with_config(HEALTHY).await;
    let cases = [
        (String::new(), StatusCode::BAD_REQUEST, "EOF while parsing a value at line 1 column 0"),
        ("{\n\"key\": alice}".to_owned(), StatusCode::BAD_REQUEST, "line 2 column 8"),
        ("{}".to_owned(), StatusCode::BAD_REQUEST, "missing field `key` at line 1 column 2"),
        (r#"{"key": 7}"#.to_owned(), StatusCode::BAD_REQUEST, "expected a string at line 1 column 9"),
        (r#"{"key": ""}"#.to_owned(), StatusCode::BAD_REQUEST, "/key: expected 1 to 256 bytes, found 0"),
        (json!({"key": "k".repeat(257)}).to_string(), StatusCode::BAD_REQUEST, "found 257"),
        (json!({"key": "k".repeat(4096)}).to_string(), StatusCode::PAYLOAD_TOO_LARGE, "more than 4096 bytes"),
    ];
    for (body, status, expected) in cases {
        let (found, answer) = read(service.post(body.clone()).await).await;
        let reason = answer["reason"].as_str().unwrap();
        assert_eq!(found, status, "{body}");
        assert!(reason.contains(expected), "{reason:?} does not contain {expected:?}");
    }
    assert_eq!(service.check(&"k".repeat(256)).await.status(), StatusCode::OK);
    assert_eq!(service.post(vec![b'"', 0xff, b'"']).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(service.get("/check").await.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(service.get("/elsewhere").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn metrics_count_what_was_answered() {
    let service =
        Running::with_config(r#"{"enabled": true, "delay_ms": 0, "requests_per_second": 1, "burst": 1}"#).await;
    service.health().await;
    service.check("alice").await;
    service.post("nonsense").await;
    service.get("/made/up").await;
    service.write(r#"{"enabled": false, "delay_ms": 0}"#);
    service.health().await;
    let response = service.get("/metrics").await;
    assert!(header(&response, "content-type").unwrap().starts_with("application/openmetrics-text; version=1.0.0"));
    let text = response.text().await.unwrap();
    for line in [
        r#"rate_limiter_requests_total{endpoint="Health",code="200"} 1"#,
        r#"rate_limiter_requests_total{endpoint="Health",code="503"} 1"#,
        r#"rate_limiter_requests_total{endpoint="Check",code="200"} 1"#,
        r#"rate_limiter_requests_total{endpoint="Check",code="400"} 1"#,
        r#"rate_limiter_requests_total{endpoint="Other",code="404"} 1"#,
        r#"rate_limiter_checks_total{outcome="Allowed"} 1"#,
        "rate_limiter_health_latency_seconds_count 2",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
    }
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_service_stops() {
    let service = Running::with_config(HEALTHY).await;
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let idle = TcpStream::connect(service.address).await.unwrap();
    let body = r#"{"key": "alice"}"#;
    let head =
        format!("POST /check HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut continued = [0; 25];
    timeout(DEADLINE, stream.read_exact(&mut continued)).await.unwrap().unwrap();
    assert_eq!(&continued, b"HTTP/1.1 100 Continue\r\n\r\n");

    service.shutdown.cancel();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains(r#""allowed":true"#), "{answer}");
    timeout(DEADLINE, service.ended).await.unwrap().unwrap().unwrap();
    drop(idle);
}

#[tokio::test]
async fn a_request_that_does_not_end_does_not_hold_back_the_stop() {
    let service = Running::with_config(r#"{"enabled": true, "delay_ms": 60000}"#).await;
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // Answered behind it on another connection: the first request has been read by now, or will be cut unread.
    service.metrics().await;
    service.shutdown.cancel();
    timeout(DEADLINE, service.ended).await.unwrap().unwrap().unwrap();
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"");
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let result = Service::bind(Settings { config: PathBuf::from("unused"), address }).await;
    assert!(matches!(result, Err(ServiceError::TakePort { address: found }) if found == address));
}
