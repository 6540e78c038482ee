//! The folder that `usher up` keeps everything in. Only its owner can read it: it holds a key and personal data.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use url::Url;

/// Where it is unless somebody says otherwise.
pub(crate) const DEFAULT_FOLDER: &str = "usher-data";

/// Octets of a key that is made here.
const KEY: usize = 48;

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

/// What could not be done with it.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {cause}")]
pub(crate) struct FolderError {
    what: &'static str,
    path: String,
    cause: io::Error,
}

fn error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.display().to_string();
    move |cause| FolderError { what, path, cause }
}

impl std::fmt::Display for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Folder {
    /// Opens the folder, and makes it if there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, FolderError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(error("cannot make the folder", path))?;
        Ok(Self(
            fs::canonicalize(path).map_err(error("cannot open the folder", path))?,
        ))
    }

    /// Opens a folder that an `usher up` has made.
    pub(crate) fn existing(path: &Path) -> Result<Self, FolderError> {
        Ok(Self(
            fs::canonicalize(path).map_err(error("cannot open the folder", path))?,
        ))
    }

    /// Where the demonstration puts its export.
    pub(crate) fn export(&self) -> PathBuf {
        self.0.join("users.xlsx")
    }

    /// Where the database is, as a URL.
    pub(crate) fn database_url(&self) -> String {
        let file = self.0.join("usher.db");
        let url = Url::from_file_path(&file).expect("the folder's path is absolute");
        format!("sqlite://{}?mode=rwc", url.path())
    }

    /// Where mails are put.
    pub(crate) fn mails(&self) -> PathBuf {
        self.0.join("mail")
    }

    /// The key that links are made with, in base64; made once and kept.
    pub(crate) fn link_key(&self) -> Result<String, FolderError> {
        self.key("link.key")
    }

    /// The key that the audit log is sealed with.
    pub(crate) fn audit_key(&self) -> Result<String, FolderError> {
        self.key("audit.key")
    }

    fn key(&self, name: &str) -> Result<String, FolderError> {
        let path = self.0.join(name);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                let key = base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; KEY]>());
                file.write_all(key.as_bytes())
                    .and_then(|()| file.sync_all())
                    .map_err(error("cannot write", &path))?;
                Ok(key)
            }
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                fs::read_to_string(&path).map_err(error("cannot read", &path))
            }
            Err(cause) => Err(error("cannot write", &path)(cause)),
        }
    }

    /// The file that says how far the clock runs ahead, if it may be moved. Once it was, it stays: time must not go back.
    pub(crate) fn clock(&self) -> Option<PathBuf> {
        let path = self.clock_file();
        path.exists().then_some(path)
    }

    /// Lets the clock be moved.
    pub(crate) fn allow_rehearsal(&self) -> Result<(), FolderError> {
        if self.clock().is_none() {
            self.write_clock(0)
        } else {
            Ok(())
        }
    }

    /// Moves the clock forward, and answers how many seconds it runs ahead; `None` if it may not be moved.
    pub(crate) fn advance(&self, seconds: i64) -> Result<Option<i64>, FolderError> {
        let Some(path) = self.clock() else { return Ok(None) };
        let text = fs::read_to_string(&path).map_err(error("cannot read", &path))?;
        let ahead = text
            .trim()
            .parse::<i64>()
            .map_err(|cause| error("cannot understand", &path)(io::Error::new(io::ErrorKind::InvalidData, cause)))?;
        let ahead = ahead.saturating_add(seconds.max(0));
        if seconds > 0 {
            self.write_clock(ahead)?;
        }
        Ok(Some(ahead))
    }

    fn clock_file(&self) -> PathBuf {
        self.0.join("clock")
    }

    /// Whole or not at all: the service may read it at any moment.
    fn write_clock(&self, seconds: i64) -> Result<(), FolderError> {
        let path = self.clock_file();
        let next = self.0.join("clock.next");
        fs::write(&next, format!("{seconds}\n"))
            .and_then(|()| fs::rename(&next, &path))
            .map_err(error("cannot write", &path))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(&parent.path().join("a folder #1")).unwrap();
        (parent, folder)
    }

    #[test]
    fn the_key_is_made_once_and_only_its_owner_reads_it() {
        let (_parent, folder) = folder();
        let key = folder.link_key().unwrap();
        assert_eq!(folder.link_key().unwrap(), key);
        assert_eq!(
            base64::engine::general_purpose::STANDARD.decode(key).unwrap().len(),
            KEY
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder.0), mode(&folder.0.join("link.key"))), (0o700, 0o600));
    }

    #[test]
    fn the_clock_moves_forward_only_and_only_where_it_was_allowed() {
        let (_parent, folder) = folder();
        assert_eq!(folder.advance(60).unwrap(), None);
        folder.allow_rehearsal().unwrap();
        assert_eq!(folder.advance(60).unwrap(), Some(60));
        assert_eq!(folder.advance(-30).unwrap(), Some(60));
        folder.allow_rehearsal().unwrap();
        assert_eq!(folder.advance(0).unwrap(), Some(60));
    }

    #[test]
    fn a_path_with_characters_of_its_own_becomes_a_valid_url() {
        let (_parent, folder) = folder();
        let url = Url::parse(&folder.database_url()).unwrap();
        assert!(url.path().ends_with("/a%20folder%20%231/usher.db"), "{url}");
        assert_eq!(url.query(), Some("mode=rwc"));
    }
}
