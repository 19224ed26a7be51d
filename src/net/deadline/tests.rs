//! Noting, forgetting and expiring, against a plain list.

use super::*;

#[test]
fn what_has_passed_expires_once() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let deadlines = Deadlines::new();
    assert_eq!(deadlines.earliest(), None);
    assert!(deadlines.insert(at(50), 'b').1, "the first is the earliest");
    assert!(!deadlines.insert(at(90), 'c').1);
    let (early, is_earliest) = deadlines.insert(at(10), 'a');
    assert!(is_earliest);

    let expired_at = |now| {
        let mut expired = Vec::new();
        deadlines.expire(now, &mut expired);
        expired
    };
    assert_eq!(expired_at(at(9)), []);
    assert!(deadlines.remove(early));
    assert_eq!(expired_at(at(50)), ['b']);
    assert_eq!(deadlines.earliest(), Some(at(90)));
    assert_eq!(expired_at(at(100)), ['c']);
    assert_eq!(deadlines.earliest(), None);
}

#[test]
fn random_histories_agree_with_a_list() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let start = Instant::now();
    let mut now = start;
    let deadlines = Deadlines::new();
    let mut list: Vec<(Key, Instant, u32)> = Vec::new();
    for value in 0..5_000 {
        match random.u8(..4) {
            0 | 1 => {
                let at = now + Duration::from_millis(random.u64(..100));
                list.push((deadlines.insert(at, value).0, at, value));
            }
            2 if !list.is_empty() => {
                let (key, ..) = list.swap_remove(random.usize(..list.len()));
                assert!(deadlines.remove(key));
            }
            _ => {
                now += Duration::from_millis(random.u64(..30));
                let mut expired = Vec::new();
                deadlines.expire(now, &mut expired);
                expired.sort_unstable();
                let mut expected: Vec<u32> =
                    list.extract_if(.., |(_, at, _)| *at <= now).map(|(.., value)| value).collect();
                expected.sort_unstable();
                assert_eq!(expired, expected);
            }
        }
        let earliest = list.iter().map(|(_, at, _)| *at).min();
        assert!(deadlines.earliest() <= earliest || earliest.is_none(), "a bound from below");
    }
}
