//! Where a series goes: a robust slope without its season, and how wrong it may be.

use super::shift;

/// The fewest readings that show a trend.
const READINGS_MIN: usize = 24;
/// So many of the newest readings tell where it stands now.
const NEWEST: usize = 6;
/// Of so many the median is the value now.
const NOW: usize = 3;
/// The half width of the interval, in standard errors: 1.645 would hold nine in ten if nothing but the
/// noise were unknown.
const WIDTH: f64 = 1.9;
/// The median deviation of a normal distribution, times this, is its standard deviation.
const MEDIAN_DEVIATION: f64 = 1.4826;
/// The variance of the median of so many readings that are independent, as a part of theirs.
const MEDIAN_VARIANCE: f64 = 0.26;
/// Noise that follows itself more closely than this counts as wandering.
const FOLLOWING_MAX: f64 = 0.95;
/// A trend must not be cut off by what came in this last part of it.
const LAST_PART: usize = 8;
/// What was foretold is foretold on with an interval that is this much wider, and as much later.
const HELD_WIDER: f64 = 1.5;

/// A series on an even grid, oldest first; `None` = there is no reading. It rises towards its limit.
pub(super) struct Series<'a> {
    /// The readings.
    pub(super) readings: &'a [Option<f64>],
    /// What is full.
    pub(super) limit: f64,
    /// After how many readings a season begins anew.
    pub(super) season: Option<usize>,
    /// How far ahead people want to know, in readings.
    pub(super) horizon: f64,
    /// Whether people know already: then it takes more to take it back.
    pub(super) is_held: bool,
}

/// What is to be said of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Finding {
    /// It is full.
    Reached,
    /// It will be.
    Foreseen(Crossing),
    /// There are too few readings, or too few since the level shifted.
    TooFew,
    /// The newest readings are missing.
    Stale,
    /// It rises and is brought down again and again.
    SawTooth,
    /// It does not rise, as far as its noise lets one tell.
    NoTrend,
    /// It rises, but when it will be full is not to be told.
    Unsure,
    /// It will be full later than people want to know, or than can be told from so short a history.
    Later,
}

/// When it will be full, in readings from the last one on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Crossing {
    /// Most likely.
    pub(super) middle: f64,
    /// Nine in ten times not before this,
    pub(super) from: f64,
    /// and not after this.
    pub(super) until: f64,
    /// How much it rises from reading to reading.
    pub(super) slope: f64,
    /// From how many readings this is.
    pub(super) readings: usize,
}

/// Looks where a series goes.
pub(super) fn look(series: &Series<'_>) -> Finding {
    let all = series.readings;
    let newest: Vec<f64> = all.iter().rev().flatten().take(NOW).copied().collect();
    if all.iter().rev().take(NEWEST).all(Option::is_none) {
        return Finding::Stale;
    }
    if median(&newest) >= series.limit {
        return Finding::Reached;
    }
    let Some(season) = Season::of(all, series.season) else { return Finding::TooFew };
    let plain: Vec<Option<f64>> =
        all.iter().enumerate().map(|(at, it)| it.map(|it| it - season.at(at))).collect();
    let Some(begin) = shift::begin_of_trend(&plain) else { return Finding::SawTooth };
    let Some(trend) = Trend::of(&plain, begin) else { return Finding::TooFew };
    if trend.slope <= WIDTH * trend.slope_variance.sqrt() || trend.has_stopped() {
        return Finding::NoTrend;
    }
    trend.crossing(series, &season)
}

/// What comes again and again, by its place in the period.
struct Season(Vec<f64>);

impl Season {
    /// The medians of what the readings are above the median of the period around them: neither a
    /// trend nor a shift of the level goes into that. `None` = there are not two whole periods.
    fn of(all: &[Option<f64>], period: Option<usize>) -> Option<Self> {
        let Some(period) = period.filter(|it| *it > 1) else { return Some(Self(vec![0.0])) };
        let mut above: Vec<Vec<f64>> = vec![Vec::new(); period];
        for (begin, window) in all.windows(period).enumerate() {
            let around: Vec<f64> = window.iter().flatten().copied().collect();
            let at = begin + period / 2;
            let reading = all.get(at).copied().flatten();
            if let (Some(reading), Some(above)) = (reading, above.get_mut(at % period))
                && around.len() * 2 >= period
            {
                above.push(reading - median(&around));
            }
        }
        let is_known = above.iter().all(|it| it.len() >= 2);
        is_known.then(|| Self(above.iter().map(|it| median(it)).collect()))
    }

    fn at(&self, reading: usize) -> f64 {
        self.0.get(reading % self.0.len().max(1)).copied().unwrap_or_default()
    }
}

/// A line through the readings since the level last shifted.
struct Trend {
    slope: f64,
    slope_variance: f64,
    /// From the first of its readings to the last.
    span: f64,
    /// What the newest readings are above a line through nothing.
    anchor: f64,
    /// What each reading is above the line.
    rest: Vec<f64>,
    noise: Noise,
}

impl Trend {
    /// The slope is the median of those of all pairs (Theil 1950, Sen 1968).
    fn of(plain: &[Option<f64>], begin: usize) -> Option<Self> {
        let points = plain.iter().enumerate().skip(begin);
        let points: Vec<(f64, f64)> =
            points.filter_map(|(at, it)| Some((number(at), (*it)?))).collect();
        let span = points.last()?.0 - points.first()?.0;
        let is_dense = number(points.len()) * 2.0 > span;
        if points.len() < READINGS_MIN || !is_dense {
            return None;
        }
        let slope = theil_sen(&points);
        let levels: Vec<f64> = points.iter().map(|(at, it)| it - slope * at).collect();
        let level = median(&levels);
        let anchor = median(levels.get(levels.len() - NEWEST..)?);
        let rest: Vec<f64> = levels.iter().map(|it| it - level).collect();
        let noise = Noise::of(&rest, span);
        let slope_variance = noise.slope_variance(number(points.len()), span);
        Some(Self { slope, slope_variance, span, anchor, rest, noise })
    }

    /// Whether its last part has fallen behind the line, by more than noise explains.
    fn has_stopped(&self) -> bool {
        let part = self.rest.len() / LAST_PART;
        let (Some(then), Some(now)) = (
            self.rest
                .len()
                .checked_sub(part + NEWEST)
                .and_then(|it| self.rest.get(it..it + NEWEST)),
            self.rest.get(self.rest.len() - NEWEST..),
        ) else {
            return false;
        };
        let apart = self.span * number(part) / number(self.rest.len());
        let variance = 2.0 * self.noise.of_newest() + self.noise.wander * apart;
        median(now) - median(then) < -WIDTH * variance.sqrt()
    }

    /// When the line, with the season on it, reaches the limit, and between which times it does
    /// with all that is unknown: the noise, where it wanders, and the slope itself.
    fn crossing(&self, series: &Series<'_>, season: &Season) -> Finding {
        let last = series.readings.len().saturating_sub(1);
        let base = self.anchor + self.slope * number(last);
        let wider = if series.is_held { HELD_WIDER } else { 1.0 };
        let far = series.horizon.min(self.span) * wider;
        let (mut from, mut middle, mut until) = (None, None, None);
        let mut ahead = 0;
        while until.is_none() && number(ahead) <= 3.0 * far {
            let lead = number(ahead);
            let line = base + self.slope * lead + season.at(last + ahead);
            let variance = self.noise.of_newest()
                + self.noise.wander * lead
                + lead * lead * self.slope_variance;
            let error = WIDTH * variance.sqrt();
            for (bound, when) in [(error, &mut from), (0.0, &mut middle), (-error, &mut until)] {
                if when.is_none() && line + bound >= series.limit {
                    *when = Some(lead);
                }
            }
            ahead += 1;
        }
        let Some((from, middle)) = from.zip(middle).filter(|(_, it)| *it <= far) else {
            return Finding::Later;
        };
        let width_max = middle.max(series.horizon / 8.0) * wider;
        let Some(until) = until.filter(|it| it - from <= width_max) else {
            return Finding::Unsure;
        };
        let (slope, readings) = (self.slope, self.rest.len());
        Finding::Foreseen(Crossing { middle, from, until, slope, readings })
    }
}

/// How readings lie around their line.
struct Noise {
    /// The variance of what goes and comes back.
    still: f64,
    /// How much the variance grows from reading to reading, of what goes and stays away.
    wander: f64,
    /// How closely what comes back follows itself, 0 to 1.
    following: f64,
}

impl Noise {
    /// Differences over a short and over a longer time tell the two apart: of noise that comes back
    /// they are the same, of what wanders the squares grow with the time (a variogram; medians, so
    /// that a spike does no harm).
    fn of(rest: &[f64], span: f64) -> Self {
        let count = rest.len();
        let distances: Vec<f64> = rest.iter().map(|it| it.abs()).collect();
        let scale = MEDIAN_DEVIATION * median(&distances);
        let step = span / number(count.max(2) - 1);
        let square = |apart: usize| {
            let pairs = rest.iter().zip(rest.iter().skip(apart));
            let differences: Vec<f64> = pairs.map(|(a, b)| (b - a).abs()).collect();
            ((MEDIAN_DEVIATION * median(&differences)).powi(2), number(apart) * step)
        };
        let (short, near) = square((count / 16).max(1));
        let (long, far) = square((count / 6).max(2));
        let wander = ((long - short) / (far - near)).max(0.0);
        let still = ((short - wander * near) / 2.0).max(0.0);
        let still = if wander > 0.0 { still } else { still.max(scale * scale) };
        let cut = |it: &f64| it.clamp(-3.0 * scale, 3.0 * scale);
        let pairs = rest.iter().zip(rest.iter().skip(1));
        let with_next: f64 = pairs.map(|(a, b)| cut(a) * cut(b)).sum();
        let with_itself: f64 = rest.iter().skip(1).map(|it| cut(it).powi(2)).sum();
        // A short series looks as if it followed itself less than it does (Kendall 1954).
        let bias = 4.0 / number(count.max(1));
        let following = if with_itself > 0.0 { with_next / with_itself + bias } else { 0.0 };
        Self { still, wander, following: following.clamp(0.0, FOLLOWING_MAX) }
    }

    /// By how much fewer readings would tell as much if they were independent.
    fn repetition(&self) -> f64 {
        (1.0 + self.following) / (1.0 - self.following)
    }

    /// The variance of the median of the newest readings.
    fn of_newest(&self) -> f64 {
        self.still * (MEDIAN_VARIANCE * self.repetition()).min(1.0)
    }

    /// The variance of a slope over so many readings: that of a line through noise, and that of a line
    /// through a random walk (Nelson and Kang 1984: 6/5 of the variance of a step, over the span).
    fn slope_variance(&self, count: f64, span: f64) -> f64 {
        12.0 * self.still * self.repetition() / (count * span * span) + 1.2 * self.wander / span
    }
}

fn theil_sen(points: &[(f64, f64)]) -> f64 {
    let pairs = points.len() * points.len().saturating_sub(1) / 2;
    let mut slopes = Vec::with_capacity(pairs);
    for (index, (at, value)) in points.iter().enumerate() {
        let later = points.iter().skip(index + 1);
        slopes.extend(later.map(|(other_at, other)| (other - value) / (other_at - at)));
    }
    median(&slopes)
}

/// The median; the upper of the two in the middle. 0 where there is nothing.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[expect(clippy::cast_precision_loss, reason = "series are short")]
pub(super) fn number(count: usize) -> f64 {
    count as f64
}
