//! Did it get worse? The rule of `regress`.
//!
//! Rounds come in pairs, base and head right after each other, so that what disturbs the machine
//! for a while disturbs both; what is judged is therefore the ratio of head to base **within each
//! pair**. A metric (less is better in all of them) **got worse** when
//!
//! 1. the median of these ratios exceeds 1 by more than the *allowance*, the larger of the metric's
//!    floor (5 % for p50 and CPU, 10 % for p99, 20 % for p99.9: tails are made of few requests)
//!    and 2 standard errors of that median (1.2533 x 1.4826 x the median absolute deviation of the
//!    ratios / the square root of their number), and
//! 2. head was worse than base in at least four of five pairs.
//!
//! The first alone would be deceived by a few ratios that scatter little by chance, the second
//! alone would find a difference that does not matter. Who finds anything worse should run as many
//! rounds again, and judge over all of them; `regress` does.

use crate::statistics::Sample;

/// Standard errors that are allowed.
const ERRORS: f64 = 2.0;
/// A median absolute deviation times this estimates the standard deviation of normal noise.
const DEVIATION_SCALE: f64 = 1.4826;
/// A median's standard error is this much larger than a mean's.
const MEDIAN_SCALE: f64 = 1.2533;
/// The share of pairs in which head must be worse.
const PAIRS_SHARE: f64 = 0.8;

/// What was found about one metric.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Verdict {
    pub base: Sample,
    pub head: Sample,
    /// Of head to base, within pairs.
    pub ratios: Sample,
    /// By how much the median ratio may exceed 1.
    pub allowance: f64,
    /// The share of pairs in which head was worse.
    pub pairs_worse: f64,
    pub worse: bool,
}

/// Judges rounds that are paired by their places. None if there are none, or base's are nothing.
pub fn judge(base: Vec<f64>, head: Vec<f64>, floor: f64) -> Option<Verdict> {
    if base.iter().any(|value| *value <= 0.0) {
        return None;
    }
    let ratios = base.iter().zip(&head).map(|(base, head)| head / base).collect();
    let ratios = Sample::of(ratios)?;
    let pairs = ratios.values.len() as f64;
    let deviation = DEVIATION_SCALE * ratios.median_deviation;
    let allowance = (ERRORS * MEDIAN_SCALE * deviation / pairs.sqrt()).max(floor);
    let pairs_worse = ratios.values.iter().filter(|ratio| **ratio > 1.0).count() as f64 / pairs;
    let worse = ratios.median > 1.0 + allowance && pairs_worse >= PAIRS_SHARE;
    Some(Verdict {
        base: Sample::of(base)?,
        head: Sample::of(head)?,
        ratios,
        allowance,
        pairs_worse,
        worse,
    })
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
        let head = [101.0, 150.0, 103.0, 180.0, 120.0];
        let verdict = judge(vec![100.0; 5], head.to_vec(), FLOOR).unwrap();
        assert_eq!(verdict.pairs_worse, 1.0);
        assert!(!verdict.worse && verdict.allowance > 0.2, "{verdict:?}");
    }

    #[test]
    fn drift_of_the_machine_cancels_out() {
        let base = [100.0, 150.0, 230.0, 340.0, 500.0];
        let slower = base.map(|value| value * 1.1);
        assert!(!worse(&base, &base));
        assert!(worse(&base, &slower));
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
