//! The private directory of one control plane: made, locked while its owner lives, swept once the owner is dead.
//!
//! `run/NAME/` holds the data, `run/NAME.lock` is held exclusively by the owner. The kernel releases the lock when
//! the owner dies, in whatever way, so a free lock is the proof that a directory is left over.

use super::ControlPlaneError;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long to wait for other processes that make or sweep directories at this moment.
const TURN_DEADLINE: Duration = Duration::from_secs(30);
const TURN_POLL: Duration = Duration::from_millis(10);

/// A locked private directory; it is removed when this value is dropped.
#[derive(Debug)]
pub(super) struct DataDirectory {
    path: PathBuf,
    lock_path: PathBuf,
    /// Held, never read: closing it releases the lock.
    _lock: File,
}

impl DataDirectory {
    /// Sweeps what dead owners left in `run`, then makes a new directory (mode 0700) and locks it.
    pub(super) fn create(run: &Path) -> Result<Self, ControlPlaneError> {
        Self::try_create(run)
            .map_err(|source| ControlPlaneError::PrepareDirectory { directory: run.to_path_buf(), source })
    }

    fn try_create(run: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(run)?;
        // One process at a time: between the making of a lock file and its locking, it looks like a dead owner's.
        let _turn = take_turn(&run.join("turn"))?;
        sweep(run)?;
        let private = Permissions::from_mode(0o700);
        let path = tempfile::Builder::new().prefix("plane-").permissions(private).tempdir_in(run)?.keep();
        let lock_path = path.with_extension("lock");
        let lock = open_lock(&lock_path)?;
        lock.try_lock()?;
        Ok(Self { path, lock_path, _lock: lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that only this user can read, and says where it is.
    pub(super) fn write(&self, name: &str, content: &str) -> Result<PathBuf, ControlPlaneError> {
        let path = self.path.join(name);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(content.as_bytes()));
        match written {
            Ok(()) => Ok(path),
            Err(source) => Err(ControlPlaneError::WriteFile { path, source }),
        }
    }
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next start.
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(&self.lock_path);
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn take_turn(path: &Path) -> io::Result<File> {
    let file = open_lock(path)?;
    let deadline = Instant::now() + TURN_DEADLINE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(TURN_POLL),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes every directory whose owner is dead. What cannot be removed stays for another time.
fn sweep(run: &Path) -> io::Result<()> {
    for entry in fs::read_dir(run)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with("plane-") {
            continue;
        }
        // Either may be left alone: the directory, or its lock file.
        let path = entry.path().with_extension("");
        let lock_path = path.with_extension("lock");
        if open_lock(&lock_path)?.try_lock().is_ok() {
            tracing::debug!(directory = %path.display(), "sweeping what a dead control plane left");
            let _ = fs::remove_dir_all(&path);
            let _ = fs::remove_file(&lock_path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_private_and_goes_with_its_owner() {
        let run = tempfile::tempdir().unwrap();
        let directory = DataDirectory::create(run.path()).unwrap();
        let path = directory.path().to_path_buf();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let secret = directory.write("secret", "x").unwrap();
        assert_eq!(fs::metadata(secret).unwrap().permissions().mode() & 0o777, 0o600);
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_owners_directory_is_swept_and_a_living_ones_is_not() {
        let run = tempfile::tempdir().unwrap();
        let dead = run.path().join("plane-dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("etcd.log"), "old").unwrap();
        fs::write(run.path().join("plane-half-swept.lock"), "").unwrap();
        let living = DataDirectory::create(run.path()).unwrap();
        assert!(!dead.exists());
        assert!(!run.path().join("plane-half-swept.lock").exists());
        let second = DataDirectory::create(run.path()).unwrap();
        assert!(living.path().exists() && second.path().exists());
    }
}
