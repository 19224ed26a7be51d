//! Figures over rounds. Medians and not means: on a shared machine some rounds are disturbed, and
//! a disturbed round must not move the result.

/// Figures of one metric, one per round.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Sample {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// Half of the values are this near to the median.
    pub median_deviation: f64,
    pub values: Vec<f64>,
}

impl Sample {
    /// None without values.
    pub fn of(values: Vec<f64>) -> Option<Sample> {
        let center = median(&values)?;
        let deviations: Vec<f64> = values.iter().map(|value| (value - center).abs()).collect();
        Some(Sample {
            median: center,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            median_deviation: median(&deviations)?,
            values,
        })
    }
}

/// The middle value, or the middle of the two middle ones.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    match sorted.len() % 2 {
        1 => Some(upper),
        _ => Some((sorted[middle - 1] + upper) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wild_round_moves_nothing() {
        let sample = Sample::of(vec![10.0, 11.0, 9.0, 1000.0, 10.0]).unwrap();
        assert_eq!((sample.median, sample.median_deviation), (10.0, 1.0));
        assert_eq!((sample.min, sample.max), (9.0, 1000.0));
    }

    #[test]
    fn even_numbers_have_a_middle_too() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(Sample::of(Vec::new()), None);
    }
}
