//! Small histories to order: faults that spread, a nightly fault, checks that come and go.

use serde_json::{Value, json};

/// 2026-03-02T00:00:00Z.
const START: i64 = 1_772_409_600;

/// Numbers that look random and are always the same (a linear congruential generator).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What is made.
#[derive(Clone, Copy)]
pub(crate) struct Storm {
    pub(crate) seed: u64,
    pub(crate) hours: i64,
    /// How often what fires is told again; `None` = once.
    pub(crate) resend_seconds: Option<i64>,
}

impl Default for Storm {
    fn default() -> Self {
        Self { seed: 1, hours: 6, resend_seconds: None }
    }
}

/// An alert that fires from one second to another.
struct Firing {
    labels: Value,
    from: i64,
    to: i64,
}

/// A time as histories tell it.
pub(crate) fn time(second: i64) -> String {
    jiff::Timestamp::from_second(START + second).unwrap().to_string()
}

/// A line: it fires.
pub(crate) fn line(at: i64, labels: &Value) -> String {
    resent(at, labels, at)
}

fn resent(at: i64, labels: &Value, from: i64) -> String {
    let alert = json!({"labels": labels, "annotations": {}, "startsAt": time(from)});
    json!({"ts": time(at), "source": "prometheus", "alert": alert}).to_string()
}

/// A line: it is over.
pub(crate) fn over(at: i64, labels: &Value, from: i64) -> String {
    let alert = json!({"labels": labels, "startsAt": time(from), "endsAt": time(at)});
    json!({"ts": time(at), "source": "prometheus", "alert": alert}).to_string()
}

impl Storm {
    /// No two words fall into the same second, and a series that fires does not begin.
    fn firings(&self) -> Vec<Firing> {
        let mut dice = Dice(self.seed);
        let mut firings: Vec<Firing> = Vec::new();
        let mut add = |name: &str, service: u64, from: i64, lasts: i64| {
            let service = format!("service-{service}");
            let labels = json!({"alertname": name, "service": service, "severity": "critical"});
            let to = from + lasts;
            let is_free = firings.iter().all(|it| {
                let moments = [it.from, it.to];
                let fires = it.labels == labels && it.from <= to && from <= it.to;
                !moments.contains(&from) && !moments.contains(&to) && !fires
            });
            if is_free && to < self.hours * 3600 {
                firings.push(Firing { labels, from, to });
            }
        };
        for _ in 0..self.hours * 2 {
            let at = i64::try_from(dice.roll(3600 * u64::try_from(self.hours).unwrap())).unwrap();
            let (service, names) = (dice.roll(20), ["Down", "Slow", "Errors", "Backlog"]);
            for name in names.iter().take(1 + usize::try_from(dice.roll(4)).unwrap()) {
                let delay = i64::try_from(dice.roll(120)).unwrap();
                add(name, service, at + delay, 300 + i64::try_from(dice.roll(900)).unwrap());
            }
        }
        for hours in (0..self.hours).step_by(6) {
            add("BackupFailed", 99, hours * 3600 + 777, 600);
        }
        for turn in 0..12 {
            add("Probe", 50, 5000 + turn * 90, 30);
        }
        firings.sort_by_key(|it| it.from);
        firings
    }

    /// The lines, in order of time.
    pub(crate) fn events(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for it in self.firings() {
            let again = self.resend_seconds.unwrap_or(i64::MAX);
            let mut at = it.from;
            while at < it.to {
                lines.push((at, resent(at, &it.labels, it.from)));
                at = at.saturating_add(again);
            }
            lines.push((it.to, over(it.to, &it.labels, it.from)));
        }
        // By time and then by text, so that the order of equal times is one thing.
        lines.sort();
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// The labels and starts of what begins to fire, in order.
    pub(crate) fn beginnings(&self) -> Vec<(Value, String)> {
        self.firings().into_iter().map(|it| (it.labels, time(it.from))).collect()
    }
}

/// So many lines of 4,000 series that come, are told again, and go.
pub(crate) fn many(count: usize) -> Vec<String> {
    const SERIES: usize = 4000;
    let mut dice = Dice(7);
    let mut since: Vec<Option<i64>> = vec![None; SERIES];
    let name = |number: usize| ["Down", "Slow", "Errors", "Backlog"][number % 4];
    let event = |number: usize| {
        let (index, at) = (number % SERIES, i64::try_from(number).unwrap());
        let labels = json!({
            "alertname": name(index), "service": format!("service-{}", index % 200),
            "instance": format!("host-{}:9100", index / 4), "severity": "warning",
        });
        match since[index] {
            Some(from) if dice.roll(3) == 0 => resent(at, &labels, from),
            Some(from) => {
                since[index] = None;
                over(at, &labels, from)
            }
            None => {
                since[index] = Some(at);
                line(at, &labels)
            }
        }
    };
    (0..count).map(event).collect()
}
