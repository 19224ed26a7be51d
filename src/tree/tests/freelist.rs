//! The freelist against a set of numbers.

use std::collections::BTreeSet;

use crate::ids::PageId;
use crate::tree::freelist::{FIRST_PAGE, Freelist};

#[test]
fn allocates_what_is_free_and_nothing_twice() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut freelist = Freelist::new();
        let mut free: BTreeSet<u64> = BTreeSet::new();
        let mut used: Vec<(u64, usize)> = Vec::new();
        let mut end = FIRST_PAGE.0;
        for _ in 0..3000 {
            if rng.u32(0..5) < 3 {
                let pages = if rng.bool() { 1 } else { rng.usize(1..200) };
                let start = freelist.allocate(pages).0;
                if pages == 1 {
                    assert_eq!(start, free.first().copied().unwrap_or(end), "the lowest page");
                }
                let fresh = start == end;
                for id in start..start + pages as u64 {
                    assert!(free.remove(&id) || fresh, "page {id} was free");
                }
                end = end.max(start + pages as u64);
                used.push((start, pages));
            } else if !used.is_empty() {
                let (start, pages) = used.swap_remove(rng.usize(0..used.len()));
                freelist.release(PageId(start), pages);
                free.extend(start..start + pages as u64);
            }
            assert_eq!(freelist.count(), free.len() as u64);
            assert_eq!(freelist.end(), PageId(end));
        }
        for id in 0..end + 10 {
            assert_eq!(freelist.is_free(PageId(id)), free.contains(&id));
        }
    }
}

#[test]
fn runs_come_from_stretches_that_are_long_enough() {
    let mut freelist = Freelist::new();
    let pages: Vec<PageId> = (0..1000).map(|_| freelist.allocate(1)).collect();
    for &page in &pages[100..110] {
        freelist.release(page, 1);
    }
    for &page in &pages[500..520] {
        freelist.release(page, 1);
    }
    assert_eq!(freelist.allocate(15), pages[500]);
    assert_eq!(freelist.allocate(8), pages[100]);
    assert_eq!(freelist.allocate(6).0, pages[999].0 + 1, "no stretch is left: from the end");
    assert_eq!(freelist.allocate(5), pages[515]);
}

#[test]
#[should_panic(expected = "freed once")]
fn freeing_twice_is_a_bug() {
    let mut freelist = Freelist::new();
    let page = freelist.allocate(1);
    freelist.release(page, 1);
    freelist.release(page, 1);
}

#[test]
fn a_set_of_other_pages_than_the_files_is_none() {
    let set = |words: &[u64]| Freelist::from_words(words.to_vec(), PageId(70));
    assert_eq!(set(&[0b1100, 0b10_0000]).unwrap().count(), 3);
    assert!(set(&[]).unwrap().count() == 0);
    assert!(set(&[0b0001]).is_none() && set(&[0b0010]).is_none(), "meta pages");
    assert!(set(&[0b1100, 0b100_0000]).is_none(), "page 70 of 70");
    assert!(set(&[0, 0, 1]).is_none());
}
