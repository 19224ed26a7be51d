//! Readers on other threads see each version whole while the writer goes on and pages are used again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::{Model, assert_same_records, counted, finish};
use crate::tree::{Read, Snapshot, Tree};

const READERS: usize = 3;
const VERSIONS: usize = 300;

/// Compares each version that arrives; holds on to some for a while, as slow clients do.
fn read(versions: Receiver<(Snapshot, Arc<Model>)>, seed: u64) -> usize {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut held = Vec::new();
    let mut compared = 0;
    for (snapshot, model) in versions {
        held.push((snapshot, model));
        if held.len() > 6 {
            held.swap_remove(rng.usize(0..held.len()));
        }
        let (snapshot, model) = &held[rng.usize(0..held.len())];
        assert_same_records(snapshot, model);
        let counted = model.values().filter(|(_, counted)| *counted).count() as u64;
        assert_eq!(snapshot.count(&[], None), counted);
        for (key, (value, _)) in model.iter().step_by(7) {
            assert_eq!(snapshot.get(key).as_deref(), Some(&value[..]));
        }
        compared += 1;
    }
    compared
}

#[test]
fn readers_see_whole_versions() {
    let (senders, readers): (Vec<_>, Vec<_>) = (0..READERS)
        .map(|reader| {
            // Bounded, so that a slow reader holds back the writer and the test's memory.
            let (sender, receiver) = sync_channel(4);
            (sender, thread::spawn(move || read(receiver, reader as u64)))
        })
        .unzip();
    let mut rng = fastrand::Rng::with_seed(42);
    let (mut tree, mut model) = (Tree::new(), Model::new());
    for version in 0..VERSIONS {
        for _ in 0..30 {
            let key = rng.u16(0..400).to_be_bytes().to_vec();
            if rng.u32(0..3) == 0 {
                assert_eq!(tree.remove(&key), model.remove(&key).is_some());
            } else {
                let len = if rng.u32(0..10) == 0 { 6000 } else { rng.usize(0..700) };
                let (value, yes) = (vec![rng.u8(..); len], rng.bool());
                tree.insert(&key, &value, counted(yes));
                model.insert(key, (value, yes));
            }
        }
        let shared = Arc::new(model.clone());
        let snapshot = tree.publish();
        let sender = &senders[version % READERS];
        sender.send((snapshot, shared)).unwrap();
    }
    drop(senders);
    let compared: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    assert_eq!(compared, VERSIONS);
    tree.publish();
    while !tree.tidy(usize::MAX) {}
    assert_eq!(tree.statistics().pages_waiting, 0);
    finish(tree);
}
