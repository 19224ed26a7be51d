//! The tree against `BTreeMap`.

use std::collections::BTreeMap;

use super::{Counted, Cursor, Read, Tree};

#[test]
fn smoke() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut tree = Tree::new();
        let mut model = BTreeMap::new();
        let mut held = Vec::new();
        for _ in 0..5000 {
            let key = rng.u32(0..2000).to_be_bytes();
            if rng.u32(0..5) < 3 {
                let value = vec![7; rng.usize(0..3000)];
                let c = rng.bool();
                tree.insert(&key, &value, if c { Counted::Yes } else { Counted::No });
                model.insert(key, (value, c));
            } else {
                assert_eq!(tree.remove(&key), model.remove(&key).is_some());
            }
            if rng.u32(0..100) == 0 {
                tree.check().unwrap();
                held.push((tree.publish(), model.clone()));
                if held.len() > 5 {
                    held.swap_remove(rng.usize(0..5));
                }
            }
        }
        held.push((tree.publish(), model.clone()));
        tree.check().unwrap();
        for (s, m) in &held {
            let mut c = s.cursor();
            c.seek(&[]);
            for (k, (v, counted)) in m {
                assert_eq!((c.key(), c.value(), c.counted()), (&k[..], &v[..], *counted));
                assert_eq!(&*s.get(k).unwrap(), &v[..]);
                c.next();
            }
            assert!(!c.valid());
            assert_eq!(s.count(&[], None), m.values().filter(|v| v.1).count() as u64);
        }
        eprintln!("{:?}", tree);
    }
}
