//! The checker sees what it is there for: each test breaks one thing by hand.

use super::counted;
use crate::ids::PageId;
use crate::tree::Tree;
use crate::tree::cell::{CellKey, CellValue, LeafCell};
use crate::tree::read::Source;

/// A tree of two levels in a batch under way, so that its pages may be changed.
fn tree() -> Tree {
    let mut tree = Tree::new();
    for n in 0..500_u32 {
        tree.insert(&n.to_be_bytes(), &[7; 50], counted(true));
    }
    tree.check().unwrap();
    assert_eq!(tree.statistics().depth, 2);
    tree
}

fn leaf(tree: &Tree, index: usize) -> PageId {
    tree.node(tree.root).child(index)
}

fn expect(tree: &Tree, page: PageId, what: &str) {
    let damage = tree.check().unwrap_err();
    assert_eq!(damage.page, page, "{damage}");
    assert!(damage.to_string().contains(what), "{damage}");
}

fn record(key: &[u8]) -> LeafCell<'_> {
    LeafCell { counted: true, key: CellKey::Inline(key), value: CellValue::Inline(&[]) }
}

#[test]
fn a_wrong_sum() {
    let mut tree = tree();
    let (root, child) = (tree.root, leaf(&tree, 1));
    let sum = tree.node(child).sum();
    tree.pages.node_mut(root).set_weight(1, sum + 1);
    expect(&tree, root, &format!("{sum} beneath page {child}"));
}

#[test]
fn a_key_out_of_order() {
    let mut tree = tree();
    let leaf = leaf(&tree, 1);
    let key = tree.node(leaf).key(0).part().to_vec();
    let node = tree.pages.node_mut(leaf);
    node.remove(node.count() - 1);
    let count = node.count();
    node.insert_record(count, &record(&key));
    expect(&tree, leaf, "a key after");
}

#[test]
fn a_key_beyond_its_separators() {
    let mut tree = tree();
    let leaf = leaf(&tree, 0);
    let node = tree.pages.node_mut(leaf);
    node.remove(node.count() - 1);
    let count = node.count();
    node.insert_record(count, &record(&u32::MAX.to_be_bytes()));
    expect(&tree, leaf, "within the separators");
}

#[test]
fn an_empty_leaf() {
    let mut tree = tree();
    let leaf = leaf(&tree, 1);
    let node = tree.pages.node_mut(leaf);
    while node.count() > 0 {
        node.remove(0);
    }
    expect(&tree, leaf, "not empty");
}

#[test]
fn a_page_that_belongs_to_nothing() {
    let mut tree = tree();
    let lost = tree.pages.add_run(b"lost").page;
    expect(&tree, lost, "found nowhere");
}

#[test]
fn a_page_in_the_tree_twice() {
    let mut tree = tree();
    let (root, child) = (tree.root, leaf(&tree, 0));
    tree.pages.node_mut(root).set_child(1, child);
    // Its keys are not those the second separator allows.
    expect(&tree, child, "within the separators");
}

#[test]
fn a_page_dropped_that_is_still_in_the_tree() {
    let mut tree = tree();
    tree.publish();
    let child = leaf(&tree, 1);
    tree.pages.drop_node(child);
    expect(&tree, child, "waiting only, found in the tree");
}

#[test]
fn a_wrong_number_of_records() {
    let mut tree = tree();
    tree.records += 1;
    expect(&tree, tree.root, "expected 500, found 501");
}
