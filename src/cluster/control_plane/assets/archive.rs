//! Fetches the binaries as the release archive that envtest uses: an index of archives, each with its SHA-512.
//!
//! Touches the world: downloads. The connect time-out is short, because without a network the next way is tried.

use super::progress::{Reporter, Stage};
use super::{ETCD, KUBE_APISERVER, KUBERNETES_MINOR_VERSION, KUBERNETES_VERSION};
use flate2::read::GzDecoder;
use reqwest::{Client, Response};
use serde::Deserialize;
use sha2::{Digest, Sha512};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// How long a server may be silent in the middle of an answer.
const SILENCE_DEADLINE: Duration = Duration::from_secs(15);
/// How long all of it may take.
const FETCH_DEADLINE: Duration = Duration::from_mins(10);
const INDEX_LIMIT_BYTES: u64 = 4 * 1024 * 1024;
const ARCHIVE_LIMIT_BYTES: u64 = 512 * 1024 * 1024;
const BINARY_LIMIT_BYTES: u64 = 1024 * 1024 * 1024;

/// Why there is no release archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// No HTTP client could be made.
    #[error("could not prepare to download: {}", in_full(.0))]
    Prepare(#[source] reqwest::Error),
    /// A server could not be reached, refused, or broke off.
    #[error("could not download {url}: {}", in_full(source))]
    Download {
        /// What was asked for.
        url: String,
        /// The reason.
        source: reqwest::Error,
    },
    /// An answer is longer than it can sensibly be.
    #[error("{url} is longer than {limit_bytes} bytes")]
    Limit {
        /// What was asked for.
        url: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// All of it took too long.
    #[error("the release archive did not arrive within {} min", FETCH_DEADLINE.as_secs() / 60)]
    AwaitArchive,
    /// The index is not what it was.
    #[error("could not understand the index {url}: {reason}")]
    ParseIndex {
        /// The index.
        url: String,
        /// The reason.
        reason: String,
    },
    /// There is no archive of this version for this machine.
    #[error("the index has no archive of Kubernetes {KUBERNETES_MINOR_VERSION}x for {platform}")]
    ChooseArchive {
        /// Operating system and architecture.
        platform: String,
    },
    /// The archive is not the one that the index promises.
    #[error("{url} should have the SHA-512 {expected}, but has {actual}")]
    Checksum {
        /// The archive.
        url: String,
        /// What the index says.
        expected: String,
        /// What came.
        actual: String,
    },
    /// The archive could not be stored or unpacked.
    #[error("could not unpack the release archive: {0}")]
    Unpack(#[source] io::Error),
    /// The archive lacks a binary.
    #[error("the release archive has no {program}")]
    FindInArchive {
        /// The binary.
        program: &'static str,
    },
}

#[derive(Debug, Deserialize)]
struct Index {
    /// By version, then by the archive's file name.
    releases: BTreeMap<String, BTreeMap<String, Entry>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Entry {
    /// SHA-512, hexadecimal.
    hash: String,
    #[serde(rename = "selfLink")]
    link: String,
}

/// Puts the binaries of the best archive in the index at `index_url` into `directory`, and returns their version.
pub(super) async fn fetch(index_url: &str, directory: &Path, reporter: &Reporter<'_>) -> Result<String, ArchiveError> {
    timeout(FETCH_DEADLINE, fetch_patiently(index_url, directory, reporter))
        .await
        .unwrap_or(Err(ArchiveError::AwaitArchive))
}

async fn fetch_patiently(index_url: &str, directory: &Path, reporter: &Reporter<'_>) -> Result<String, ArchiveError> {
    let client = Client::builder()
        .connect_timeout(CONNECT_DEADLINE)
        .read_timeout(SILENCE_DEADLINE)
        .build()
        .map_err(ArchiveError::Prepare)?;
    reporter.report(Stage::ReadingIndex);
    let index = read_index(&client, index_url).await?;
    let platform = platform();
    let (version, entry) = choose(&index, &platform).ok_or(ArchiveError::ChooseArchive { platform })?;
    let archive = download(&client, entry, directory, reporter).await?;
    reporter.report(Stage::Unpacking);
    let target = directory.to_path_buf();
    tokio::task::spawn_blocking(move || unpack(archive, &target))
        .await
        .map_err(|error| ArchiveError::Unpack(io::Error::other(error)))??;
    Ok(version.to_owned())
}

async fn read_index(client: &Client, url: &str) -> Result<Index, ArchiveError> {
    let mut text = Vec::new();
    let mut response = get(client, url).await?;
    while let Some(chunk) = next_chunk(&mut response, url).await? {
        text.extend_from_slice(&chunk);
        within(text.len() as u64, INDEX_LIMIT_BYTES, url)?;
    }
    serde_yaml::from_slice(&text)
        .map_err(|error| ArchiveError::ParseIndex { url: url.to_owned(), reason: error.to_string() })
}

/// The pinned version, or else the newest patch of the same minor version.
fn choose<'a>(index: &'a Index, platform: &str) -> Option<(&'a str, &'a Entry)> {
    let candidates = index.releases.iter().filter_map(|(version, archives)| {
        let patch: u32 = version.strip_prefix(KUBERNETES_MINOR_VERSION)?.parse().ok()?;
        let entry = archives.get(&format!("envtest-{version}-{platform}.tar.gz"))?;
        Some((version.as_str(), patch, entry))
    });
    candidates
        .max_by_key(|(version, patch, _)| (*version == KUBERNETES_VERSION, *patch))
        .map(|(version, _, entry)| (version, entry))
}

/// Operating system and architecture, in Go's words.
fn platform() -> String {
    let system = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{system}-{architecture}")
}

/// Downloads an archive to a file without a name, and checks it.
async fn download(
    client: &Client,
    entry: &Entry,
    directory: &Path,
    reporter: &Reporter<'_>,
) -> Result<File, ArchiveError> {
    let url = &entry.link;
    let mut file = tempfile::tempfile_in(directory).map_err(ArchiveError::Unpack)?;
    let mut response = get(client, url).await?;
    let total_bytes = response.content_length();
    let mut checksum = Sha512::new();
    let mut received_bytes = 0;
    while let Some(chunk) = next_chunk(&mut response, url).await? {
        received_bytes += chunk.len() as u64;
        within(received_bytes, ARCHIVE_LIMIT_BYTES, url)?;
        checksum.update(&chunk);
        file.write_all(&chunk).map_err(ArchiveError::Unpack)?;
        reporter.report(Stage::DownloadingArchive { received_bytes, total_bytes });
    }
    let actual = hexadecimal(&checksum.finalize());
    if !actual.eq_ignore_ascii_case(&entry.hash) {
        return Err(ArchiveError::Checksum { url: url.clone(), expected: entry.hash.clone(), actual });
    }
    Ok(file)
}

async fn get(client: &Client, url: &str) -> Result<Response, ArchiveError> {
    let sent = client.get(url).send().await.and_then(Response::error_for_status);
    sent.map_err(|source| not_downloaded(url, source))
}

async fn next_chunk(response: &mut Response, url: &str) -> Result<Option<bytes::Bytes>, ArchiveError> {
    response.chunk().await.map_err(|source| not_downloaded(url, source))
}

fn not_downloaded(url: &str, source: reqwest::Error) -> ArchiveError {
    // The message has the address already.
    ArchiveError::Download { url: url.to_owned(), source: source.without_url() }
}

fn within(length_bytes: u64, limit_bytes: u64, url: &str) -> Result<(), ArchiveError> {
    if length_bytes > limit_bytes {
        return Err(ArchiveError::Limit { url: url.to_owned(), limit_bytes });
    }
    Ok(())
}

/// Takes the two binaries out of the archive, by their file names; whatever else is in it stays there.
fn unpack(mut archive: File, directory: &Path) -> Result<(), ArchiveError> {
    io::Seek::rewind(&mut archive).map_err(ArchiveError::Unpack)?;
    let mut missing = vec![KUBE_APISERVER, ETCD];
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    for entry in archive.entries().map_err(ArchiveError::Unpack)? {
        let mut entry = entry.map_err(ArchiveError::Unpack)?;
        let path = entry.path().map_err(ArchiveError::Unpack)?.into_owned();
        let position = missing.iter().position(|program| path.file_name().is_some_and(|name| name == *program));
        if let Some(position) = position.filter(|_| entry.header().entry_type().is_file()) {
            let program = missing.swap_remove(position);
            copy(&mut entry, &directory.join(program)).map_err(ArchiveError::Unpack)?;
        }
    }
    match missing.first() {
        Some(program) => Err(ArchiveError::FindInArchive { program }),
        None => Ok(()),
    }
}

fn copy(from: &mut impl Read, to: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(to)?;
    let copied_bytes = io::copy(&mut from.take(BINARY_LIMIT_BYTES + 1), &mut file)?;
    if copied_bytes > BINARY_LIMIT_BYTES {
        return Err(io::Error::other(format!("a binary is longer than {BINARY_LIMIT_BYTES} bytes")));
    }
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An error with its causes: reqwest's own message leaves them out.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests;
