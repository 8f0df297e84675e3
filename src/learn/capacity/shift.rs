//! Where the level of a series has shifted: a disk was cleaned, or given more room.

use super::trend::{median, number};

/// So many readings on either side tell the levels.
const SIDE: usize = 6;
/// A shift is so many times what levels usually differ by,
const SPREADS: f64 = 6.0;
/// and at least this part of the whole range.
const RANGE_PART_MIN: f64 = 0.02;
/// So many jumps upwards are the trend itself: it rises by stairs.
const STAIRS_MIN: usize = 3;
/// So many falls are a saw-tooth.
const TEETH_MIN: usize = 2;
/// Above the highest tooth by this part of one it is none any more: whatever brought it down has failed.
const ABOVE_TEETH: f64 = 0.1;
/// The median deviation of a normal distribution, times this, is its standard deviation.
const MEDIAN_DEVIATION: f64 = 1.4826;

/// A place at which the level changed, and by how much.
struct Shift {
    at: usize,
    height: f64,
}

/// The reading with which the trend that holds now began: the first after the last shift. `None` = it
/// is brought down again and again, and will be again before it is as high as it never was.
pub(super) fn begin_of_trend(readings: &[Option<f64>]) -> Option<usize> {
    let mut shifts = shifts(readings);
    if shifts.iter().filter(|it| it.height > 0.0).count() >= STAIRS_MIN {
        shifts.retain(|it| it.height < 0.0);
    }
    let falls: Vec<&Shift> = shifts.iter().filter(|it| it.height < 0.0).collect();
    if falls.len() >= TEETH_MIN {
        let before = |at: usize| level(readings.get(at.saturating_sub(SIDE)..at));
        let tops = falls.iter().filter_map(|it| before(it.at));
        let highest = tops.fold(f64::MIN, f64::max);
        let heights: Vec<f64> = falls.iter().map(|it| -it.height).collect();
        let now = before(readings.len()).unwrap_or(f64::MIN);
        if now < highest + ABOVE_TEETH * median(&heights) {
            return None;
        }
    }
    Some(shifts.last().map_or(0, |it| it.at))
}

/// All shifts, in order of time.
fn shifts(readings: &[Option<f64>]) -> Vec<Shift> {
    let mut steps: Vec<Shift> = Vec::new();
    for (begin, window) in readings.windows(2 * SIDE).enumerate() {
        if let (Some(before), Some(after)) = (level(window.get(..SIDE)), level(window.get(SIDE..)))
        {
            steps.push(Shift { at: begin + SIDE, height: after - before });
        }
    }
    let heights: Vec<f64> = steps.iter().map(|it| it.height).collect();
    let usual = median(&heights);
    let distances: Vec<f64> = heights.iter().map(|it| (it - usual).abs()).collect();
    let known = readings.iter().flatten();
    let lowest = known.clone().copied().fold(f64::MAX, f64::min);
    let highest = known.copied().fold(f64::MIN, f64::max);
    let spread = MEDIAN_DEVIATION * median(&distances);
    let least = (SPREADS * spread).max(RANGE_PART_MIN * (highest - lowest).max(0.0));
    let mut found: Vec<Shift> = Vec::new();
    for step in steps {
        let height = step.height - usual;
        if height.abs() <= least {
            continue;
        }
        // The windows around one shift all see it; the one that sees most is at its place.
        match found.last_mut() {
            Some(known)
                if step.at - known.at < 2 * SIDE && known.height.signum() == height.signum() =>
            {
                if height.abs() > known.height.abs() {
                    *known = Shift { at: step.at, height };
                }
            }
            _ => found.push(Shift { at: step.at, height }),
        }
    }
    found
}

/// The level of some readings, if at least half of them are there.
fn level(readings: Option<&[Option<f64>]>) -> Option<f64> {
    let known: Vec<f64> = readings?.iter().flatten().copied().collect();
    (number(known.len()) * 2.0 >= number(SIDE)).then(|| median(&known))
}
