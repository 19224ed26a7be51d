//! Did it get worse? The rule of `regress`.
//!
//! Rounds come in pairs, base and head right after each other, so that what disturbs the machine
//! for a while disturbs both. A metric (less is better in all of them) **got worse** when
//!
//! 1. head's median over the rounds exceeds base's by more than the *allowance*, which is the
//!    larger of the metric's floor (5 % for p50 and CPU, 10 % for p99, 20 % for p99.9: tails are
//!    made of few requests) and 3 robust standard deviations (1.4826 times the median absolute
//!    deviation, of whichever side scatters more), and
//! 2. head was worse than base in at least four of five pairs.
//!
//! The first alone would be deceived by a few rounds that scatter little by chance, the second
//! alone would find a difference that does not matter. Who finds anything worse should run as many
//! rounds again, and judge over all of them; `regress` does.

use crate::statistics::Sample;

/// Robust standard deviations that are allowed.
const DEVIATIONS: f64 = 3.0;
/// A median absolute deviation times this estimates the standard deviation of normal noise.
const DEVIATION_SCALE: f64 = 1.4826;
/// The share of pairs in which head must be worse.
const PAIRS_SHARE: f64 = 0.8;

/// What was found about one metric.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Verdict {
    pub base: Sample,
    pub head: Sample,
    /// head's median over base's.
    pub ratio: f64,
    /// By how much, as a share of base's median, head may exceed it.
    pub allowance: f64,
    /// The share of pairs in which head was worse.
    pub pairs_worse: f64,
    pub worse: bool,
}

/// Judges rounds that are paired by their places. None if there are none, or base's are nothing.
pub fn judge(base: Vec<f64>, head: Vec<f64>, floor: f64) -> Option<Verdict> {
    let pairs = base.len().min(head.len());
    let pairs_worse = base.iter().zip(&head).filter(|(base, head)| head > base).count();
    let (base, head) = (Sample::of(base)?, Sample::of(head)?);
    if pairs == 0 || base.median <= 0.0 {
        return None;
    }
    let deviation = DEVIATION_SCALE * base.median_deviation.max(head.median_deviation);
    let allowance = (DEVIATIONS * deviation / base.median).max(floor);
    let ratio = head.median / base.median;
    let pairs_worse = pairs_worse as f64 / pairs as f64;
    let worse = ratio > 1.0 + allowance && pairs_worse >= PAIRS_SHARE;
    Some(Verdict { base, head, ratio, allowance, pairs_worse, worse })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: f64 = 0.05;

    fn worse(base: &[f64], head: &[f64]) -> bool {
        judge(base.to_vec(), head.to_vec(), FLOOR).unwrap().worse
    }

    #[test]
    fn clear_slowdown_is_worse() {
        assert!(worse(&[100.0, 101.0, 99.0, 100.0, 102.0], &[120.0, 121.0, 119.0, 122.0, 120.0]));
    }

    #[test]
    fn floor_is_allowed() {
        assert!(!worse(&[100.0; 5], &[104.9; 5]));
        assert!(worse(&[100.0; 5], &[105.1; 5]));
    }

    #[test]
    fn better_is_not_worse() {
        assert!(!worse(&[100.0; 5], &[50.0; 5]));
    }

    #[test]
    fn scatter_is_allowed_for() {
        let (base, head) = ([100.0, 130.0, 90.0, 120.0, 80.0], [110.0, 140.0, 95.0, 125.0, 90.0]);
        let verdict = judge(base.to_vec(), head.to_vec(), FLOOR).unwrap();
        assert_eq!(verdict.pairs_worse, 1.0);
        assert!(!verdict.worse && verdict.allowance > 0.5, "{verdict:?}");
    }

    #[test]
    fn noise_in_one_or_two_rounds_is_not_a_verdict() {
        // Medians differ beyond the floor, but half of the pairs say otherwise.
        assert!(!worse(&[100.0, 100.0, 100.0, 120.0], &[110.0, 110.0, 99.0, 100.0]));
    }

    #[test]
    fn same_program_is_rarely_found_worse() {
        let seed = 3;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut round = |slowdown: f64| {
            // Some scatter, and every tenth round disturbed.
            let disturbed = if rng.u8(..10) == 0 { 1.5 } else { 1.0 };
            (95.0 + 10.0 * rng.f64()) * disturbed * slowdown
        };
        let mut found = |slowdown| {
            let found = |_: &i32| {
                let base = (0..7).map(|_| round(1.0)).collect();
                let head = (0..7).map(|_| round(slowdown)).collect();
                judge(base, head, FLOOR).unwrap().worse
            };
            (0..1000).filter(found).count()
        };
        assert!(found(1.0) < 10, "seed {seed}");
        assert!(found(1.3) > 750, "seed {seed}");
    }

    #[test]
    fn nothing_measured_is_no_verdict() {
        assert_eq!(judge(vec![], vec![], FLOOR), None);
        assert_eq!(judge(vec![0.0], vec![1.0], FLOOR), None);
    }
}
