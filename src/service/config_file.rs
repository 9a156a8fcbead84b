//! The config file: read by its path each time, replaced whole.
//!
//! A path and not an open file, because a kubelet changes a mounted config by swapping a symlink: whoever keeps the
//! file open goes on reading the old one.

use super::config::{Config, ConfigError, DEFAULT_TEXT, Rate};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::time::timeout;

/// The largest config file, in bytes.
pub const MAX_BYTES: u64 = 64 * 1024;
/// How long reading may take: the file may lie on a network.
const READ_DEADLINE: Duration = Duration::from_secs(2);
/// The permissions of a file that did not exist: everybody reads, the owner writes.
const NEW_FILE_MODE: u32 = 0o644;

/// The path of a config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    path: PathBuf,
}

/// What a service whose config is in order does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orders {
    /// How late `/health` answers.
    pub delay: Duration,
    /// What `/check` allows.
    pub rate: Rate,
}

/// Why the service does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Unready {
    /// The config says so.
    #[error("{}: /enabled is false", path.display())]
    Disabled {
        /// The config file.
        path: PathBuf,
        /// How late `/health` says so.
        delay: Duration,
    },
    /// The config cannot be followed.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The config file.
        path: PathBuf,
        /// What is wrong, and where.
        source: ConfigError,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ConfigFileError),
}

/// Why the file could not be read or replaced.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// It is missing or unreadable.
    #[error("could not read {}: {source}", path.display())]
    Read {
        /// The config file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("{} is not a regular file", path.display())]
    Kind {
        /// The config file.
        path: PathBuf,
    },
    /// It is too large to be a config.
    #[error("{} has more than {MAX_BYTES} bytes", path.display())]
    Size {
        /// The config file.
        path: PathBuf,
    },
    /// The file system does not answer.
    #[error("reading {} took longer than {} s", path.display(), READ_DEADLINE.as_secs())]
    Wait {
        /// The config file.
        path: PathBuf,
    },
    /// It could not be written.
    #[error("could not write {}: {source}", path.display())]
    Write {
        /// The config file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Whether a default config was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// There was a file, or a symlink to where one will be; it was left alone.
    Found,
    /// There was none; now it holds the default.
    Created,
}

impl ConfigFile {
    /// Names the file. Nothing is opened.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file anew and says what the service is to do, or why it cannot.
    pub async fn orders(&self) -> Result<Orders, Unready> {
        let (path, file) = (self.path.clone(), self.clone());
        let reading = tokio::task::spawn_blocking(move || file.read());
        let text = match timeout(READ_DEADLINE, reading).await {
            Ok(Ok(read)) => read?,
            Ok(Err(ended)) => return Err(ConfigFileError::Read { path, source: io::Error::other(ended) }.into()),
            Err(_) => return Err(ConfigFileError::Wait { path }.into()),
        };
        match Config::parse(&text) {
            Ok(Config { enabled: true, delay, rate }) => Ok(Orders { delay, rate }),
            Ok(Config { enabled: false, delay, rate: _ }) => Err(Unready::Disabled { path, delay }),
            Err(source) => Err(Unready::Parse { path, source }),
        }
    }

    /// The bytes of the file, at most [`MAX_BYTES`]. Blocks.
    pub fn read(&self) -> Result<Vec<u8>, ConfigFileError> {
        let path = || self.path.clone();
        let failed = |source| ConfigFileError::Read { path: path(), source };
        // Before it is opened: opening a pipe waits for its writer.
        if !fs::metadata(&self.path).map_err(failed)?.is_file() {
            return Err(ConfigFileError::Kind { path: path() });
        }
        let mut text = Vec::new();
        File::open(&self.path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut text)).map_err(failed)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(ConfigFileError::Size { path: path() });
        }
        Ok(text)
    }

    /// Replaces the text in one step: a reader sees the old one or the new one whole. Symlinks and permissions stay.
    /// Blocks.
    pub fn replace(&self, text: &str) -> Result<(), ConfigFileError> {
        let replace = || -> io::Result<()> {
            let target = fs::canonicalize(&self.path)?;
            let permissions = fs::metadata(&target)?.permissions();
            beside(&target, text, permissions)?.persist(&target)?;
            Ok(())
        };
        replace().map_err(|source| ConfigFileError::Write { path: self.path.clone(), source })
    }

    /// Writes the default config if there is no file. Blocks.
    pub fn ensure(&self) -> Result<Presence, ConfigFileError> {
        let create = || -> io::Result<Presence> {
            if fs::symlink_metadata(&self.path).is_ok() {
                return Ok(Presence::Found);
            }
            let new = beside(&self.path, DEFAULT_TEXT, Permissions::from_mode(NEW_FILE_MODE))?;
            match new.persist_noclobber(&self.path) {
                Ok(_) => Ok(Presence::Created),
                Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Ok(Presence::Found),
                Err(refused) => Err(refused.error),
            }
        };
        create().map_err(|source| ConfigFileError::Write { path: self.path.clone(), source })
    }
}

/// A file with this text in the directory of `target`: a rename is atomic only within one file system.
fn beside(target: &Path, text: &str, permissions: Permissions) -> io::Result<NamedTempFile> {
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(permissions)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_missing_file_is_created_once_with_the_default() {
        let directory = tempfile::tempdir().unwrap();
        let file = ConfigFile::new(directory.path().join("config.json"));
        assert_eq!(file.ensure().unwrap(), Presence::Created);
        assert_eq!(file.read().unwrap(), DEFAULT_TEXT.as_bytes());
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, NEW_FILE_MODE);
        file.replace("{}").unwrap();
        assert_eq!(file.ensure().unwrap(), Presence::Found);
        assert_eq!(file.read().unwrap(), b"{}");
    }

    #[test]
    fn replacing_keeps_the_symlink_and_the_permissions_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o640)).unwrap();
        symlink(&target, &link).unwrap();
        ConfigFile::new(link.clone()).replace("new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_of_exactly_the_largest_size_is_read_and_one_byte_more_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = ConfigFile::new(directory.path().join("config.json"));
        let largest = usize::try_from(MAX_BYTES).unwrap();
        fs::write(file.path(), vec![b' '; largest]).unwrap();
        assert_eq!(file.read().unwrap().len(), largest);
        fs::write(file.path(), vec![b' '; largest + 1]).unwrap();
        assert!(matches!(file.read(), Err(ConfigFileError::Size { .. })));
    }
}
