//! Frame heads are followed however they are cut, and floods are seen.

#![allow(clippy::indexing_slicing)]

use super::*;

const LIMITS: Limits = Limits {
    idle_frames_per_second: 10,
    resets_per_second: 5,
    ping_interval_min: Duration::from_secs(3600),
};
const MOMENT: Moment = Moment { second: 1, calls: 1 };

fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload).unwrap().to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    // Payload bytes that would count as heads of resets, were they taken for such.
    frame.extend(std::iter::repeat_n(TYPE_RESET, payload));
    frame
}

fn flood_of(frames: impl IntoIterator<Item = Vec<u8>>) -> Option<Flood> {
    let mut guard = Guard::new(LIMITS);
    for frame in frames {
        observe(&mut guard, &frame, MOMENT);
    }
    guard.flood()
}

#[test]
fn frames_of_use_are_no_flood() {
    let call = [frame(TYPE_HEADERS, 4, 1, 30), frame(TYPE_DATA, FLAG_END_STREAM, 1, 300)].concat();
    assert_eq!(flood_of(std::iter::repeat_n(call, 10_000)), None);
    assert_eq!(flood_of(std::iter::repeat_n(frame(TYPE_WINDOW_UPDATE, 0, 0, 4), 10_000)), None);
    assert_eq!(flood_of(std::iter::repeat_n(frame(TYPE_DATA, FLAG_END_STREAM, 1, 0), 99)), None);
}

#[test]
fn frames_without_use_are_counted() {
    for idle in [
        frame(4, 0, 0, 6),
        frame(4, FLAG_ACK, 0, 0),
        frame(TYPE_PING, FLAG_ACK, 0, 8),
        frame(2, 0, 1, 5),
        frame(TYPE_DATA, 0, 1, 0),
        frame(200, 0, 1, 3),
    ] {
        assert_eq!(flood_of(std::iter::repeat_n(idle.clone(), 10)), None);
        assert_eq!(flood_of(std::iter::repeat_n(idle, 11)), Some(Flood::Frames));
    }
    assert_eq!(flood_of(std::iter::repeat_n(frame(TYPE_RESET, 0, 1, 4), 5)), None);
    assert_eq!(flood_of(std::iter::repeat_n(frame(TYPE_RESET, 0, 1, 4), 6)), Some(Flood::Resets));
}

#[test]
fn a_new_second_has_a_new_budget() {
    let mut guard = Guard::new(LIMITS);
    for second in 0..100 {
        for _ in 0..10 {
            observe(&mut guard, &frame(4, 0, 0, 6), Moment { second, calls: 0 });
        }
    }
    assert_eq!(guard.flood(), None);
}

#[test]
fn the_third_early_ping_is_too_many_unless_something_was_sent() {
    let ping = frame(TYPE_PING, 0, 0, 8);
    let mut guard = Guard::new(LIMITS);
    for _ in 0..100 {
        observe(&mut guard, &ping, MOMENT);
        observe(&mut guard, &ping, MOMENT);
        guard.forgive_pings();
    }
    assert_eq!(guard.flood(), None);
    // The first of a connection is never early.
    assert_eq!(flood_of(std::iter::repeat_n(ping.clone(), 3)), None);
    assert_eq!(flood_of(std::iter::repeat_n(ping, 4)), Some(Flood::Pings));
}

#[test]
fn with_no_call_under_way_pings_are_early_for_two_hours() {
    let limits = Limits { ping_interval_min: Duration::ZERO, ..LIMITS };
    let ping = frame(TYPE_PING, 0, 0, 8);
    for (calls, expected) in [(1, None), (0, Some(Flood::Pings))] {
        let mut guard = Guard::new(limits);
        for _ in 0..10 {
            observe(&mut guard, &ping, Moment { second: 0, calls });
        }
        assert_eq!(guard.flood(), expected);
    }
}

#[test]
fn streams_are_touched_when_their_frame_is_whole() {
    let mut guard = Guard::new(LIMITS);
    let data = frame(TYPE_DATA, 0, 7, 20);
    let touched = |guard: &mut Guard| {
        let mut touched = Vec::new();
        guard.take_touched(&mut touched);
        touched
    };
    observe(&mut guard, &data, MOMENT);
    assert_eq!(touched(&mut guard), [0_u32; 0]);
    guard.want_touched(true);
    observe(&mut guard, &data[..28], MOMENT);
    assert_eq!(touched(&mut guard), [0_u32; 0]);
    observe(&mut guard, &data[28..], MOMENT);
    observe(&mut guard, &frame(TYPE_RESET, 0, 9, 4), MOMENT);
    observe(&mut guard, &frame(TYPE_DATA, FLAG_END_STREAM, 11, 0), MOMENT);
    assert_eq!(touched(&mut guard), [7, 9, 11]);
    assert_eq!(guard.stream_last(), 0);
    observe(&mut guard, &frame(TYPE_HEADERS, 0, 13, 1), MOMENT);
    assert_eq!(guard.stream_last(), 13);
}

#[test]
fn any_cut_gives_the_same_frames() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..2_000 {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for stream in 1..random.u32(2..20) {
            let payload = random.usize(..40);
            let kind = random.choice([TYPE_DATA, TYPE_HEADERS, TYPE_WINDOW_UPDATE]).unwrap();
            bytes.extend(frame(kind, FLAG_END_STREAM, stream, payload));
            if kind == TYPE_DATA {
                expected.push(stream);
            }
        }
        let mut guard = Guard::new(LIMITS);
        guard.want_touched(true);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (cut, tail) = rest.split_at(random.usize(1..=rest.len().min(30)));
            rest = tail;
            observe(&mut guard, cut, MOMENT);
        }
        let mut touched = Vec::new();
        guard.take_touched(&mut touched);
        assert_eq!(touched, expected);
    }
}

#[test]
fn random_bytes_never_panic() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..2_000 {
        let mut guard = Guard::new(LIMITS);
        guard.want_touched(true);
        for _ in 0..20 {
            let bytes: [u8; 50] = std::array::from_fn(|_| random.u8(..));
            let bytes = &bytes[..random.usize(..50)];
            observe(&mut guard, bytes, MOMENT);
        }
    }
}

fn observe(guard: &mut Guard, bytes: &[u8], moment: Moment) {
    guard.observe(&mut bytes.to_vec(), moment);
}
