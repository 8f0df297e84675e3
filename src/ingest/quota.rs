//! How many bodies a declared source may send: a bucket that fills up again in time.

use crate::domain::source::Quota;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What each source has used of its quota.
#[derive(Default)]
pub(super) struct Quotas {
    buckets: Mutex<BTreeMap<String, Bucket>>,
}

struct Bucket {
    quota: Quota,
    /// What is in it, in millionths of a body.
    level: u64,
    filled_at: Instant,
}

/// A body, in the unit of levels.
const ONE: u64 = 1_000_000;

impl Quotas {
    /// Takes one body out of a source's bucket. Fails with how long to wait, at least a second.
    pub(super) fn take(&self, source: &str, quota: Quota, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full = u64::from(quota.count) * ONE;
        let bucket = buckets.entry(source.to_owned()).or_insert_with(|| Bucket {
            quota,
            level: full,
            filled_at: now,
        });
        if bucket.quota != quota {
            *bucket = Bucket { quota, level: full, filled_at: now };
        }
        let period = Duration::from_secs(u64::from(quota.per_seconds.max(1))).as_micros();
        let passed = now.saturating_duration_since(bucket.filled_at).as_micros();
        let more = u64::try_from(u128::from(full) * passed / period).unwrap_or(full);
        bucket.level = bucket.level.saturating_add(more).min(full);
        bucket.filled_at = now;
        if let Some(rest) = bucket.level.checked_sub(ONE) {
            bucket.level = rest;
            return Ok(());
        }
        let missing = u128::from(ONE - bucket.level);
        let micros = (missing * period).div_ceil(u128::from(full.max(1)));
        let wait = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        Err(wait.max(Duration::from_secs(1)))
    }
}

/// A wait in seconds, rounded up, as `Retry-After` has it.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let quotas = Quotas::default();
        let quota = Quota { count: 2, per_seconds: 60 };
        let start = Instant::now();
        let take = |name, seconds| {
            let at = start + Duration::from_secs(seconds);
            quotas.take(name, quota, at).map_err(|wait| wait.as_secs())
        };
        assert_eq!(take("a", 0), Ok(()));
        assert_eq!(take("a", 0), Ok(()));
        assert_eq!(take("a", 0), Err(30));
        assert_eq!(take("b", 0), Ok(()), "sources do not share");
        assert_eq!(take("a", 20), Err(10));
        assert_eq!(take("a", 31), Ok(()));
        assert!(take("a", 31).is_err());
        assert_eq!(take("a", 1000), Ok(()));
        assert_eq!(take("a", 1000), Ok(()), "it holds no more than its count");
        assert!(take("a", 1000).is_err());
    }
}
