//! A member that is behind the log gets the store as a whole, and its log begins anew behind it.
//!
//! Whatever its log held, and wherever the power is cut, the next start finds the old state or the new one, and no entry of
//! the old history behind the new state.

use std::cell::Cell;

use raft::eraftpb::{Entry, HardState, Message};
use urd_wal::Recovered;

use super::*;
use crate::ids::{Index, Term};
use crate::raft::{arrival, entry};
use crate::store::HashKv;
use crate::tree::import::Import;
use crate::tree::{Stamp, checkpoint::Opened};

const NAME: &str = "checkpoint";
const SEGMENT_BYTES: u32 = 16 * BLOCK;
/// The entries up to here are the same in both histories, and known committed.
const COMMON: u64 = 12;
/// Where the receiver's checkpoint stands.
const CHECKPOINT: u64 = 10;
/// The receiver's last entry.
const LAST: u64 = 30;
const OLD_TERM: u64 = 2;
const NEW_TERM: u64 = 5;

fn entry_of(index: u64, term: u64) -> Entry {
    // The histories differ in what they put.
    let key = u32::try_from(index + 1000 * term).unwrap();
    Entry { index, term, data: put(key), ..Entry::default() }
}

fn old_history(from: u64, to: u64) -> Vec<Entry> {
    (from..=to).map(|index| entry_of(index, OLD_TERM)).collect()
}

fn new_history(from: u64, to: u64) -> Vec<Entry> {
    let term = |index| if index <= COMMON { OLD_TERM } else { NEW_TERM };
    (from..=to).map(|index| entry_of(index, term(index))).collect()
}

fn store_of(entries: Vec<Entry>) -> Store {
    let mut store = Store::new();
    for entry in entries {
        replay::apply(&mut store, entry).unwrap();
    }
    store.adopt(&[1, 2, 3].map(|id| Member { id, ..Member::default() }));
    store.publish();
    store
}

fn options(start: u64) -> Options {
    options_of(start)
}

async fn open_log(disk: &MemoryDisk, start: u64) -> (Log<MemoryDisk>, Recovered) {
    let options = urd_wal::Options { segment_bytes: SEGMENT_BYTES, salt: start };
    Log::open(disk.clone(), options).await.unwrap()
}

/// Appends, and waits for it.
async fn append(log: &mut Log<MemoryDisk>, term: u64, commit: u64, entries: &[Entry]) {
    let hard_state = HardState { term, vote: 3, commit, ..HardState::default() };
    let heads: Vec<_> = entries.iter().map(entry::encode_head).collect();
    let records: Vec<_> = entries
        .iter()
        .zip(&heads)
        .map(|(entry, head)| urd_wal::Entry { index: entry.index, payload: [head, &entry.data] })
        .collect();
    let write = log.append(Some(&entry::encode_hard_state(&hard_state)), &records).unwrap();
    let completed = write.done.await.unwrap();
    log.completed(completed);
}

/// What is at the receiver before: a checkpoint, and a log that goes beyond it.
fn receiver() -> MemoryDisk {
    let disk = MemoryDisk::new(BLOCK);
    block_on(async {
        let Opened { tree, file, .. } = checkpoint::open(disk.clone(), NAME).await.unwrap();
        let mut store = Store::open(tree).unwrap();
        for entry in old_history(1, CHECKPOINT) {
            replay::apply(&mut store, entry).unwrap();
        }
        store.publish();
        store.begin_checkpoint().write(&file).await.unwrap();
        let (mut log, _) = open_log(&disk, 1).await;
        append(&mut log, OLD_TERM, COMMON, &old_history(1, LAST)).await;
        log.close().await.unwrap();
    });
    disk
}

/// What a sender has: its state up to `index`.
struct Sender {
    index: u64,
    chunks: Vec<Bytes>,
    hash: HashKv,
}

impl Sender {
    fn new(index: u64) -> Sender {
        let view = store_of(new_history(1, index)).view();
        let mut export = view.export();
        let chunks = std::iter::from_fn(|| export.next_chunk().unwrap()).collect();
        Sender { index, chunks, hash: view.hash_kv(0).unwrap() }
    }
}

/// The whole of it, as the log shard does it, and some entries behind. `done` counts the entries that are durable.
async fn catch_up(disk: MemoryDisk, sender: &Sender, done: &Cell<u64>) {
    let index = sender.index;
    let (mut log, _) = open_log(&disk, 2).await;
    // The leader's term is durable before anything of it is used.
    append(&mut log, NEW_TERM, COMMON, &[]).await;
    let mut import = Import::begin(disk.clone(), NAME).await.unwrap();
    for chunk in &sender.chunks {
        import = import.write(chunk).await.unwrap();
    }
    let incoming = import.finish().await.unwrap();
    drop(incoming.install().await.unwrap());
    log.restart(index);
    append(&mut log, NEW_TERM, index, &[]).await;
    for entry in new_history(index + 1, index + 3) {
        append(&mut log, NEW_TERM, index, std::slice::from_ref(&entry)).await;
        done.set(done.get() + 1);
    }
}

/// What a start finds: the driver, and which of the two states it is in.
fn start(disk: &MemoryDisk, sender: &Sender, old: &HashKv) -> (TestDriver, bool) {
    let Opened { tree, checkpoint, .. } = block_on(checkpoint::open(disk.clone(), NAME)).unwrap();
    let stamp = checkpoint.unwrap().stamp;
    let store = Store::open_at(tree, stamp).unwrap();
    let (log, recovered) = block_on(open_log(disk, 3));
    let mut driver = TestDriver::open(&options(3), log, &recovered, store).unwrap();
    let is_new = stamp.index != Index(CHECKPOINT);
    let (hash, commit) = if is_new { (&sender.hash, sender.index) } else { (old, COMMON) };
    assert_eq!(driver.publish().hash_kv(0).unwrap(), *hash);
    assert_eq!((driver.committed(), driver.publish().applied()), (Index(commit), Index(commit)));
    if is_new {
        assert_eq!(driver.term(), Term(NEW_TERM));
    }
    (driver, is_new)
}

/// The entries that are in the log behind `index`.
fn behind(driver: &mut TestDriver, index: u64) -> Vec<Entry> {
    let log = driver.log();
    let last = log.last_index();
    let (mut entries, from) = (Vec::new(), log.first_index().max(index + 1));
    replay::for_each_entry(&log.entries(), from, last, |entry| {
        entries.push(entry);
        Ok::<_, Fatal>(())
    })
    .unwrap();
    entries
}

#[test]
fn power_cuts_leave_the_old_state_or_the_new_one() {
    let old = store_of(old_history(1, COMMON)).view().hash_kv(0).unwrap();
    let before = receiver();
    // Before the last entry that the log holds of another history, at it, and far behind it.
    for index in [20, LAST, 60] {
        let (sender, done, whole) = (Sender::new(index), Cell::new(0), before.copy());
        block_on(catch_up(whole.clone(), &sender, &done));
        let operations = whole.operations();
        assert_eq!((start(&whole, &sender, &old).1, done.get()), (true, 3));
        let (mut old_found, mut new_found) = (0, 0);
        for cut in 0..operations {
            for survival in [Survival::None, Survival::All, Survival::Sectors] {
                let (disk, done) = (before.copy(), Cell::new(0));
                disk.crash_at(cut);
                let caught_up = catch_up(disk.clone(), &sender, &done);
                assert!(unless_crashed(&disk, caught_up).is_none());
                let disk = disk.after_crash(survival, cut);
                let (mut driver, is_new) = start(&disk, &sender, &old);
                if is_new {
                    expect_new(&disk, driver, &sender, &old, done.get());
                    new_found += 1;
                } else {
                    assert_eq!(done.get(), 0);
                    assert_eq!(behind(&mut driver, 0), old_history(1, LAST));
                    old_found += 1;
                }
            }
        }
        assert!(old_found > 10 && new_found > 10, "{old_found} old, {new_found} new");
    }
}

/// The log has nothing but the new history, as far as it was durable; and so it stays when it goes on.
fn expect_new(disk: &MemoryDisk, mut driver: TestDriver, sender: &Sender, old: &HashKv, done: u64) {
    let index = sender.index;
    let found = behind(&mut driver, index);
    let last = index + found.len() as u64;
    assert!(found.len() as u64 >= done, "{done} durable");
    assert_eq!(found, new_history(index + 1, last));
    assert_eq!(driver.log().last_index(), last);
    block_on(append(driver.log(), NEW_TERM, index, &new_history(last + 1, last + 2)));
    drop(driver);
    let (mut driver, _) = start(disk, sender, old);
    assert_eq!(behind(&mut driver, index), new_history(index + 1, last + 2));
}

/// The store is of a later term than the hard state: its vote is of an earlier one, too.
#[test]
fn a_later_term_of_the_store_counts() {
    let (disk, store) = (receiver(), store_of(new_history(1, 20)));
    let (log, _) = block_on(open_log(&disk, 2));
    let recorded = HardState { term: 4, vote: 3, commit: COMMON, ..HardState::default() };
    let hard_state = |state: &HardState| {
        replay::hard_state(&log.entries(), Some(&entry::encode_hard_state(state)), &store)
    };
    let found = hard_state(&recorded).unwrap();
    assert_eq!((found.term, found.vote, found.commit), (NEW_TERM, 0, 20));
    let recorded = HardState { term: NEW_TERM, ..recorded };
    let found = hard_state(&recorded).unwrap();
    assert_eq!((found.term, found.vote, found.commit), (NEW_TERM, 3, 20));
    assert!(!replay::follows(&log.entries(), &store).unwrap());
    // An entry of another history cannot have been committed.
    let recorded = HardState { commit: 20, ..recorded };
    assert!(matches!(hard_state(&recorded), Err(Fatal::Gap { what: "the commit index", .. })));
}

#[test]
fn a_store_is_looked_at_before_it_is_installed() {
    let (sender, disk) = (Sender::new(60), MemoryDisk::new(BLOCK));
    let incoming = block_on(async {
        let mut import = Import::begin(disk.clone(), NAME).await.unwrap();
        for chunk in &sender.chunks {
            import = import.write(chunk).await.unwrap();
        }
        import.finish().await.unwrap()
    });
    let announced = |index, term, voters: &[u64]| {
        let mut announcement = Message::default();
        let metadata = announcement.mut_snapshot().mut_metadata();
        (metadata.index, metadata.term) = (index, term);
        metadata.mut_conf_state().voters = voters.to_vec();
        announcement
    };
    let judge = |announcement| block_on(arrival::judge(&incoming, &announcement));
    assert_eq!(judge(announced(60, NEW_TERM, &[1, 2, 3])), Ok(()));
    for other in [
        announced(61, NEW_TERM, &[1, 2, 3]),
        announced(60, NEW_TERM + 1, &[1, 2, 3]),
        announced(60, NEW_TERM, &[1, 2]),
    ] {
        assert!(judge(other.clone()).is_err(), "{other:?}");
    }
    // What stands in the tree must be what stands beside it.
    let stamp = Stamp { index: Index(60), term: Term(NEW_TERM) };
    let look = || block_on(incoming.look()).unwrap().tree;
    let other = Stamp { term: Term(OLD_TERM), ..stamp };
    let fault = Store::open_at(look(), other).unwrap_err();
    assert!(fault.to_string().contains("beside it stands"), "{fault}");
    let store = Store::open_at(look(), stamp).unwrap();
    assert_eq!(store.check(), []);
    assert_eq!(store.view().hash_kv(0).unwrap(), sender.hash);
}

#[test]
fn an_entry_of_a_term_before_is_not_applied() {
    let mut store = store_of(old_history(1, 5));
    let fallen = replay::apply(&mut store, entry_of(6, OLD_TERM - 1)).unwrap_err();
    assert!(fallen.to_string().contains("entry 6: its term is before"), "{fallen}");
}

/// A log that went on behind a snapshot does not fit a checkpoint from before it.
#[test]
fn a_log_that_begins_behind_the_checkpoint_is_refused() {
    let disk = receiver();
    let before = disk.bytes(NAME);
    block_on(catch_up(disk.clone(), &Sender::new(60), &Cell::new(0)));
    disk.put(NAME, before);
    let Opened { tree, .. } = block_on(checkpoint::open(disk.clone(), NAME)).unwrap();
    let (log, recovered) = block_on(open_log(&disk, 3));
    let opened = TestDriver::open(&options(3), log, &recovered, Store::open(tree).unwrap());
    assert!(matches!(opened, Err(Fatal::Gap { first: 61, .. })));
}

#[test]
fn a_tool_takes_no_entries_of_another_history() {
    let disk = receiver();
    let offline = block_on(Offline::open(disk)).unwrap();
    let mut store = store_of(new_history(1, 20));
    replay::replay_all(&offline.entries(), LAST, MemberId(3), &mut store).unwrap();
    assert_eq!(store.applied(), Index(20));
    let mut store = store_of(old_history(1, 20));
    replay::replay_all(&offline.entries(), LAST, MemberId(3), &mut store).unwrap();
    assert_eq!(store.applied(), Index(LAST));
    // Beside others, what is not known committed may never be.
    let mut store = store_of(old_history(1, 20));
    replay::replay_all(&offline.entries(), 25, MemberId(3), &mut store).unwrap();
    assert_eq!(store.applied(), Index(25));
}
