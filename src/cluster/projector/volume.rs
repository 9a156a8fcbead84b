//! A directory of files that changes all at once, laid out as a kubelet lays out a ConfigMap volume:
//!
//! ```text
//! service_config.json -> ..data/service_config.json      what programs open
//! ..data -> ..2026_11_23_05_30_00.123456789              replaced by a rename: the moment of the change
//! ..2026_11_23_05_30_00.123456789/service_config.json    the content
//! ```
//!
//! A reader sees the old files or the new ones, never a mixture and never a half-written one.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const DATA: &str = "..data";
const NEXT_DATA: &str = "..data_tmp";

/// Why a directory could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A file, link or directory could not be read, written or removed.
    #[error("could not update {}: {source}", path.display())]
    Update {
        /// Where.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A key cannot be a file name here.
    #[error("the key {key:?} cannot be a file name")]
    NameFile {
        /// The key.
        key: String,
    },
    /// A file that is not of this volume has the name of a key.
    #[error("{} exists and is not part of the volume; move it away", path.display())]
    ReplaceForeignFile {
        /// The file.
        path: PathBuf,
    },
}

/// Makes the files of the volume in `directory` equal to `content`. Files that are not of the volume stay.
pub fn write(directory: &Path, content: &BTreeMap<String, Vec<u8>>) -> Result<(), VolumeError> {
    if let Some(key) = content.keys().find(|key| !is_file_name(key)) {
        return Err(VolumeError::NameFile { key: key.clone() });
    }
    if let Some(key) = content.keys().find(|key| is_foreign(directory, key)) {
        return Err(VolumeError::ReplaceForeignFile { path: directory.join(key) });
    }
    at(directory, fs::create_dir_all(directory))?;
    if !is_current(directory, content) {
        swap(directory, content)?;
    }
    link_keys(directory, content)?;
    unlink_others(directory, content)?;
    remove_old_versions(directory)
}

/// What Kubernetes allows as a key, which is a file name other than the volume's own.
fn is_file_name(key: &str) -> bool {
    let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    !key.is_empty() && key.len() <= 253 && key != "." && !key.starts_with("..") && key.chars().all(allowed)
}

fn is_foreign(directory: &Path, key: &str) -> bool {
    let path = directory.join(key);
    fs::symlink_metadata(&path).is_ok() && !is_link_of_key(&path, key)
}

fn is_link_of_key(path: &Path, key: &str) -> bool {
    fs::read_link(path).is_ok_and(|target| target == Path::new(DATA).join(key))
}

fn is_current(directory: &Path, content: &BTreeMap<String, Vec<u8>>) -> bool {
    let data = directory.join(DATA);
    let count = fs::read_dir(&data).map(Iterator::count).ok();
    count == Some(content.len())
        && content.iter().all(|(key, value)| fs::read(data.join(key)).is_ok_and(|old| old == *value))
}

/// Writes the content to a directory of its own, and makes that the current one.
fn swap(directory: &Path, content: &BTreeMap<String, Vec<u8>>) -> Result<(), VolumeError> {
    let version = Timestamp::now().to_zoned(TimeZone::UTC).strftime("..%Y_%m_%d_%H_%M_%S.%9f").to_string();
    let version_path = directory.join(&version);
    at(&version_path, fs::create_dir(&version_path))?;
    for (key, value) in content {
        let path = version_path.join(key);
        at(&path, fs::write(&path, value))?;
    }
    let next = directory.join(NEXT_DATA);
    at(&next, absent_is_fine(fs::remove_file(&next)))?;
    at(&next, symlink(&version, &next))?;
    at(&next, fs::rename(&next, directory.join(DATA)))
}

fn link_keys(directory: &Path, content: &BTreeMap<String, Vec<u8>>) -> Result<(), VolumeError> {
    for key in content.keys() {
        let path = directory.join(key);
        if !is_link_of_key(&path, key) {
            at(&path, symlink(Path::new(DATA).join(key), &path))?;
        }
    }
    Ok(())
}

/// Removes the links of keys that are gone.
fn unlink_others(directory: &Path, content: &BTreeMap<String, Vec<u8>>) -> Result<(), VolumeError> {
    for name in names(directory)? {
        let path = directory.join(&name);
        if !content.contains_key(&name) && is_link_of_key(&path, &name) {
            at(&path, absent_is_fine(fs::remove_file(&path)))?;
        }
    }
    Ok(())
}

/// Removes the directories of earlier versions, also those that a killed projector left.
fn remove_old_versions(directory: &Path) -> Result<(), VolumeError> {
    let data = directory.join(DATA);
    let current = at(&data, fs::read_link(&data))?;
    for name in names(directory)? {
        let is_version =
            name.strip_prefix("..").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
        if is_version && Path::new(&name) != current {
            let path = directory.join(name);
            at(&path, fs::remove_dir_all(&path))?;
        }
    }
    Ok(())
}

/// The names in the directory; a name that is not Unicode is none of the volume's.
fn names(directory: &Path) -> Result<Vec<String>, VolumeError> {
    let entries = at(directory, fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>))?;
    Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, VolumeError> {
    result.map_err(|source| VolumeError::Update { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    /// What a program sees that opens each file by its name.
    fn seen(directory: &Path) -> BTreeMap<String, Vec<u8>> {
        let visible = names(directory).unwrap().into_iter().filter(|name| !name.starts_with(".."));
        visible.map(|name| (name.clone(), fs::read(directory.join(name)).unwrap())).collect()
    }

    #[test]
    fn keys_are_links_into_the_current_version_and_only_one_version_stays() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &content(&[("a", "1"), ("b", "2")])).unwrap();
        write(directory.path(), &content(&[("a", "3")])).unwrap();
        assert_eq!(seen(directory.path()), content(&[("a", "3")]));
        assert_eq!(fs::read_link(directory.path().join("a")).unwrap(), Path::new("..data/a"));
        let versions = names(directory.path()).unwrap().into_iter().filter(|name| name.starts_with("..2")).count();
        assert_eq!(versions, 1);
    }

    #[test]
    fn equal_content_is_not_written_again() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &content(&[("a", "1")])).unwrap();
        let before = fs::read_link(directory.path().join(DATA)).unwrap();
        write(directory.path(), &content(&[("a", "1")])).unwrap();
        assert_eq!(fs::read_link(directory.path().join(DATA)).unwrap(), before);
    }

    #[test]
    fn files_that_are_not_of_the_volume_are_neither_removed_nor_replaced() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("mine"), "kept").unwrap();
        write(directory.path(), &content(&[("a", "1")])).unwrap();
        let error = write(directory.path(), &content(&[("mine", "2")])).unwrap_err();
        assert!(matches!(error, VolumeError::ReplaceForeignFile { .. }), "{error}");
        assert_eq!(seen(directory.path()), content(&[("a", "1"), ("mine", "kept")]));
    }

    #[test]
    fn what_a_killed_projector_left_is_cleared() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("..2020_01_01_00_00_00.000000000")).unwrap();
        symlink("..2020_01_01_00_00_00.000000000", directory.path().join(NEXT_DATA)).unwrap();
        write(directory.path(), &content(&[("a", "1")])).unwrap();
        assert_eq!(seen(directory.path()), content(&[("a", "1")]));
        assert_eq!(names(directory.path()).unwrap().len(), 3);
    }

    #[test]
    fn a_key_that_would_leave_the_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for key in ["../escape", "..data", "a/b", "", ".", "a\0b"] {
            let error = write(directory.path(), &content(&[(key, "1")])).unwrap_err();
            assert!(matches!(error, VolumeError::NameFile { .. }), "{key:?}: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn after_any_sequence_of_writes_one_sees_the_last(
            writes in prop::collection::vec(prop::collection::btree_map("[a-c]{1,2}", prop::collection::vec(any::<u8>(), 0..8), 0..4), 1..6)
        ) {
            let directory = tempfile::tempdir().unwrap();
            for files in &writes {
                write(directory.path(), files).unwrap();
                prop_assert_eq!(&seen(directory.path()), files);
            }
        }
    }
}
