//! The cluster's directory: `cluster.json` says who the members are, and what runs.
//!
//! Whoever reads it holds a lock until it ends, so commands act one after the other. The file is
//! replaced as a whole, and before anything is done with a process that was just started.

use crate::ask;
use crate::failure::Failure;
use crate::process::{Process, State};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use urd_tools::grpc::endpoint::Endpoint;

pub(crate) const STATE_FILE: &str = "cluster.json";
pub(crate) const LOCK_FILE: &str = "lock";

/// What is kept between commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The server's program.
    pub(crate) server: PathBuf,
    /// Flags that every member gets beside those that say who it is.
    pub(crate) flags: Vec<String>,
    pub(crate) members: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) client_port: u16,
    pub(crate) peer_port: u16,
    /// The last one that was started.
    pub(crate) process: Option<Process>,
}

/// A cluster, locked against other commands as long as this lives.
pub(crate) struct Cluster {
    pub(crate) dir: PathBuf,
    pub(crate) settings: Settings,
    _lock: File,
}

impl Member {
    pub(crate) fn state(&self) -> State {
        self.process.as_ref().map_or(State::Stopped, Process::state)
    }

    pub(crate) fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    pub(crate) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint { authority: format!("127.0.0.1:{}", self.client_port) }
    }
}

impl Cluster {
    /// The one in `dir`, which must be there.
    pub(crate) fn open(dir: &Path) -> Result<Cluster, Failure> {
        let none =
            || Failure::Refused(format!("{}: no cluster there; start makes one", dir.display()));
        if !dir.join(STATE_FILE).is_file() {
            return Err(none());
        }
        let lock = lock(dir)?;
        // Whoever held the lock may have removed it meanwhile.
        let settings = read(dir)?.ok_or_else(none)?;
        Ok(Cluster { dir: absolute(dir)?, settings, _lock: lock })
    }

    /// The one in `dir`, or a new one with `settings`. Whether it is new.
    pub(crate) fn open_or_create(
        dir: &Path,
        settings: impl FnOnce() -> Result<Settings, Failure>,
    ) -> Result<(Cluster, bool), Failure> {
        let existing = dir.join(STATE_FILE).is_file();
        if !existing && dir.exists() && fs::read_dir(dir).is_ok_and(|mut all| all.next().is_some())
        {
            let text = format!("{}: not empty, and no cluster of this tool's", dir.display());
            return Err(Failure::Refused(text));
        }
        let settings = if existing { None } else { Some(settings()?) };
        fs::create_dir_all(dir).map_err(Failure::at(dir))?;
        let lock = lock(dir)?;
        let (settings, new) = match (read(dir)?, settings) {
            (Some(found), _) => (found, false),
            (None, Some(settings)) => (settings, true),
            (None, None) => {
                let text = format!("{}: removed meanwhile", dir.display());
                return Err(Failure::Refused(text));
            }
        };
        let cluster = Cluster { dir: absolute(dir)?, settings, _lock: lock };
        cluster.save()?;
        Ok((cluster, new))
    }

    pub(crate) fn save(&self) -> Result<(), Failure> {
        let (path, fresh) = (self.dir.join(STATE_FILE), self.dir.join("cluster.json.new"));
        let write = || {
            let mut file = File::create(&fresh)?;
            file.write_all(serde_json::to_string_pretty(&self.settings)?.as_bytes())?;
            fs::rename(&fresh, &path)
        };
        write().map_err(Failure::at(&path))
    }

    /// The member's place; or who there is.
    pub(crate) fn find(&self, name: &str) -> Result<usize, Failure> {
        let members = &self.settings.members;
        members.iter().position(|member| member.name == name).ok_or_else(|| {
            let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
            let names = names.join(", ");
            Failure::Refused(format!("{name}: no such member; there are {names}"))
        })
    }

    /// The places of the one named, or of all.
    pub(crate) fn select(&self, name: Option<&str>) -> Result<Vec<usize>, Failure> {
        match name {
            Some(name) => Ok(vec![self.find(name)?]),
            None => Ok((0..self.settings.members.len()).collect()),
        }
    }

    pub(crate) fn data_dir(&self, nth: usize) -> PathBuf {
        self.dir.join(&self.settings.members[nth].name)
    }

    pub(crate) fn log(&self, nth: usize) -> PathBuf {
        self.dir.join(format!("{}.log", self.settings.members[nth].name))
    }

    /// Asks the members that run; the others' answers are missing.
    pub(crate) fn ask(&self) -> Result<Vec<Option<ask::Answer>>, Failure> {
        ask::all(&self.settings.members)
    }
}

fn lock(dir: &Path) -> Result<File, Failure> {
    let path = dir.join(LOCK_FILE);
    let file = File::create(&path).map_err(Failure::at(&path))?;
    let locked = flock(&file, FlockOperation::LockExclusive);
    locked.map_err(|errno| Failure::at(&path)(errno.into()))?;
    Ok(file)
}

fn read(dir: &Path) -> Result<Option<Settings>, Failure> {
    let path = dir.join(STATE_FILE);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(Failure::at(&path))?,
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| Failure::at(&path)(error.into()))
}

/// Members are started elsewhere than where they are asked for.
fn absolute(dir: &Path) -> Result<PathBuf, Failure> {
    fs::canonicalize(dir).map_err(Failure::at(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let member = |name: &str, client_port| Member {
            name: name.into(),
            client_port,
            peer_port: client_port + 1,
            process: None,
        };
        let members = vec![member("infra1", 1), member("infra2", 3)];
        Settings { server: "/bin/urd".into(), flags: vec!["--x".into()], members }
    }

    #[test]
    fn what_was_made_is_found_again() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("cluster");
        assert!(matches!(Cluster::open(&dir), Err(Failure::Refused(_))));
        let (cluster, new) = Cluster::open_or_create(&dir, || Ok(settings())).unwrap();
        assert!(new);
        drop(cluster);
        let (cluster, new) = Cluster::open_or_create(&dir, || panic!("not asked for")).unwrap();
        assert!(!new && cluster.settings == settings());
        assert_eq!(cluster.select(Some("infra2")).unwrap(), [1]);
        assert_eq!(cluster.select(None).unwrap(), [0, 1]);
        let unknown = cluster.find("infra3").unwrap_err().to_string();
        assert_eq!(unknown, "infra3: no such member; there are infra1, infra2");
    }

    #[test]
    fn foreign_directory_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("thesis"), "years of work").unwrap();
        let refused = Cluster::open_or_create(root.path(), || Ok(settings())).err().unwrap();
        assert!(refused.to_string().contains("not empty"), "{refused}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
