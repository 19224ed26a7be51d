//! Damage in a file is found and named without a panic, all of it, and a look at a file changes nothing.

use futures_lite::future::block_on;
use urd_wal::disk::memory::MemoryDisk;

use super::{Model, assert_same_records, counted};
use crate::ids::{Index, PageId, Term};
use crate::tree::checkpoint::{self, Found};
use crate::tree::file::{
    META_DEPTH_AT, META_END_AT, META_FREE_AT, META_RECORDS_AT, META_ROOT_AT, META_VERSION_AT,
};
use crate::tree::page::PAGE_BYTES;
use crate::tree::{Stamp, Tree};

const NAME: &str = "checkpoint";

fn read(disk: &MemoryDisk) -> Result<Found, checkpoint::OpenError> {
    block_on(checkpoint::read(disk, NAME))
}

/// Changes many records, and makes them durable as the next checkpoint.
fn save(disk: &MemoryDisk, model: &mut Model, seed: u64) {
    let mut opened = block_on(checkpoint::open(disk.clone(), NAME)).unwrap();
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..400 {
        let mut key = vec![b'k'; if rng.u8(..20) == 0 { 1200 } else { 3 }];
        key.extend_from_slice(&rng.u16(..300).to_be_bytes());
        if rng.u8(..3) == 0 {
            opened.tree.remove(&key);
            model.remove(&key);
        } else {
            let value = vec![rng.u8(..); if rng.u8(..10) == 0 { 6000 } else { rng.usize(..90) }];
            opened.tree.insert(&key, &value, counted(true));
            model.insert(key, (value, true));
        }
    }
    opened.tree.publish();
    let checkpoint = opened.tree.begin_checkpoint(Stamp { index: Index(seed), term: Term(1) });
    let Ok(written) = block_on(checkpoint.write(&opened.file)) else { panic!("not written") };
    opened.tree.end_checkpoint(written);
}

/// A disk with three checkpoints, and what the last one holds.
fn written() -> (MemoryDisk, Model) {
    let (disk, mut model) = (MemoryDisk::new(512), Model::new());
    for seed in 1..4 {
        save(&disk, &mut model, seed);
    }
    (disk, model)
}

#[test]
fn a_look_changes_nothing() {
    let disk = MemoryDisk::new(512);
    let found = read(&disk).unwrap();
    assert_eq!((found.checkpoint, found.bytes), (None, 0));
    assert!(disk.names().is_empty(), "no file is made");

    let (disk, model) = written();
    let before = disk.bytes(NAME);
    let found = read(&disk).unwrap();
    assert_eq!(found.checkpoint.unwrap().stamp.index, Index(3));
    assert_eq!(found.bytes, before.len() as u64);
    assert_same_records(&found.tree, &model);
    assert_eq!(found.tree.verify_pages(), []);
    found.tree.check().unwrap();
    assert!(disk.bytes(NAME) == before && disk.names() == [NAME]);
}

#[test]
fn all_damaged_pages_are_named() {
    let (disk, _) = written();
    let tree = read(&disk).unwrap().tree;
    let root = tree.pages.node(tree.root);
    let mut pages: Vec<PageId> = [0, 2, root.count() - 1].map(|at| root.child(at)).into();
    for page in &pages {
        disk.corrupt(NAME, page.0 as usize * PAGE_BYTES + 1000, 2);
    }
    let tree = read(&disk).unwrap().tree;
    let damages = tree.verify_pages();
    let mut named: Vec<PageId> = damages.iter().map(|damage| damage.page).collect();
    pages.sort_unstable();
    named.sort_unstable();
    assert_eq!(named, pages);
    for damage in damages {
        let offset = damage.page.0 * PAGE_BYTES as u64;
        let text = tree.describe(&damage);
        assert!(
            text.starts_with(&format!("checkpoint: damaged at offset {offset}: page")),
            "{text}"
        );
    }
}

#[test]
fn the_way_to_a_record_is_verified_alone() {
    let (disk, model) = written();
    let tree = read(&disk).unwrap().tree;
    let root = tree.pages.node(tree.root);
    let last = root.child(root.count() - 1);
    disk.corrupt(NAME, last.0 as usize * PAGE_BYTES + 1000, 2);
    let tree = read(&disk).unwrap().tree;
    let key = |key: Option<&Vec<u8>>| key.unwrap().clone();
    assert_eq!(tree.verify_path(&key(model.keys().next())), Ok(()));
    let damage = tree.verify_path(&key(model.keys().next_back())).unwrap_err();
    assert_eq!(damage.page, last);
}

#[test]
fn a_lost_write_is_found_without_a_panic() {
    let (disk, mut model) = written();
    let before = disk.bytes(NAME);
    save(&disk, &mut model, 4);
    let after = disk.bytes(NAME);
    let (mut seen, mut unused) = (0, 0);
    // Without the meta pages: a lost one leaves the checkpoint before, sound.
    for page in 2..before.len() / PAGE_BYTES {
        let place = page * PAGE_BYTES..(page + 1) * PAGE_BYTES;
        if before[place.clone()] == after[place.clone()] {
            continue;
        }
        let mut bytes = after.clone();
        bytes[place.clone()].copy_from_slice(&before[place]);
        disk.put(NAME, bytes);
        let is_sound = |tree: &Tree| tree.verify_pages().is_empty() && tree.check().is_ok();
        match read(&disk) {
            Ok(found) if is_sound(&found.tree) => {
                assert_same_records(&found.tree, &model);
                unused += 1;
            }
            Ok(_) | Err(_) => seen += 1,
        }
    }
    assert!(seen > 20, "{seen} seen, {unused} in no page of the tree");
}

/// Whoever makes a page makes its checksum. One that lies about what stands in it is named like any other.
#[test]
fn a_page_that_lies_is_named_although_its_checksum_is_sound() {
    let (disk, _) = written();
    let found = read(&disk).unwrap();
    let root = found.checkpoint.unwrap().root;
    let sound = disk.bytes(NAME);
    let at = usize::try_from(root.0).unwrap() * PAGE_BYTES;
    // The number of cells, a slot's offset, and the length of the first cell's key part.
    let slot = at + 26 + 4;
    let cell = at + usize::from(u16::from_le_bytes([sound[slot], sound[slot + 1]]));
    for place in [at + 2, slot, cell + 1] {
        let mut bytes = sound.clone();
        bytes[place..place + 2].copy_from_slice(&[0xff, 0xff]);
        mend(&mut bytes, at);
        let copy = disk.copy();
        copy.put(NAME, bytes);
        let tree = read(&copy).unwrap().tree;
        let damages = tree.verify_pages();
        assert_eq!(damages.iter().map(|damage| damage.page).collect::<Vec<_>>(), [root]);
        assert_eq!(tree.verify_path(b"k").unwrap_err().page, root);
    }
}

/// Makes the checksum of the page at `at` right.
fn mend(bytes: &mut [u8], at: usize) {
    let crc_at = at + PAGE_BYTES - 4;
    let crc = crc32fast::hash(&bytes[at..crc_at]);
    bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn a_meta_page_that_lies_is_refused_although_its_checksum_is_sound() {
    let (disk, _) = written();
    let meta = read(&disk).unwrap().checkpoint.unwrap();
    let sound = disk.bytes(NAME);
    let at = usize::try_from(meta.place().0).unwrap() * PAGE_BYTES;
    let (root, end) = (meta.root.0, meta.end.0);
    let lies = [
        (META_END_AT, 0, "with its root at"),
        (META_END_AT, 2, "with its root at"),
        (META_END_AT, root, "with its root at"),
        (META_END_AT, u64::MAX, "in a file of"),
        (META_ROOT_AT, end, "with its root at"),
        (META_ROOT_AT, 1, "with its root at"),
        (META_FREE_AT, end, "with its free pages at"),
        (META_FREE_AT, 0, "with its free pages at"),
        (META_VERSION_AT, (1 << 62) + 1, "no tree comes to"),
        (META_VERSION_AT, u64::MAX, "no tree comes to"),
        (META_RECORDS_AT, u64::MAX, "no tree comes to"),
        (META_DEPTH_AT, 0, "of depth 0"),
        (META_DEPTH_AT, 13, "of depth 13"),
    ];
    for (field, value, expected) in lies {
        let mut bytes = sound.clone();
        bytes[at + field..at + field + 8].copy_from_slice(&value.to_le_bytes());
        mend(&mut bytes, at);
        let copy = disk.copy();
        copy.put(NAME, bytes);
        let Err(error) = read(&copy) else { panic!("{field}: {value}") };
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// A set of free pages that calls a page free which is none would have it written over.
#[test]
fn a_wrong_set_of_free_pages_is_refused() {
    let (disk, _) = written();
    let meta = read(&disk).unwrap().checkpoint.unwrap();
    let sound = disk.bytes(NAME);
    let at = usize::try_from(meta.free.0).unwrap() * PAGE_BYTES;
    // Behind a run's header, a bit a page: a meta page's, the root's, its own.
    for page in [0, 1, meta.root.0, meta.free.0].map(|page| usize::try_from(page).unwrap()) {
        let mut bytes = sound.clone();
        bytes[at + 16 + page / 8] |= 1 << (page % 8);
        mend(&mut bytes, at);
        let copy = disk.copy();
        copy.put(NAME, bytes);
        let Err(error) = read(&copy) else { panic!("page {page} is free") };
        assert!(error.to_string().contains("free pages"), "{error}");
    }
}

#[test]
fn a_reference_to_any_page_can_be_told() {
    let (disk, _) = written();
    let tree = read(&disk).unwrap().tree;
    let (expected, found) = (String::new(), String::new());
    let far = crate::tree::Damage { page: PageId(u64::MAX), expected, found };
    assert!(
        tree.describe(&far).contains("offset 75557863725914323415040"),
        "{}",
        tree.describe(&far)
    );
}
