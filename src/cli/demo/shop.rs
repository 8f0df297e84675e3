//! The shop's day: which alerts fire when. A pure function of the seed.

use crate::domain::label::Labels;

/// The length of the day, in seconds.
pub const DAY_SECONDS: u32 = 24 * HOUR;

const MINUTE: u32 = 60;
const HOUR: u32 = 60 * MINUTE;

/// The services that the storm takes along, with the number of pods of each.
const VICTIMS: [(&str, u32); 7] = [
    ("checkout", 8),
    ("orders", 6),
    ("payments", 5),
    ("inventory", 4),
    ("shipping", 4),
    ("accounts", 6),
    ("web", 12),
];

/// Small things that happen once: alert, service, severity.
const NOISE: [(&str, &str, &str); 14] = [
    ("CertificateExpiresSoon", "web", "warning"),
    ("NodeClockSkew", "search", "warning"),
    ("CacheMissesHigh", "catalog", "info"),
    ("PodRestartedOften", "recommendations", "warning"),
    ("SearchIndexStale", "search", "warning"),
    ("MemoryPressure", "catalog", "error"),
    ("DnsLookupSlow", "accounts", "info"),
    ("BackupTookLong", "inventory", "warning"),
    ("LoginFailuresHigh", "accounts", "error"),
    ("CpuThrottled", "recommendations", "info"),
    ("ImagePullSlow", "shipping", "info"),
    ("LogVolumeHigh", "orders", "warning"),
    ("ConnectionPoolLow", "inventory", "error"),
    ("CdnErrorsHigh", "web", "critical"),
];

/// One alert of the day. Times are seconds since the day began.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedAlert {
    /// Its identity.
    pub labels: Labels,
    /// Texts about it.
    pub annotations: Labels,
    /// When it begins to fire.
    pub starts_at_seconds: u32,
    /// When it ends if nobody does anything.
    pub ends_at_seconds: u32,
    /// What ends it earlier, for example `consumers/mailer`.
    pub cure: Option<String>,
}

/// The alerts of a day, in the order in which they begin.
pub fn plan(seed: u64) -> Vec<PlannedAlert> {
    let mut dice = Dice(seed);
    let mut day = Vec::new();
    for batch in 0..8 {
        payment_gateway_times_out(&mut dice, (1 + 3 * batch) * HOUR + 5 * MINUTE, &mut day);
    }
    for round in 0..6 {
        day.push(disk_fills(&mut dice, round * 4 * HOUR + 40 * MINUTE));
    }
    for round in 0..7 {
        day.push(consumer_hangs(&mut dice, round * (3 * HOUR + 20 * MINUTE) + 20 * MINUTE));
    }
    database_goes_down(&mut dice, 14 * HOUR, &mut day);
    for noise in NOISE {
        day.push(something_small(&mut dice, noise));
    }
    for night in [2 * HOUR, 3 * HOUR] {
        day.push(backup_is_busy(night));
    }
    day.sort_by_key(|it| it.starts_at_seconds);
    day
}

/// After each batch the payment gateway is slow for some pods, whose names change with each roll-out.
fn payment_gateway_times_out(dice: &mut Dice, batch: u32, day: &mut Vec<PlannedAlert>) {
    let begins = batch + dice.below(8 * MINUTE);
    for _ in 0..2 + dice.below(2) {
        let pod = pod(dice, "payments");
        let starts_at_seconds = begins + dice.below(3 * MINUTE);
        let milliseconds = 2_000 + dice.below(3_000);
        day.push(PlannedAlert {
            labels: labels("PaymentGatewayTimeout", "payments", "error", ("pod", &pod)),
            annotations: summary(&format!("gateway calls of {pod} take {milliseconds} ms")),
            starts_at_seconds,
            ends_at_seconds: begins + 38 * MINUTE + dice.below(4 * MINUTE),
            cure: None,
        });
    }
}

/// A disk of the orders database fills until a nightly-style clean-up, or until it is made larger.
fn disk_fills(dice: &mut Dice, begins: u32) -> PlannedAlert {
    let volume = format!("orders-db-{}", 1 + dice.below(3));
    let instance = format!("{volume}:9100");
    let device = format!("/dev/sd{}", dice.pick(&["b", "c", "d", "e"]));
    let free = 2 + dice.below(8);
    let starts_at_seconds = begins + dice.below(10 * MINUTE);
    let base = labels("DiskSpaceLow", "orders-db", "warning", ("instance", &instance));
    PlannedAlert {
        labels: with(&base, &[("device", &device), ("volume", &volume)]),
        annotations: summary(&format!("{device} of {volume} has {free} % left")),
        starts_at_seconds,
        ends_at_seconds: starts_at_seconds + 100 * MINUTE,
        cure: Some(format!("volumes/{volume}")),
    }
}

/// The consumer of the mail queue hangs until it is restarted.
fn consumer_hangs(dice: &mut Dice, begins: u32) -> PlannedAlert {
    let pod = pod(dice, "mailer");
    let waiting = 1_000 + dice.below(90_000);
    let starts_at_seconds = begins + dice.below(9 * MINUTE);
    let base = labels("QueueConsumerStuck", "mailer", "error", ("pod", &pod));
    PlannedAlert {
        labels: with(&base, &[("consumer", "mailer")]),
        annotations: summary(&format!("{waiting} mails wait, and {pod} takes none")),
        starts_at_seconds,
        ends_at_seconds: starts_at_seconds + 75 * MINUTE,
        cure: Some("consumers/mailer".to_owned()),
    }
}

/// The storm: one database takes seven services along.
fn database_goes_down(dice: &mut Dice, begins: u32, day: &mut Vec<PlannedAlert>) {
    let instance = ("instance", "orders-db-1:5432");
    let is_back = begins + 75 * MINUTE;
    day.push(PlannedAlert {
        labels: labels("PostgresDown", "orders-db", "critical", instance),
        annotations: summary("the primary of orders-db does not answer"),
        starts_at_seconds: begins,
        ends_at_seconds: is_back,
        cure: None,
    });
    for (service, pods) in VICTIMS {
        for _ in 0..pods {
            let pod = pod(dice, service);
            for alertname in ["HighErrorRate", "HighLatency"] {
                day.push(PlannedAlert {
                    labels: labels(alertname, service, "critical", ("pod", &pod)),
                    annotations: summary(&format!("{alertname} on {pod}")),
                    starts_at_seconds: begins + MINUTE + dice.below(8 * MINUTE),
                    ends_at_seconds: is_back + dice.below(6 * MINUTE),
                    cure: None,
                });
            }
        }
    }
}

fn something_small(
    dice: &mut Dice,
    (alertname, service, severity): (&str, &str, &str),
) -> PlannedAlert {
    let host = format!("node-{:02}", 1 + dice.below(38));
    let starts_at_seconds = dice.below(DAY_SECONDS - 2 * HOUR);
    PlannedAlert {
        labels: labels(alertname, service, severity, ("instance", &host)),
        annotations: summary(&format!("{alertname} on {host}")),
        starts_at_seconds,
        ends_at_seconds: starts_at_seconds + 10 * MINUTE + dice.below(40 * MINUTE),
        cure: None,
    }
}

/// Known and of no interest: the rules silence it.
fn backup_is_busy(begins: u32) -> PlannedAlert {
    PlannedAlert {
        labels: labels("DiskIOSaturated", "backup", "warning", ("instance", "backup-3")),
        annotations: summary("the nightly backup writes"),
        starts_at_seconds: begins + 10 * MINUTE,
        ends_at_seconds: begins + 40 * MINUTE,
        cure: None,
    }
}

fn labels(alertname: &str, service: &str, severity: &str, place: (&str, &str)) -> Labels {
    let fixed = [("alertname", alertname), ("service", service), ("severity", severity)];
    Labels::from_pairs(fixed.into_iter().chain([("cluster", "shop"), ("env", "prod"), place]))
}

fn with(labels: &Labels, more: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(labels.iter().chain(more.iter().copied()))
}

fn summary(text: &str) -> Labels {
    Labels::from_pairs([("summary", text)])
}

/// A pod's name, with the untidy ends that Kubernetes gives it.
fn pod(dice: &mut Dice, service: &str) -> String {
    let (set, own) = (dice.next(), dice.next());
    format!("{service}-{:08x}-{:05x}", set >> 32, own >> 44)
}

/// Draws numbers: `SplitMix64` (Steele, Lea, Flood, 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to, not including, `end`.
    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() % u64::from(end.max(1))).unwrap_or_default()
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        let index = self.below(u32::try_from(choices.len()).unwrap_or(1));
        choices.get(index as usize).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const SEEDS: std::ops::Range<u64> = 0..200;

    #[test]
    fn the_same_seed_gives_the_same_day() {
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn every_alert_ends_within_the_day() {
        for seed in SEEDS {
            for alert in plan(seed) {
                assert!(alert.starts_at_seconds < alert.ends_at_seconds, "{seed} {alert:?}");
                assert!(alert.ends_at_seconds <= DAY_SECONDS, "{seed} {alert:?}");
            }
        }
    }

    #[test]
    fn one_series_never_overlaps_itself() {
        for seed in SEEDS {
            let mut last_end = BTreeMap::new();
            for alert in plan(seed) {
                let end = last_end.insert(alert.labels.fingerprint(), alert.ends_at_seconds);
                assert!(end.is_none_or(|it| it < alert.starts_at_seconds), "{seed} {alert:?}");
            }
        }
    }

    #[test]
    fn faults_recur_and_the_storm_takes_seven_services_along() {
        for seed in SEEDS {
            let day = plan(seed);
            let of = |alertname: &'static str| {
                day.iter().filter(move |it| it.labels.get("alertname") == Some(alertname))
            };
            assert_eq!(of("DiskSpaceLow").count(), 6);
            assert_eq!(of("QueueConsumerStuck").count(), 7);
            assert!((16..=24).contains(&of("PaymentGatewayTimeout").count()));
            assert!(of("QueueConsumerStuck").all(|it| it.cure.is_some()));
            let down = of("PostgresDown").next().unwrap();
            let storm: Vec<_> = of("HighErrorRate").chain(of("HighLatency")).collect();
            assert_eq!(storm.len(), 90);
            assert!(storm.iter().all(|it| it.starts_at_seconds > down.starts_at_seconds));
        }
    }

    #[test]
    fn occurrences_of_a_fault_are_well_apart() {
        for seed in SEEDS {
            for alertname in ["PaymentGatewayTimeout", "DiskSpaceLow", "QueueConsumerStuck"] {
                let mut end = 0;
                for alert in plan(seed) {
                    if alert.labels.get("alertname") != Some(alertname) {
                        continue;
                    }
                    let (starts, ends) = (alert.starts_at_seconds, alert.ends_at_seconds);
                    let apart = end == 0 || starts > end + HOUR;
                    let same = starts + 30 * MINUTE < end;
                    assert!(apart || same, "{seed} {alertname} {starts} after {end}");
                    end = end.max(ends);
                }
            }
        }
    }
}
