//! Against a real HTTP server on loopback.

use super::*;
use axum::Router;
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// An archive laid out like envtest's, with scripts for binaries.
fn archive(names: &[&str]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for name in names {
        let content = format!("#!/bin/sh\necho {name}\n");
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, format!("controller-tools/envtest/{name}"), content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

/// Serves `archive` and an index that promises `hash`; returns the index's address.
async fn serve(archive: Vec<u8>, hash: String) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let index = format!(
        "releases:\n  v1.36.2:\n    envtest-v1.36.2-{}.tar.gz:\n      hash: {hash}\n      selfLink: {base}/archive\n",
        platform()
    );
    let router = Router::new().route("/index", get(|| async { index })).route("/archive", get(|| async { archive }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("{base}/index")
}

async fn fetch_into(index_url: &str) -> (TempDir, Result<String, ArchiveError>) {
    let directory = tempfile::tempdir().unwrap();
    let result = fetch(index_url, directory.path(), &Reporter::new(&|_| ())).await;
    (directory, result)
}

fn is_empty(directory: &TempDir) -> bool {
    std::fs::read_dir(directory.path()).unwrap().next().is_none()
}

#[tokio::test]
async fn an_archive_with_the_promised_checksum_is_unpacked() {
    let bytes = archive(&["kubectl", ETCD, KUBE_APISERVER]);
    let hash = hexadecimal(&Sha512::digest(&bytes));
    let (directory, result) = fetch_into(&serve(bytes, hash).await).await;
    assert_eq!(result.unwrap(), "v1.36.2");
    let output = std::process::Command::new(directory.path().join(ETCD)).output().unwrap();
    assert_eq!(output.stdout, b"etcd\n");
    assert!(!directory.path().join("kubectl").exists());
}

#[tokio::test]
async fn an_archive_with_another_checksum_is_not_unpacked() {
    let (directory, result) = fetch_into(&serve(archive(&[ETCD, KUBE_APISERVER]), "0".repeat(128)).await).await;
    assert!(matches!(result, Err(ArchiveError::Checksum { .. })), "{result:?}");
    assert!(is_empty(&directory));
}

#[tokio::test]
async fn a_truncated_archive_is_refused_even_if_its_checksum_is_promised() {
    let mut bytes = archive(&[ETCD, KUBE_APISERVER]);
    bytes.truncate(bytes.len() / 2);
    let hash = hexadecimal(&Sha512::digest(&bytes));
    let (_directory, result) = fetch_into(&serve(bytes, hash).await).await;
    assert!(matches!(result, Err(ArchiveError::Unpack(_) | ArchiveError::FindInArchive { .. })), "{result:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_failed_download() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/index", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nreleases:").await.unwrap();
    });
    let (_directory, result) = fetch_into(&url).await;
    assert!(matches!(result, Err(ArchiveError::Download { .. })), "{result:?}");
}

#[tokio::test]
async fn an_archive_without_a_binary_is_refused_by_its_name() {
    let bytes = archive(&[ETCD]);
    let hash = hexadecimal(&Sha512::digest(&bytes));
    let (_directory, result) = fetch_into(&serve(bytes, hash).await).await;
    assert!(matches!(result, Err(ArchiveError::FindInArchive { program: KUBE_APISERVER })), "{result:?}");
}

#[tokio::test]
async fn an_unreachable_index_is_a_failed_download_with_its_reason() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (_directory, result) = fetch_into(&format!("http://{closed}/index")).await;
    let message = result.unwrap_err().to_string();
    assert!(message.contains("refused"), "{message}");
}

#[test]
fn the_pinned_version_is_preferred_then_the_newest_patch_and_never_a_preview() {
    let index = |versions: &[&str]| {
        let mut text = "releases:\n".to_owned();
        for version in versions {
            let _ = write!(text, "  {version}:\n    envtest-{version}-linux-amd64.tar.gz: {{hash: a, selfLink: b}}\n");
        }
        serde_yaml::from_str::<Index>(&text).unwrap()
    };
    let chosen = |versions| choose(&index(versions), "linux-amd64").map(|(version, _)| version.to_owned());
    assert_eq!(chosen(&["v1.36.1", "v1.36.3", "v1.36.10"]).as_deref(), Some("v1.36.3"));
    assert_eq!(chosen(&["v1.36.2", "v1.36.10", "v1.37.0"]).as_deref(), Some("v1.36.10"));
    assert_eq!(chosen(&["v1.36.0-rc.1", "v1.35.3"]), None);
}
