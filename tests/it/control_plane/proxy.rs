//! The API server behind a proxy, as people configure it for kubectl.

use super::connect::target;
use crate::support::{binary, cluster};
use base64::Engine;
use harness::cluster::connect::{ConnectError, connect};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

/// A proxy that speaks CONNECT and SOCKS5, and leads every name to this machine.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let theirs = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(lead(stream, Arc::clone(&theirs)));
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn lead(mut stream: TcpStream, asked: Arc<Mutex<Vec<String>>>) {
    let mut buffer = [0; 2048];
    let length = stream.read(&mut buffer).await.unwrap();
    let (said, port, agreed): (String, u16, &[u8]) = if buffer[0] == 5 {
        stream.write_all(&[5, 0]).await.unwrap();
        let length = stream.read(&mut buffer).await.unwrap();
        // The command CONNECT, to a name of so many bytes, at a port.
        let host = String::from_utf8_lossy(&buffer[5..length - 2]);
        let port = u16::from_be_bytes([buffer[length - 2], buffer[length - 1]]);
        (format!("SOCKS {host}:{port}"), port, &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    } else {
        let head = String::from_utf8_lossy(&buffer[..length]);
        let target = head.split(' ').nth(1).unwrap();
        let port = target.rsplit(':').next().unwrap().parse().unwrap();
        let user = head.lines().find_map(|line| {
            line.to_lowercase().starts_with("proxy-authorization").then(|| {
                let encoded = line.split(' ').next_back().unwrap();
                let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap();
                format!("{}@", String::from_utf8(decoded).unwrap())
            })
        });
        let said = format!("CONNECT {}{target}", user.unwrap_or_default());
        (said, port, b"HTTP/1.1 200 Connection established\r\n\r\n")
    };
    asked.lock().unwrap().push(said);
    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(agreed).await.unwrap();
    let _ = copy_bidirectional(&mut stream, &mut server).await;
}

/// The cluster's kubeconfig, but with a server whose name only the proxy knows; and its port.
fn kubeconfig(directory: &TempDir, proxy_url: Option<&str>) -> (PathBuf, String) {
    let text = fs::read_to_string(cluster().kubeconfig()).unwrap();
    let mut kubeconfig: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    let entry = &mut kubeconfig["clusters"][0]["cluster"];
    let server = entry["server"].as_str().unwrap().to_owned();
    let port = server.trim_end_matches('/').rsplit(':').next().unwrap().to_owned();
    entry["server"] = format!("https://api.example:{port}").into();
    entry["tls-server-name"] = "localhost".into();
    if let Some(url) = proxy_url {
        entry["proxy-url"] = url.into();
    }
    let path = directory.path().join("kubeconfig");
    fs::write(&path, serde_yaml::to_string(&kubeconfig).unwrap()).unwrap();
    (path, port)
}

#[tokio::test]
async fn the_proxy_of_the_kubeconfig_leads_to_the_api_server() {
    let (directory, proxy) = (tempfile::tempdir().unwrap(), Proxy::start().await);
    for (url, said) in [
        (format!("http://{}", proxy.address), "CONNECT api.example"),
        (format!("http://jane:p%40ss@{}", proxy.address), "CONNECT jane:p@ss@api.example"),
        (format!("socks5://{}", proxy.address), "SOCKS api.example"),
    ] {
        let (kubeconfig, port) = kubeconfig(&directory, Some(&url));
        let client = connect(target(&kubeconfig, None)).await.unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(client.apiserver_version().await.unwrap().git_version, cluster().version());
        assert_eq!(proxy.asked().last(), Some(&format!("{said}:{port}")));
    }
}

#[tokio::test]
async fn a_proxy_that_is_none_or_does_not_answer_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (path, _) = kubeconfig(&directory, Some("ftp://user:secret@proxy.example"));
    let error = connect(target(&path, None)).await.err().unwrap();
    assert!(matches!(error, ConnectError::Proxy(_)), "{error}");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (path, _) = kubeconfig(&directory, Some(&format!("http://user:secret@{closed}")));
    let error = connect(target(&path, None)).await.err().unwrap().to_string();
    assert!(error.contains(&format!("through the proxy http://{closed}")) && !error.contains("secret"), "{error}");
}

/// What a person's command says with this in its environment.
async fn said(kubeconfig: &Path, environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(binary());
    command.args(["retry", "none-such", "-n", "default", "--kubeconfig"]).arg(kubeconfig).kill_on_drop(true);
    command.envs(environment.iter().copied());
    let output = timeout(Duration::from_mins(1), command.output()).await.unwrap().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn the_proxy_of_the_environment_leads_to_the_api_server_unless_no_proxy_covers_it() {
    let (directory, proxy) = (tempfile::tempdir().unwrap(), Proxy::start().await);
    let (kubeconfig, port) = kubeconfig(&directory, None);
    let url = proxy.address.to_string();
    let by_proxy = said(&kubeconfig, &[("HTTPS_PROXY", &url), ("NO_PROXY", "10.0.0.0/8,.other.example,")]).await;
    assert!(!by_proxy.contains("did not answer"), "{by_proxy}");
    assert!(proxy.asked().contains(&format!("CONNECT api.example:{port}")), "{:?}", proxy.asked());

    let before = proxy.asked().len();
    let direct = said(&kubeconfig, &[("HTTPS_PROXY", &url), ("no_proxy", "10.0.0.0/8,example,")]).await;
    assert!(direct.contains("did not answer") && !direct.contains("through the proxy"), "{direct}");
    assert_eq!(proxy.asked().len(), before);

    // This machine is never reached through a proxy.
    let local = said(cluster().kubeconfig(), &[("HTTPS_PROXY", "127.0.0.1:9")]).await;
    assert!(!local.contains("did not answer"), "{local}");
}
