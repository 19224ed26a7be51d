//! The data directory: one server at a time, and who that server is.
//!
//! `LOCK` is held by an advisory lock (flock) while a server runs; the kernel lets go of it however the process ends.
//! `identity.json` is written once, before the first log record: later starts take the ids from it, whatever the flags
//! say, since the log was written under them. Of a new cluster it names all first members, with which its store begins
//! ([`bootstrap`](super::bootstrap)) as long as there is no checkpoint.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use urd_wal::disk::uring::make_directory;

use crate::identity::FirstMember;

const LOCK: &str = "LOCK";
const IDENTITY: &str = "identity.json";
const IDENTITY_NEW: &str = "identity.json.new";
const IDENTITY_FORMAT: u32 = 2;
/// The format of versions that ran alone and kept no members.
const IDENTITY_FORMAT_ALONE: u32 = 1;

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error(
        "data directory {0} is in use by another server: stop that one, or choose another --data-dir"
    )]
    InUse(PathBuf),
    /// The system refused.
    #[error("{context} {path}: {source}")]
    Io {
        /// What was tried.
        context: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The identity is not one that this version reads.
    #[error(
        "{path}: {what}; restore the file from a backup, or start with an empty data directory"
    )]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A log without the identity it was written under.
    #[error(
        "{0} holds a log, but the data directory has no identity.json: restore it, or remove the log as well"
    )]
    LogWithoutIdentity(PathBuf),
}

/// Who a member is, as its data directory remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredIdentity {
    format: u32,
    /// The cluster's id.
    pub cluster_id: u64,
    /// This member's id.
    pub member_id: u64,
    /// The members that the cluster began with; of one that this member joined, none.
    pub first_members: Vec<FirstMember>,
}

/// What format 1 had.
#[derive(Deserialize)]
struct Alone {
    cluster_id: u64,
    member_id: u64,
    voters: Vec<u64>,
}

impl StoredIdentity {
    /// An identity of the present format.
    pub fn new(cluster_id: u64, member_id: u64, first_members: Vec<FirstMember>) -> Self {
        Self { format: IDENTITY_FORMAT, cluster_id, member_id, first_members }
    }

    /// Format 1 knew no names and URLs: this member's own are put in their place.
    pub fn complete(&mut self, name: &str, peer_urls: &[String]) {
        for member in &mut self.first_members {
            if member.id == self.member_id && member.name.is_empty() {
                name.clone_into(&mut member.name);
                peer_urls.clone_into(&mut member.peer_urls);
            }
        }
    }
}

/// A data directory that this process holds.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Held, not used: closing it lets go of the lock.
    _lock: Option<File>,
}

impl DataDir {
    /// Makes the directory if there is none, and locks it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        make_private(path)?;
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|source| io_error("open", &lock_path, source))?;
        Self::locked(path, lock, FlockOperation::NonBlockingLockExclusive)
    }

    /// Locks a directory that is there against a server, and not against others that only read; writes nothing. Where no
    /// server ever made a lock file there is none to hold: a copy of a data directory may lack it.
    pub fn open_read_only(path: &Path) -> Result<Self, DataDirError> {
        fs::read_dir(path).map_err(|source| io_error("read the directory", path, source))?;
        match File::open(path.join(LOCK)) {
            Ok(lock) => Self::locked(path, lock, FlockOperation::NonBlockingLockShared),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Self { path: path.to_owned(), _lock: None })
            }
            Err(source) => Err(io_error("open", &path.join(LOCK), source)),
        }
    }

    fn locked(path: &Path, lock: File, operation: FlockOperation) -> Result<Self, DataDirError> {
        match flock(&lock, operation) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: Some(lock) }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::InUse(path.to_owned())),
            Err(errno) => Err(io_error("lock", &path.join(LOCK), errno.into())),
        }
    }

    /// The identity on disk, or `fresh`, which is stored if this is the first start.
    pub fn identity(
        &self,
        fresh: StoredIdentity,
        log_dir: &Path,
    ) -> Result<StoredIdentity, DataDirError> {
        if let Some(stored) = self.stored_identity()? {
            return Ok(stored);
        }
        if holds_files(log_dir)? {
            return Err(DataDirError::LogWithoutIdentity(log_dir.to_owned()));
        }
        let path = self.path.join(IDENTITY);
        self.store(&fresh).map_err(|source| io_error("write", &path, source))?;
        Ok(fresh)
    }

    /// The identity on disk, if a member was started here before.
    pub fn stored_identity(&self) -> Result<Option<StoredIdentity>, DataDirError> {
        let path = self.path.join(IDENTITY);
        match fs::read(&path) {
            Ok(bytes) => parse(&path, &bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io_error("read", &path, source)),
        }
    }

    /// Written aside, synced, renamed, directory synced: the file is there whole or not at all.
    fn store(&self, identity: &StoredIdentity) -> io::Result<()> {
        let new = self.path.join(IDENTITY_NEW);
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(identity)?)?;
        file.sync_all()?;
        fs::rename(&new, self.path.join(IDENTITY))?;
        File::open(&self.path)?.sync_all()
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<StoredIdentity, DataDirError> {
    let malformed = |what: String| DataDirError::Identity { path: path.to_owned(), what };
    let unreadable = |error| malformed(format!("not readable: {error}"));
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(unreadable)?;
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    if format > Some(u64::from(IDENTITY_FORMAT)) {
        return Err(malformed(format!(
            "format {} was written by a newer version, this one reads format {IDENTITY_FORMAT}",
            format.unwrap_or_default()
        )));
    }
    let identity = if format == Some(u64::from(IDENTITY_FORMAT_ALONE)) {
        let Alone { cluster_id, member_id, voters } =
            serde_json::from_value(value).map_err(unreadable)?;
        let first = |id| FirstMember { id, name: String::new(), peer_urls: Vec::new() };
        StoredIdentity::new(cluster_id, member_id, voters.into_iter().map(first).collect())
    } else {
        serde_json::from_value(value).map_err(unreadable)?
    };
    let mut ids: Vec<u64> = identity.first_members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    let is_doubled = ids.windows(2).any(|pair| pair.first() == pair.last());
    let is_missing = !ids.is_empty() && !ids.contains(&identity.member_id);
    if identity.member_id == 0 || is_missing || is_doubled {
        return Err(malformed("the member is not among the first members".to_owned()));
    }
    Ok(identity)
}

/// Makes a directory that only its owner can enter, as etcd's is, and its name durable; parents included.
pub fn make_private(path: &Path) -> Result<(), DataDirError> {
    make_directory(path).map_err(|source| io_error("create the directory", path, source))
}

fn holds_files(directory: &Path) -> Result<bool, DataDirError> {
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(io_error("list", directory, source)),
    }
}

fn io_error(context: &'static str, path: &Path, source: io::Error) -> DataDirError {
    DataDirError::Io { context, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn first_member(id: u64) -> FirstMember {
        let peer_urls = vec!["http://127.0.0.1:2380".to_owned()];
        FirstMember { id, name: "a".to_owned(), peer_urls }
    }

    fn fresh() -> StoredIdentity {
        StoredIdentity::new(1, 2, vec![first_member(2)])
    }

    #[test]
    fn a_directory_is_made_with_its_parents() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("a/b/c");
        make_private(&deep).unwrap();
        make_private(&deep).unwrap();
        for made in [&deep, deep.parent().unwrap()] {
            assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
        }
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("a")] {
            let error = make_private(&path).unwrap_err();
            assert!(error.to_string().contains("create the directory"), "{error}");
        }
    }

    #[test]
    fn an_identity_is_kept_from_the_first_start_on() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("wal");
        let data_dir = DataDir::open(&directory.path().join("a")).unwrap();
        assert_eq!(data_dir.stored_identity().unwrap(), None);
        assert_eq!(data_dir.identity(fresh(), &log).unwrap(), fresh());
        assert_eq!(data_dir.stored_identity().unwrap(), Some(fresh()));
        let other = StoredIdentity::new(7, 8, vec![first_member(8)]);
        assert_eq!(data_dir.identity(other, &log).unwrap(), fresh());
    }

    #[test]
    fn a_second_server_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataDir::open(directory.path()).unwrap();
        assert!(matches!(DataDir::open(directory.path()), Err(DataDirError::InUse(_))));
        drop(first);
        DataDir::open(directory.path()).unwrap();
    }

    #[test]
    fn readers_share_a_directory_and_make_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let is_empty = || fs::read_dir(directory.path()).unwrap().next().is_none();
        drop(DataDir::open_read_only(directory.path()).unwrap());
        assert!(is_empty());
        let missing = DataDir::open_read_only(&directory.path().join("missing"));
        assert!(matches!(missing, Err(DataDirError::Io { .. })) && is_empty());

        let server = DataDir::open(directory.path()).unwrap();
        let reader = || DataDir::open_read_only(directory.path());
        assert!(matches!(reader(), Err(DataDirError::InUse(_))));
        drop(server);
        let readers = (reader().unwrap(), reader().unwrap());
        assert!(matches!(DataDir::open(directory.path()), Err(DataDirError::InUse(_))));
        drop(readers);
        DataDir::open(directory.path()).unwrap();
    }

    #[test]
    fn a_damaged_identity_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(directory.path()).unwrap();
        for content in [
            "",
            "{}",
            r#"{"format":3,"cluster_id":1,"member_id":2,"first_members":[]}"#,
            r#"{"format":2,"cluster_id":1,"member_id":2,"voters":[2]}"#,
            r#"{"format":2,"cluster_id":1,"member_id":0,"first_members":[]}"#,
            r#"{"format":2,"cluster_id":1,"member_id":2,"first_members":[{"id":3,"name":"a","peer_urls":[]}]}"#,
            r#"{"format":1,"cluster_id":1,"member_id":2,"voters":[2,2]}"#,
            r#"{"cluster_id":1,"member_id":2,"first_members":[]}"#,
            r#"{"format":1,"cluster_id":1,"member_id":2,"voters":[3]}"#,
        ] {
            fs::write(directory.path().join(IDENTITY), content).unwrap();
            let found = data_dir.identity(fresh(), &directory.path().join("wal"));
            assert!(matches!(found, Err(DataDirError::Identity { .. })), "{content}");
        }
    }

    #[test]
    fn the_first_format_is_read_for_a_member_alone() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(directory.path()).unwrap();
        let content = r#"{"format":1,"cluster_id":1,"member_id":2,"voters":[2]}"#;
        fs::write(directory.path().join(IDENTITY), content).unwrap();
        let mut stored = data_dir.stored_identity().unwrap().unwrap();
        let expected = fresh();
        let [own] = &expected.first_members[..] else { panic!("one member") };
        stored.complete(&own.name, &own.peer_urls);
        assert_eq!(stored, expected);
        stored.complete("other", &[]);
        assert_eq!(stored, expected, "only what was missing is put in");
    }

    #[test]
    fn a_log_without_an_identity_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("wal");
        fs::create_dir(&log).unwrap();
        fs::write(log.join("segment"), "x").unwrap();
        let data_dir = DataDir::open(&directory.path().join("data")).unwrap();
        let found = data_dir.identity(fresh(), &log);
        assert!(matches!(found, Err(DataDirError::LogWithoutIdentity(_))));
    }
}
