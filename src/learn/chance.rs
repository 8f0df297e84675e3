//! How likely something is by chance: the few tests that verdicts rest on.

use super::points::number;
use std::f64::consts::TAU;

/// The share of gaps that lie within a quarter of their median, where things come at random
/// (exponential gaps): `2^-0.75 - 2^-1.25`.
const NEAR_MEDIAN_BY_CHANCE: f64 = 0.174_15;

/// How times are spread on a circle.
pub(super) struct Circle {
    /// The mean, as a part of the circle, 0 to 1.
    pub(super) mean: f64,
    /// The standard deviation, as a part of the circle.
    pub(super) deviation: f64,
    /// How likely such a concentration is by chance: Rayleigh's test, by the approximation of Zar
    /// (Biostatistical Analysis, 1999, equation 27.4).
    pub(super) chance: f64,
}

/// Looks at parts of a circle, 0 to 1 each; `None` where there are none.
pub(super) fn circle(parts: &[f64]) -> Option<Circle> {
    let count = number(parts.len());
    let (mut sine, mut cosine) = (0.0, 0.0);
    for part in parts {
        sine += (part * TAU).sin();
        cosine += (part * TAU).cos();
    }
    let length = sine.hypot(cosine);
    let mean = (sine.atan2(cosine) / TAU).rem_euclid(1.0);
    let share = (length / count).clamp(1e-12, 1.0);
    let exponent = (1.0 + 4.0 * count + 4.0 * (count * count - length * length).max(0.0)).sqrt();
    let chance = (exponent - 1.0 - 2.0 * count).exp().min(1.0);
    let deviation = (-2.0 * share.ln()).max(0.0).sqrt() / TAU;
    (!parts.is_empty()).then_some(Circle { mean, deviation, chance })
}

/// How likely it is that two halves of a time differ so much if nothing changed: the exact binomial
/// test, both sides.
pub(super) fn of_halves(earlier: usize, later: usize) -> f64 {
    (2.0 * at_least(earlier.max(later), earlier + later, 0.5)).min(1.0)
}

/// How likely it is that so many of the gaps lie within a quarter of their median, if things came at
/// random.
pub(super) fn of_even_gaps(near: usize, gaps: usize) -> f64 {
    at_least(near, gaps, NEAR_MEDIAN_BY_CHANCE)
}

/// The probability of at least `least` successes in `all` trials.
fn at_least(least: usize, all: usize, probability: f64) -> f64 {
    if least == 0 {
        return 1.0;
    }
    let (hit, miss) = (probability.ln(), (1.0 - probability).ln());
    let mut choose = 0.0;
    let mut sum = 0.0;
    for successes in 0..=all {
        if successes > 0 {
            choose += (number(all - successes + 1) / number(successes)).ln();
        }
        if successes >= least {
            let rest = number(all - successes);
            sum += (choose + number(successes) * hit + rest * miss).exp();
        }
    }
    sum.min(1.0)
}

/// Parts per million, rounded up: nothing is impossible.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped")]
pub(super) fn parts_per_million(chance: f64) -> u32 {
    (chance * 1e6).ceil().clamp(0.0, 1e6) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::LN_2;

    #[test]
    fn chances_are_those_of_the_tables() {
        for (found, expected) in [
            // Ten heads of ten, both sides: 2 in 1024.
            (of_halves(10, 0), 2.0 / 1024.0),
            (of_halves(5, 5), 1.0),
            (of_halves(0, 0), 1.0),
            // 9 or more of 12 is 299 in 4096.
            (of_halves(3, 9), 2.0 * 299.0 / 4096.0),
            (of_even_gaps(3, 3), NEAR_MEDIAN_BY_CHANCE.powi(3)),
            (NEAR_MEDIAN_BY_CHANCE, (-0.75 * LN_2).exp() - (-1.25 * LN_2).exp()),
        ] {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
        assert!(of_halves(60_000, 40_000) < 1e-6);
        assert_eq!((parts_per_million(0.0), parts_per_million(1e-9)), (0, 1));
    }

    #[test]
    fn a_circle_knows_its_mean_and_whether_it_is_chance() {
        // Around midnight, on both sides of it.
        let night = circle(&[0.99, 0.01, 0.98, 0.02, 0.995]).unwrap();
        assert!(night.mean > 0.99 || night.mean < 0.01, "{}", night.mean);
        assert!(night.chance < 0.01 && night.deviation < 0.03, "{}", night.deviation);
        let spread: Vec<f64> = (0..20_u32).map(|it| f64::from(it) / 20.0).collect();
        assert!(circle(&spread).unwrap().chance > 0.9);
        assert!(circle(&[]).is_none());
    }
}
