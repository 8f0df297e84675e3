//! What to say of a group: its name, its rhythm, how sure it is, and why its members belong
//! together.

use super::clusters::{Cluster, Hosts, TokenCounts};
use super::features::{Corpus, Token, mask};
use super::rhythm::{self, Period, most};
use super::vectors::number;
use crate::domain::incident::Incident;
use crate::domain::problem::Recurrence;
use jiff::{SignedDuration, Timestamp};
use std::cmp::Reverse;

/// How many shared traits are told.
const TRAITS_MAX: usize = 3;
/// How many services a title names.
const SERVICES_MAX: usize = 3;

/// Describes a group; `None` when it did not come back often enough.
pub(super) fn recurrence(
    (corpus, everywhere): (&Corpus<'_>, &TokenCounts<'_>),
    cluster: &Cluster,
    occurrences_min: usize,
    now: Timestamp,
) -> Option<Recurrence> {
    let mut members: Vec<&Incident> = cluster
        .signatures
        .iter()
        .filter_map(|it| corpus.signatures.get(*it))
        .flat_map(|it| cluster.members(it))
        .collect();
    members.sort_by_key(|it| (it.opened_at, it.id));
    let times: Vec<_> = members.iter().map(|it| it.opened_at).collect();
    let spans: Vec<_> =
        members.iter().map(|it| (it.opened_at, it.resolved_at.or(it.closed_at))).collect();
    let occurrences = rhythm::occurrences(&spans);
    if occurrences.len() < occurrences_min {
        return None;
    }
    let (first_seen, last_seen) = (*times.first()?, *times.last()?);
    let period = rhythm::period(&occurrences);
    let mut why = shared_traits((corpus, everywhere), cluster, members.len());
    if let Hosts::Only(host) = &cluster.hosts {
        why.push(format!("all {} are on {host}, which has far more than its share", members.len()));
    }
    let span = rhythm::in_words(last_seen.duration_since(first_seen).as_secs());
    why.push(format!(
        "{} incidents at {} different times within {span}",
        members.len(),
        occurrences.len()
    ));
    why.extend(rhythm::preference(&occurrences));
    why.extend(period.as_ref().map(describe));
    Some(Recurrence {
        title: title(&members, &cluster.hosts),
        incidents: members.iter().map(|it| it.id).collect(),
        first_seen,
        last_seen,
        period_seconds: period.and_then(|it| u64::try_from(it.seconds).ok()),
        next_expected_at: period.and_then(|it| next_expected(*occurrences.last()?, it, now)),
        confidence: confidence(cluster, occurrences.len()),
        why,
    })
}

/// The most common alert name and the services that most members share; without alert names the
/// most common title.
fn title(members: &[&Incident], hosts: &Hosts) -> String {
    let alertname =
        most(members.iter().filter_map(|it| Some(it.labels.get("alertname")?.to_owned())));
    let name = match alertname {
        Some((name, count)) if count * 2 >= members.len() => name,
        _ => most(members.iter().map(|it| mask(&it.title))).unwrap_or_default().0,
    };
    let mut counts = std::collections::BTreeMap::new();
    for service in members.iter().flat_map(|it| &it.services) {
        *counts.entry(service.as_str()).or_insert(0_usize) += 1;
    }
    let mut services: Vec<_> =
        counts.into_iter().filter(|(_, count)| count * 2 >= members.len()).collect();
    services.sort_by_key(|(_, count)| Reverse(*count));
    services.truncate(SERVICES_MAX);
    let mut places: Vec<_> =
        services.into_iter().map(|(name, _)| name).filter(|it| !name.contains(it)).collect();
    if let Hosts::Only(host) = hosts {
        places.push(host);
    }
    if places.is_empty() { name } else { format!("{name} on {}", places.join(", ")) }
}

/// The traits that most members have and most others have not, with figures.
fn shared_traits(
    (corpus, everywhere): (&Corpus<'_>, &TokenCounts<'_>),
    cluster: &Cluster,
    size: usize,
) -> Vec<String> {
    let mut inside = std::collections::BTreeMap::new();
    for signature in cluster.signatures.iter().filter_map(|it| corpus.signatures.get(*it)) {
        let members = cluster.members(signature).count();
        for token in &signature.tokens {
            *inside.entry(token).or_default() += members;
        }
    }
    let others = corpus.incident_count().saturating_sub(size);
    let percent_elsewhere = |token: &Token, count: usize| {
        let elsewhere = everywhere.get(token).copied().unwrap_or_default().saturating_sub(count);
        (elsewhere * 100).div_ceil(others.max(1))
    };
    let mut traits: Vec<_> = inside
        .iter()
        .map(|(token, count)| (*token, *count, percent_elsewhere(token, *count)))
        .filter(|(_, count, elsewhere)| count * 100 >= size * elsewhere.saturating_add(20).max(60))
        .collect();
    // Labels before words, since they are what people search by; then the most telling first.
    traits.sort_by_key(|(token, count, elsewhere)| {
        let lead = (count * 100 / size.max(1)).saturating_sub(*elsewhere);
        (matches!(token, Token::Word(_)), Reverse(lead), *token)
    });
    let figures = |(token, count, elsewhere): (&Token, usize, usize)| {
        let rest = if others > 0 { format!(" ({elsewhere} % elsewhere)") } else { String::new() };
        format!("{count} of {size} incidents have {token}{rest}")
    };
    traits.into_iter().take(TRAITS_MAX).map(figures).collect()
}

fn describe(period: &Period) -> String {
    format!(
        "it comes about every {} (median of {} gaps, deviation {})",
        rhythm::in_words(period.seconds),
        period.gaps,
        rhythm::in_words(period.spread_seconds)
    )
}

/// One period after the last; `None` when that is more than a period ago, because then the rhythm
/// has ended.
fn next_expected(last: Timestamp, period: Period, now: Timestamp) -> Option<Timestamp> {
    let period = SignedDuration::from_secs(period.seconds);
    let next = last.checked_add(period).ok()?;
    (now <= next.checked_add(period).ok()?).then_some(next)
}

/// Half for how alike the members are, three tenths for how far the rest is, two tenths for how
/// often it came back.
fn confidence(cluster: &Cluster, occurrences: usize) -> u16 {
    let often = number(occurrences) / (number(occurrences) + 3.0);
    let sum = 500.0 * cluster.cohesion + 300.0 * cluster.separation + 200.0 * often;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped")]
    let rounded = sum.round().clamp(0.0, 1000.0) as u16;
    rounded
}
