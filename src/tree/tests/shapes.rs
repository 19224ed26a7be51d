//! Small trees, drawn: what a split leaves where, which separators it makes, how removal closes up.

use super::{counted, finish};
use crate::ids::PageId;
use crate::tree::cell::CellKey;
use crate::tree::page::{Kind, PAGE_BYTES};
use crate::tree::read::Source;
use crate::tree::{Read, Tree};

/// Four records with such a value fill a leaf.
const QUARTER: [u8; 900] = [7; 900];

fn tree_of(keys: &[&str]) -> Tree {
    let mut tree = Tree::new();
    for key in keys {
        tree.insert(key.as_bytes(), &QUARTER, counted(true));
    }
    tree
}

/// Leaves as their keys, branches as their children with the separators between them.
fn draw(tree: &Tree, id: PageId) -> String {
    let node = tree.node(id);
    let key = |index| match node.key(index) {
        CellKey::Inline(key) => key.escape_ascii().to_string(),
        CellKey::Run { run, .. } => format!("<{} bytes>", run.len),
    };
    match node.kind() {
        Kind::Leaf => (0..node.count()).map(key).collect::<Vec<_>>().join(" "),
        Kind::Branch => {
            let child = |index| format!("[{}]", draw(tree, node.child(index)));
            (1..node.count())
                .fold(child(0), |drawn, index| format!("{drawn} {} {}", key(index), child(index)))
        }
    }
}

fn check(tree: Tree, expected: &str) {
    assert_eq!(draw(&tree, tree.root), expected);
    finish(tree);
}

#[test]
fn empty() {
    let mut tree = Tree::new();
    assert_eq!(tree.statistics().depth, 1);
    assert!(tree.get(b"a").is_none());
    assert!(!tree.remove(b"a"));
    assert!(!tree.set_counted(b"a", counted(true)));
    check(tree, "");
}

#[test]
fn append_leaves_full_pages() {
    check(tree_of(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]), "[a b c d] e [e f g h] i [i]");
}

#[test]
fn insertion_in_the_middle_splits_evenly() {
    check(tree_of(&["a", "b", "c", "e", "d"]), "[a b] c [c d e]");
}

#[test]
fn separators_are_the_shortest_that_separate() {
    check(
        tree_of(&["apple", "apricot", "banana", "cherry", "citron", "citrus"]),
        "[apple apricot banana cherry] ci [citron citrus]",
    );
}

#[test]
fn separator_of_a_key_and_its_extension() {
    check(tree_of(&["a", "b", "c", "d", "da"]), "[a b c d] da [da]");
}

#[test]
fn an_empty_leaf_goes() {
    let mut tree = tree_of(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]);
    assert!(tree.remove(b"i"));
    check(tree, "[a b c d] e [e f g h]");
}

#[test]
fn the_first_leaf_goes_and_the_next_covers_its_keys() {
    let mut tree = tree_of(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]);
    for key in ["a", "b", "c", "d"] {
        assert!(tree.remove(key.as_bytes()));
    }
    tree.insert(b"A", b"", counted(true));
    check(tree, "[A e f g h] i [i]");
}

#[test]
fn an_underfull_leaf_joins_a_sibling_with_room() {
    let mut tree = tree_of(&["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"]);
    for key in ["f", "g", "h"] {
        assert!(tree.remove(key.as_bytes()));
    }
    assert_eq!(draw(&tree, tree.root), "[a b c d] e [e] i [i j k l]");
    assert!(tree.remove(b"c"));
    assert!(tree.remove(b"d"));
    tree.insert(b"e", b"now small", counted(false));
    tree.insert(b"f", b"", counted(true));
    assert!(tree.remove(b"f"));
    check(tree, "[a b e] i [i j k l]");
}

#[test]
fn a_root_with_one_child_gives_way() {
    let mut tree = tree_of(&["a", "b", "c", "d", "e"]);
    assert!(tree.remove(b"a"));
    assert!(tree.remove(b"e"));
    assert_eq!(tree.statistics().depth, 1);
    check(tree, "b c d");
}

#[test]
fn drained_in_any_order_nothing_is_left() {
    for seed in 0..10 {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut tree = Tree::new();
        let mut keys: Vec<Vec<u8>> = (0..800)
            .map(|n: u32| [&b"x".repeat(n as usize % 400)[..], &n.to_be_bytes()].concat())
            .collect();
        for key in &keys {
            tree.insert(key, &QUARTER[..rng.usize(0..900)], counted(true));
        }
        tree.publish();
        assert!(tree.statistics().depth > 2);
        rng.shuffle(&mut keys);
        for key in &keys {
            assert!(tree.remove(key));
        }
        assert_eq!(tree.count(&[], None), 0);
        tree.publish();
        let statistics = tree.statistics();
        assert_eq!((statistics.depth, statistics.records, statistics.pages_waiting), (1, 0, 0));
        // The two meta pages and the root.
        assert_eq!(statistics.bytes_in_use, 3 * PAGE_BYTES as u64);
        check(tree, "");
    }
}

/// Keys that come in order leave pages nine tenths full, in the middle of the tree as at its end, rising as falling,
/// and when several such tables grow at once.
#[test]
fn ordered_keys_fill_pages() {
    let mut tree = Tree::new();
    let mut bytes = 0;
    for other in [b"a", b"m", b"z"] {
        for n in 0..100_u8 {
            tree.insert(&[&other[..], &[n]].concat(), &[7; 100], counted(true));
            bytes += 102;
        }
    }
    for n in 0..10_000_u64 {
        for (table, number) in [(b"b", n), (b"n", u64::MAX - n), (b"zz", n)] as [(&[u8], u64); 3] {
            let key = [table, &number.to_be_bytes()].concat();
            tree.insert(&key, &[7; 100], counted(true));
            bytes += key.len() + 100;
        }
        if n % 100 == 0 {
            tree.publish();
        }
    }
    tree.publish();
    let in_use = tree.statistics().bytes_in_use;
    // Heads of slots and cells take a tenth of such small records.
    assert!(bytes as u64 * 100 > in_use * 80, "{bytes} bytes of records in {in_use}");
    finish(tree);
}
