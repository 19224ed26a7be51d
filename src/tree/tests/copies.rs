//! A tree sent to another file: it arrives as it was, or not at all.
//!
//! Damaged streams are refused; so are those of a sender who computes checksums over nonsense, without a panic. Power is
//! cut at every operation of a transfer.

use bytes::Bytes;
use urd_wal::disk::memory::{MemoryDisk, Survival};
use urd_wal::disk::uring::UringDisk;
use urd_wal::disk::{Disk, ReadDisk};

use super::checkpoints::{change, open, run, run_while, save, stamp};
use super::{Model, assert_same_records, counted, finish};
use crate::tree::checkpoint::{self, Opened};
use crate::tree::export::Export;
use crate::tree::file::seal;
use crate::tree::import::{Failure, Flaw, Import, Incoming};
use crate::tree::map::Shape;
use crate::tree::page::{BODY_BYTES, HEADER_BYTES, PAGE_BYTES};
use crate::tree::read::Source;
use crate::tree::stream::{self, CHUNK_BYTES, CHUNK_HEAD_BYTES, FORMAT_AT, Reference, references};
use crate::tree::{Read, Snapshot, Stamp, Tree};

const NAME: &str = "checkpoint";
const INCOMING: &str = "checkpoint.incoming";

fn chunks(snapshot: &Snapshot, stamp: Stamp) -> Vec<Bytes> {
    let mut export = Export::new(snapshot.clone(), stamp);
    let chunks: Vec<_> = std::iter::from_fn(|| export.next_chunk().unwrap()).collect();
    assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES));
    assert!(chunks.iter().rev().skip(1).all(|chunk| chunk.len() == CHUNK_BYTES));
    chunks
}

async fn receive<D: Disk>(disk: D, chunks: &[Bytes]) -> Result<Incoming<D>, Failure> {
    let mut import = Import::begin(disk, NAME).await?;
    for chunk in chunks {
        import = import.write(chunk).await?;
    }
    import.finish().await
}

/// Why a stream is refused, and that nothing is left of it.
fn refusal(chunks: &[Bytes]) -> Flaw {
    let disk = MemoryDisk::new(512);
    disk.put(NAME, b"as it was".to_vec());
    let flaw = match run(receive(disk.clone(), chunks)).unwrap() {
        Err(Failure::Refused(flaw)) => flaw,
        Err(failure) => panic!("{failure}"),
        Ok(_) => panic!("it was taken for whole"),
    };
    assert_eq!(disk.names(), [NAME]);
    assert_eq!(disk.bytes(NAME), b"as it was");
    flaw
}

/// Sends `snapshot` to a disk of its own and opens it there.
fn copy(snapshot: &Snapshot, at: Stamp) -> (MemoryDisk, Opened<MemoryDisk>) {
    let disk = MemoryDisk::new(512);
    let incoming = run(receive(disk.clone(), &chunks(snapshot, at))).unwrap().unwrap();
    assert_eq!(incoming.stamp(), at);
    let looked_at = run(incoming.look()).unwrap().unwrap();
    assert_eq!(looked_at.tree.verify_pages(), []);
    let opened = run(incoming.install()).unwrap().unwrap();
    assert!(opened.warnings.is_empty(), "{:?}", opened.warnings);
    assert_eq!(opened.checkpoint.unwrap().stamp, at);
    assert_eq!(disk.names(), [NAME]);
    opened.tree.check().unwrap();
    let (here, there) = (snapshot.sizes(), opened.tree.snapshot().sizes());
    assert_eq!((here.records, here.depth), (there.records, there.depth));
    let statistics = opened.tree.statistics();
    assert_eq!(statistics.pages_free, 0, "the file has no holes");
    assert_eq!(disk.bytes(NAME).len() as u64, statistics.bytes);
    (disk, opened)
}

#[test]
fn a_copy_is_equal_to_what_was_sent() {
    for seed in 0..12 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (disk, mut model) = (MemoryDisk::new(512), Model::new());
        let mut opened = open(&disk);
        // From nothing and a page or two to some hundred; in the heap, or in the file in part or as a whole.
        for index in 1..rng.u64(1..5) {
            change(&mut opened.tree, &mut model, &mut rng, 1 << seed.min(9));
            run(save(&mut opened, index)).unwrap();
            opened = open(&disk);
        }
        change(&mut opened.tree, &mut model, &mut rng, 1 << seed.min(8));
        let snapshot = opened.tree.publish();
        let (_, mut copied) = copy(&snapshot, stamp(seed));
        assert_same_records(&copied.tree, &model);
        assert_same_records(&copied.tree.snapshot(), &model);
        assert_eq!(snapshot.count(&[], None), copied.tree.count(&[], None));
        // It can be gone on with, and copied again.
        change(&mut copied.tree, &mut model, &mut rng, 200);
        run(save(&mut copied, 99)).unwrap();
        let (_, copied) = copy(&copied.tree.snapshot(), stamp(99));
        assert_same_records(&copied.tree, &model);
        finish(copied.tree);
    }
}

#[test]
fn smaller_chunks_bring_the_same() {
    let (mut tree, mut model) = (Tree::new(), Model::new());
    for n in 0..300_u32 {
        let value = vec![7; if n % 50 == 0 { 3 * PAGE_BYTES } else { 100 }];
        tree.insert(&n.to_be_bytes(), &value, counted(true));
        model.insert(n.to_be_bytes().to_vec(), (value, true));
    }
    let snapshot = tree.publish();
    for bytes in [0, 1000, PAGE_BYTES, usize::MAX] {
        let mut export = Export::new(snapshot.clone(), stamp(1)).in_chunks_of(bytes);
        let chunks: Vec<_> = std::iter::from_fn(|| export.next_chunk().unwrap()).collect();
        let most = bytes.clamp(CHUNK_HEAD_BYTES + 1, CHUNK_BYTES);
        assert!(chunks.iter().all(|chunk| chunk.len() <= most && chunk.len() > CHUNK_HEAD_BYTES));
        let incoming = run(receive(MemoryDisk::new(512), &chunks)).unwrap().unwrap();
        let opened = run(incoming.install()).unwrap().unwrap();
        assert_same_records(&opened.tree, &model);
    }
}

#[test]
fn empty_and_small_trees() {
    for records in 0..3 {
        let (mut tree, mut model) = (Tree::new(), Model::new());
        for n in 0..records {
            tree.insert(&[n], &[], counted(true));
            model.insert(vec![n], (Vec::new(), true));
        }
        let (_, copied) = copy(&tree.publish(), stamp(1));
        assert_same_records(&copied.tree, &model);
    }
}

/// Long keys in leaves and branches, and runs longer than a chunk.
#[test]
fn runs_longer_than_a_chunk() {
    let (mut tree, mut model) = (Tree::new(), Model::new());
    for n in 0..40_u32 {
        let mut key = vec![b'p'; if n % 5 == 0 { CHUNK_BYTES + 77 } else { 1500 }];
        key.extend_from_slice(&n.to_be_bytes());
        let value = vec![7; if n % 7 == 0 { 2 * CHUNK_BYTES - PAGE_BYTES } else { 900 }];
        tree.insert(&key, &value, counted(n % 2 == 0));
        model.insert(key, (value, n % 2 == 0));
    }
    let snapshot = tree.publish();
    assert!(snapshot.sizes().depth > 1);
    let (_, copied) = copy(&snapshot, stamp(1));
    assert_same_records(&copied.tree, &model);
}

#[test]
fn what_is_written_meanwhile_does_not_show() {
    let disk = MemoryDisk::new(512);
    let (mut rng, mut model) = (fastrand::Rng::with_seed(3), Model::new());
    let mut opened = open(&disk);
    change(&mut opened.tree, &mut model, &mut rng, 5000);
    run(save(&mut opened, 1)).unwrap();
    let mut opened = open(&disk);
    change(&mut opened.tree, &mut model, &mut rng, 100);
    let mut export = Export::new(opened.tree.publish(), stamp(2));
    let sent = model.clone();
    let other = MemoryDisk::new(512);
    let mut import = run(Import::begin(other, NAME)).unwrap().unwrap();
    let mut progress = 0;
    while let Some(chunk) = export.next_chunk().unwrap() {
        assert!(!import.is_whole());
        import = run(import.write(&chunk)).unwrap().unwrap();
        assert!(
            import.progress().pages > progress && import.progress().of >= import.progress().pages
        );
        assert!(export.progress().pages >= import.progress().pages);
        progress = import.progress().pages;
        for _ in 0..3 {
            change(&mut opened.tree, &mut model, &mut rng, 200);
            opened.tree.publish();
        }
        run(save(&mut opened, 3)).unwrap();
    }
    assert!(progress > 128 && import.is_whole(), "more than a chunk: {progress} pages");
    drop(export);
    let incoming = run(import.finish()).unwrap().unwrap();
    let copied = run(incoming.install()).unwrap().unwrap();
    assert_same_records(&copied.tree, &sent);
    copied.tree.check().unwrap();
    finish(opened.tree);
}

/// A tree of some chunks.
fn large() -> Snapshot {
    let (mut tree, mut rng) = (Tree::new(), fastrand::Rng::with_seed(8));
    for _ in 0..1500 {
        let len = if rng.u8(..50) == 0 { 9000 } else { rng.usize(..1500) };
        tree.insert(&rng.u32(..).to_be_bytes(), &vec![rng.u8(..); len], counted(true));
    }
    tree.publish()
}

#[test]
fn a_stream_that_is_cut_shuffled_or_repeated_is_refused() {
    let chunks = chunks(&large(), stamp(1));
    assert!(chunks.len() > 3, "{}", chunks.len());
    for end in 0..chunks.len() {
        let what = refusal(&chunks[..end]).what;
        assert!(what.contains("the rest of the stream"), "{what}");
    }
    for nth in 0..chunks.len() {
        let mut some = chunks.clone();
        some.remove(nth);
        assert_eq!(refusal(&some).chunk, nth as u64);
        let mut some = chunks.clone();
        some.insert(nth, chunks[nth].clone());
        let flaw = refusal(&some);
        assert_eq!(flaw.what, format!("expected chunk {}, found chunk {nth}", nth + 1));
        assert!(flaw.to_string().starts_with(&format!("chunk {}, byte ", nth + 1)), "{flaw}");
        if nth > 0 {
            let mut some = chunks.clone();
            some.swap(nth - 1, nth);
            refusal(&some);
        }
        // A chunk that ends too early, and one that has more than its own.
        let mut some = chunks.clone();
        some[nth] = some[nth].slice(..some[nth].len() - 1);
        refusal(&some);
        let mut some = chunks.clone();
        some[nth] = [&some[nth][..], &[0]].concat().into();
        refusal(&some);
        some[nth] = Bytes::from_static(b"short");
        assert_eq!(refusal(&some).what, "expected a chunk, found 5 bytes");
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let chunks = chunks(&large(), stamp(1));
    let mut rng = fastrand::Rng::with_seed(4);
    // The ends of the stream hold the most different things.
    let last = (chunks.len() - 1, chunks[chunks.len() - 1].len());
    let ends = (0..CHUNK_HEAD_BYTES + stream::HEADER_BYTES + 40).map(|at| (0, at));
    let ends = ends.chain((0..stream::END_BYTES + 20).map(|at| (last.0, last.1 - 1 - at)));
    let middle = (0..60).map(|_| {
        let nth = rng.usize(..chunks.len());
        (nth, rng.usize(..chunks[nth].len()))
    });
    let places: Vec<_> = ends.chain(middle).collect();
    for (nth, at) in places {
        let mut some = chunks.clone();
        let mut bytes = some[nth].to_vec();
        bytes[at] ^= 1 << (at % 8);
        some[nth] = bytes.into();
        let flaw = refusal(&some);
        assert!(flaw.chunk >= nth as u64, "{flaw}");
    }
}

/// What a stream consists of, taken apart.
struct Parts {
    header: Vec<u8>,
    /// Each page or run, under its number, with its trailer.
    pages: Vec<(Reference, Vec<u8>)>,
}

impl Parts {
    fn of(snapshot: &Snapshot) -> Parts {
        let header = Export::new(snapshot.clone(), stamp(1)).header().encode().to_vec();
        let (mut stack, mut pages) = (vec![Reference::node(snapshot.root())], Vec::new());
        while let Some(next) = stack.pop() {
            let mut bytes = Vec::new();
            snapshot.directory().copy(next.shape, next.page, &mut bytes).unwrap();
            pages.push((next, bytes));
            if next.shape == Shape::Node {
                stack.extend(references(&snapshot.source().node(next.page)).rev());
            }
        }
        Parts { header, pages }
    }

    /// One chunk of it all, with checksums that are right.
    fn chunk(&self) -> Bytes {
        let mut bytes = self.header.clone();
        let mut count = 0;
        for (_, page) in &self.pages {
            bytes.extend_from_slice(page);
            count += (page.len() / PAGE_BYTES) as u64;
        }
        bytes.extend_from_slice(&stream::end(count));
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        Bytes::from([&0_u64.to_le_bytes()[..], &bytes].concat())
    }
}

/// A small tree with everything in it.
fn small(seed: u64) -> Snapshot {
    let (mut tree, mut model) = (Tree::new(), Model::new());
    change(&mut tree, &mut model, &mut fastrand::Rng::with_seed(seed), 120);
    tree.publish()
}

/// A sender who computes the checksums of pages that are nonsense.
#[test]
fn hostile_pages_are_refused_or_harmless() {
    let (mut refused, mut harmless) = (0, 0);
    for seed in 0..6 {
        let snapshot = small(seed);
        assert_eq!(Parts::of(&snapshot).chunk(), chunks(&snapshot, stamp(1))[0]);
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..600 {
            let mut parts = Parts::of(&snapshot);
            let nth = rng.usize(..parts.pages.len());
            let (reference, bytes) = &mut parts.pages[nth];
            for _ in 0..rng.usize(1..4) {
                // Mostly where a page speaks of itself.
                let at = match rng.u8(..4) {
                    0 => rng.usize(..HEADER_BYTES),
                    1 => rng.usize(..200),
                    2 => BODY_BYTES - 1 - rng.usize(..300),
                    _ => rng.usize(..bytes.len() - 16),
                };
                bytes[at] = if rng.bool() { rng.u8(..) } else { bytes[at] ^ 1 << rng.u8(..8) };
            }
            seal(reference.page, bytes);
            let disk = MemoryDisk::new(512);
            match run(receive(disk.clone(), &[parts.chunk()])).unwrap() {
                Err(Failure::Refused(_)) => refused += 1,
                Err(failure) => panic!("{failure}"),
                Ok(incoming) => {
                    // A value that is another, or a hint: for nobody to tell.
                    let opened = run(incoming.install()).unwrap().unwrap();
                    opened.tree.check().unwrap();
                    harmless += 1;
                }
            }
        }
    }
    assert!(refused > 1000 && harmless > 20, "{refused} refused, {harmless} harmless");
}

#[test]
fn pages_left_out_or_twice_are_refused() {
    let snapshot = small(1);
    for nth in 0..Parts::of(&snapshot).pages.len() {
        let mut parts = Parts::of(&snapshot);
        let page = parts.pages.remove(nth);
        refusal(&[parts.chunk()]);
        parts.pages.insert(nth, page);
        let page = (parts.pages[nth].0, parts.pages[nth].1.clone());
        parts.pages.insert(nth, page);
        refusal(&[parts.chunk()]);
    }
}

#[test]
fn a_stream_of_another_format_is_refused() {
    for (at, text) in [
        (0, "expected the beginning of a tree, found vrd-copy"),
        (FORMAT_AT, "expected a stream of format 1, found 0"),
        (stream::PAGE_FORMAT_AT, "expected pages of format 1, found 0"),
        (stream::PAGE_BYTES_AT + 1, "expected bytes a page: 4096, found 4352"),
    ] {
        let mut parts = Parts::of(&small(1));
        parts.header[at] ^= if at == 0 { 3 } else { 1 };
        let crc = crc32fast::hash(&parts.header[..stream::CRC_AT]);
        parts.header[stream::CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        let flaw = refusal(&[parts.chunk()]);
        assert_eq!((flaw.what.as_str(), flaw.chunk, flaw.offset), (text, 0, 0));
    }
}

/// A header whose checksum is right and whose numbers are not.
#[test]
fn headers_that_make_no_sense_are_refused() {
    for (at, number, text) in [
        (stream::VERSION_AT, u64::MAX, "expected version: up to"),
        (stream::INDEX_AT, (1 << 61) + 1, "expected index: up to"),
        (stream::TERM_AT, u64::MAX, "expected term: up to"),
        (stream::DEPTH_AT, 0, "a depth up to 12"),
        (stream::DEPTH_AT, 13, "a depth up to 12"),
        (stream::DEPTH_AT, 1, "expected a leaf at depth 1"),
        (stream::RECORDS_AT, 7, "expected 7 records"),
        (stream::ROOT_AT, 99_999, "expected page 99999"),
        (stream::VERSION_AT, 0, "expected a version up to 0"),
    ] {
        let mut parts = Parts::of(&small(1));
        parts.header[at..at + 8].copy_from_slice(&number.to_le_bytes());
        let crc = crc32fast::hash(&parts.header[..stream::CRC_AT]);
        parts.header[stream::CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        let flaw = refusal(&[parts.chunk()]);
        assert!(flaw.what.contains(text), "{flaw}");
    }
}

/// What stands at the receiver before.
fn receiver() -> (MemoryDisk, Model) {
    let (disk, mut model) = (MemoryDisk::new(512), Model::new());
    let mut opened = open(&disk);
    change(&mut opened.tree, &mut model, &mut fastrand::Rng::with_seed(21), 200);
    run(save(&mut opened, 5)).unwrap();
    (disk, model)
}

#[test]
fn a_full_disk_is_said_and_nothing_is_lost() {
    let chunks = chunks(&large(), stamp(70));
    let (disk, model) = receiver();
    disk.set_capacity((disk.bytes(NAME).len() + PAGE_BYTES) as u64);
    let Err(Failure::Full { file, .. }) = run(receive(disk.clone(), &chunks)).unwrap() else {
        panic!("there was no room")
    };
    assert_eq!((file.as_str(), disk.names()), (INCOMING, vec![NAME.to_owned()]));
    let opened = open(&disk);
    assert_same_records(&opened.tree, &model);
    // There is room again.
    disk.set_capacity(u64::MAX);
    let incoming = run(receive(disk, &chunks)).unwrap().unwrap();
    assert_eq!(run(incoming.install()).unwrap().unwrap().checkpoint.unwrap().stamp, stamp(70));
}

#[test]
fn a_failed_operation_leaves_what_was() {
    let chunks = chunks(&large(), stamp(70));
    let (before, model) = receiver();
    let begin = before.operations();
    let finished = before.clone();
    run(receive(finished.clone(), &chunks)).unwrap().unwrap();
    let operations = finished.operations() - begin;
    assert!(operations > 10, "{operations}");
    for nth in 1..operations {
        let (disk, _) = receiver();
        disk.fail_at(disk.operations() + nth, urd_wal::disk::memory::Fault::Fail);
        let Err(failure) = run(receive(disk.clone(), &chunks)).unwrap() else {
            panic!("operation {nth} went unseen")
        };
        assert!(!failure.to_string().is_empty());
        assert_eq!(disk.names(), [NAME], "operation {nth}: {failure}");
        assert_same_records(&open(&disk).tree, &model);
    }
}

#[test]
fn the_power_is_cut_at_every_operation_of_a_transfer() {
    let (mut tree, mut sent) = (Tree::new(), Model::new());
    change(&mut tree, &mut sent, &mut fastrand::Rng::with_seed(22), 300);
    let chunks = chunks(&tree.publish(), stamp(70));
    let transfer = |disk: MemoryDisk| {
        let chunks = chunks.clone();
        async move { receive(disk, &chunks).await.unwrap().install().await.unwrap() }
    };
    let (whole, model) = receiver();
    let before = whole.operations();
    drop(run(transfer(whole.clone())).unwrap());
    let (mut old, mut new) = (0, 0);
    for cut in before..whole.operations() {
        for survival in Survival::ALL {
            let (disk, _) = receiver();
            disk.set_latency(3, cut);
            disk.crash_at(cut);
            assert!(run_while(transfer(disk.clone()), || !disk.crashed()).is_none());
            let after = disk.after_crash(survival, cut);
            let opened = open(&after);
            assert_eq!(after.names(), [NAME], "what was left is removed");
            opened.tree.check().unwrap();
            match opened.checkpoint.unwrap().stamp {
                at if at == stamp(5) => {
                    assert_same_records(&opened.tree, &model);
                    old += 1;
                }
                at => {
                    assert_eq!(at, stamp(70));
                    assert_same_records(&opened.tree, &sent);
                    new += 1;
                }
            }
            // Another transfer, over whatever is there.
            let opened = run(transfer(after)).unwrap();
            assert_same_records(&opened.tree, &sent);
        }
    }
    assert!(old > 10 && new > 1, "{old} old, {new} new");
}

/// On real files, mapped: readers of the old tree are not disturbed, and a sender's pages come from its file.
#[test]
fn the_old_tree_stays_readable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let test = move || async move {
        let (mut rng, mut model) = (fastrand::Rng::with_seed(31), Model::new());
        let sender = UringDisk::open(path.join("sender")).await.unwrap();
        let mut opened = checkpoint::open(sender, NAME).await.unwrap();
        change(&mut opened.tree, &mut model, &mut rng, 3000);
        save(&mut opened, 40).await;
        assert_eq!(opened.tree.pages.in_heap(), 0);
        change(&mut opened.tree, &mut model, &mut rng, 100);
        let chunks = chunks(&opened.tree.publish(), stamp(41));

        let disk = UringDisk::open(path.join("receiver")).await.unwrap();
        let mut before = checkpoint::open(disk.clone(), NAME).await.unwrap();
        let mut old = Model::new();
        change(&mut before.tree, &mut old, &mut rng, 1000);
        save(&mut before, 7).await;
        let snapshot = before.tree.snapshot();
        let incoming = receive(disk.clone(), &chunks).await.unwrap();
        let after = incoming.install().await.unwrap();
        // A checkpoint that was under way does no harm.
        change(&mut before.tree, &mut old.clone(), &mut rng, 100);
        save(&mut before, 8).await;
        assert_same_records(&after.tree, &model);
        after.tree.check().unwrap();
        assert_eq!(after.tree.pages.in_heap(), 0);
        drop(before);
        assert_same_records(&snapshot, &old);
        drop((snapshot, after));
        let names: Vec<_> = disk.list().await.unwrap().into_iter().map(|file| file.name).collect();
        assert_eq!(names, [NAME]);
        let again = checkpoint::open(disk, NAME).await.unwrap();
        assert_eq!(again.checkpoint.unwrap().stamp, stamp(41));
        assert_same_records(&again.tree, &model);
    };
    glommio::LocalExecutorBuilder::default().spawn(test).unwrap().join().unwrap();
}

/// What is damaged at the sender is said there, and by no panic.
#[test]
fn a_damaged_page_is_not_sent() {
    let (disk, _) = receiver();
    let root = open(&disk).checkpoint.unwrap().root;
    let child = open(&disk).tree.pages.node(root).child(1);
    disk.corrupt(NAME, usize::try_from(child.0).unwrap() * PAGE_BYTES + 500, 4);
    let mut export = Export::new(open(&disk).tree.snapshot(), stamp(1));
    let damage = export.next_chunk().unwrap_err();
    assert_eq!(damage.page, child);
}
