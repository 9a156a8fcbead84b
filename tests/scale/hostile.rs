//! A tenant who does his worst beside a thousand who do not: conditions that take long on answers that take long.

use super::cluster;
use super::operator::Half;
use super::target::Target;
use harness::crd::Invariant;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const OTHERS: usize = 1000;
const HOSTILE: usize = 60;
/// A third of these.
const BROKEN: usize = 20;
const NAMESPACE: &str = "hostile";
const MEASURED: Duration = Duration::from_secs(15);

/// Nobody else's invariant is broken by it, though every hostile one takes as much as it may; says how late checks begin.
pub(crate) async fn keeps_nobody_waiting(monitor: &Half, client: &Client, target: &Target) {
    cluster::create(client, target, 0..OTHERS, Duration::from_secs(5)).await;
    monitor.until("harness_invariants", number(OTHERS)).await;
    monitor.settled().await;
    let before = monitor.steady(MEASURED).await;

    create(client, serve().await).await;
    monitor.until("harness_invariants", number(OTHERS + HOSTILE)).await;
    monitor.until("harness_checks_total{verdict=\"Unknown\"}", 10.0).await;
    // To open a ticket is no matter of conditions: what is measured is what goes on for ever.
    monitor.until("harness_open_tickets", number(BROKEN)).await;
    monitor.settled().await;
    let beside = monitor.steady(MEASURED).await;
    let [alone, beside] = [before, beside].map(|it| it.late_seconds[1]);
    println!("99 of 100 checks began at most {alone} s late; beside the hostile tenant {beside} s");
    // How much later is a matter of the machine, and for whoever reads it; that nobody else is judged by it is not.
    monitor.until_at_most("harness_open_tickets", number(BROKEN)).await;
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

async fn create(client: &Client, server: SocketAddr) {
    let namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } })).unwrap();
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    let api: Api<Invariant> = Api::namespaced(client.clone(), NAMESPACE);
    let search = "!body.matches('a[ab]{900}c')";
    let many = ["!body.matches('a[ab]{90}c')"; 10].join(" && ");
    for count in 0..HOSTILE {
        // A third searches, a third searches much, a third is broken and has much to hide.
        let condition = [search, &many, "== 500"][count % 3];
        let path = if count % 3 == 2 { "secrets" } else { "letters" };
        let invariant: Invariant = serde_json::from_value(json!({
            "apiVersion": "harness.dev/v1alpha1", "kind": "Invariant", "metadata": { "name": format!("worst-{count}") },
            "spec": { "query": format!("http://{server}/{path}"), "condition": condition, "interval": "1s" },
        }))
        .unwrap();
        api.create(&PostParams::default(), &invariant).await.unwrap();
    }
}

/// Answers with 64 KiB that are hard to search, or to redact.
async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (letters, secrets): (Arc<str>, Arc<str>) = (letters().into(), secrets().into());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (letters, secrets) = (Arc::clone(&letters), Arc::clone(&secrets));
            tokio::spawn(async move {
                let mut head = [0; 1024];
                let length = stream.read(&mut head).await.unwrap_or(0);
                let body = if head[..length].starts_with(b"GET /secrets") { secrets } else { letters };
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(body.as_bytes()).await;
            });
        }
    });
    address
}

fn letters() -> String {
    noise().take(64 * 1024).map(|number| if number % 2 == 0 { 'a' } else { 'b' }).collect()
}

fn secrets() -> String {
    let mut text = String::new();
    for (one, other) in noise().zip(noise().skip(1)).take(64 * 1024 / 64) {
        let _ = writeln!(text, "name: DB_PASSWORD_{one:x}, value: {other:x}{one:x}, token={one:x}{other:x}");
    }
    text.truncate(64 * 1024);
    text
}

fn noise() -> impl Iterator<Item = u32> {
    std::iter::successors(Some(1_u32), |state| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)))
        .map(|state| state >> 8)
}
