//! A member's data: locked against a server, and opened for reading only.

use crate::complain;
use crate::failure::Failure;
use clap::Args;
use futures_lite::future::block_on;
use std::path::PathBuf;
use urd::config;
use urd::ids::MemberId;
use urd::raft::replay;
use urd::server::data_dir::{DataDir, StoredIdentity};
use urd::server::{CHECKPOINT_FILE, bootstrap};
use urd::store::Store;
use urd::tree::Tree;
use urd::tree::checkpoint::{self, Found};
use urd_wal::Offline;
use urd_wal::disk::read_only::ReadOnlyDisk;

// Not a doc comment: clap would print it as that of every command.
// Which member to look at.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// The data directory, as the server's --data-dir
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// The log's directory, where the server has --wal-dir [default: wal in the data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) wal_dir: Option<PathBuf>,
}

/// The log of a member.
pub(crate) type Log = Offline<ReadOnlyDisk>;

/// A data directory that no server has open as long as this lives.
pub(crate) struct Member {
    data_dir: DataDir,
    log_dir: PathBuf,
    tree_dir: PathBuf,
}

impl Member {
    pub(crate) fn open(place: &Place) -> Result<Member, Failure> {
        Ok(Member {
            data_dir: DataDir::open_read_only(&place.data_dir)?,
            log_dir: config::log_dir(&place.data_dir, place.wal_dir.as_deref()),
            tree_dir: config::tree_dir(&place.data_dir),
        })
    }

    /// Who the member is, if it ever started.
    pub(crate) fn identity(&self) -> Result<Option<StoredIdentity>, Failure> {
        Ok(self.data_dir.stored_identity()?)
    }

    /// The newest checkpoint. Of its pages only those that say where it is have been verified.
    pub(crate) fn checkpoint(&self) -> Result<Found, Failure> {
        let disk = ReadOnlyDisk::new(&self.tree_dir);
        let found = block_on(checkpoint::read(&disk, CHECKPOINT_FILE))?;
        found.warnings.iter().for_each(|warning| warn(warning));
        Ok(found)
    }

    pub(crate) fn log(&self) -> Result<Log, Failure> {
        let log = block_on(Offline::open(ReadOnlyDisk::new(&self.log_dir)))?;
        log.warnings().iter().for_each(|warning| warn(warning));
        Ok(log)
    }

    /// The state of the newest checkpoint, whose tree is sound.
    pub(crate) fn store(&self) -> Result<Store, Failure> {
        let tree = self.checkpoint()?.tree;
        check_tree(&tree)?;
        Ok(Store::open(tree)?)
    }

    /// The same, and the log applied to it: what a server answers from after its start.
    pub(crate) fn replayed(&self) -> Result<Store, Failure> {
        let mut store = self.store()?;
        replay(self.identity()?.as_ref(), &self.log()?, &mut store)?;
        Ok(store)
    }
}

/// Checks all pages, and what they say of each other: to read what is damaged would end the process.
pub(crate) fn check_tree(tree: &Tree) -> Result<(), Failure> {
    let mut damages = tree.verify_pages();
    if damages.is_empty() {
        damages.extend(tree.check().err());
    }
    if damages.is_empty() {
        return Ok(());
    }
    Err(Failure::Damaged(damages.iter().map(|damage| tree.describe(damage)).collect()))
}

/// Checks the tables in a sound tree.
pub(crate) fn check_store(store: &Store) -> Result<(), Failure> {
    let faults = store.check();
    if faults.is_empty() {
        return Ok(());
    }
    Err(Failure::Damaged(faults.iter().map(ToString::to_string).collect()))
}

/// Applies the log, as far as it is durable, to a store whose tree is sound, as the member of this identity would.
pub(crate) fn replay(
    identity: Option<&StoredIdentity>,
    log: &Log,
    store: &mut Store,
) -> Result<(), Failure> {
    let entries = log.entries();
    if let Some(identity) = identity {
        bootstrap::begin(store, identity, &entries);
    }
    let hard_state = replay::hard_state(&entries, log.hard_state(), store)?;
    let own = identity.map_or(MemberId(0), |identity| MemberId(identity.member_id));
    Ok(replay::replay_all(&entries, hard_state.commit, own, store)?)
}

fn warn(text: &str) {
    complain(&format!("warning: {text}"));
}
