//! Which alerts come to a route of a tree: alternatives of matchers that all hold.
//!
//! In a tree the first branch that fits takes an alert, here every route that fits does. So each route
//! says itself that no branch before it fits.

use crate::domain::matcher::{Matcher, Operator};

/// More alternatives than this are not worked out.
const ALTERNATIVES_MAX: usize = 64;
/// And no alternatives with more matchers than this.
const ALTERNATIVE_MATCHERS_MAX: usize = 1024;

/// Alternatives, no two of which hold for one alert; none = no alert.
#[derive(Clone, Debug)]
pub(super) struct Condition(pub(super) Vec<Vec<Matcher>>);

impl Condition {
    /// Every alert.
    pub(super) fn always() -> Self {
        Self(vec![Vec::new()])
    }

    /// What fulfils this and all of some matchers.
    pub(super) fn and(&self, all: &[Matcher]) -> Self {
        Self(self.0.iter().filter_map(|it| join(it, all)).collect())
    }

    /// What fulfils this and not all of some matchers. `None` = there are too many alternatives.
    pub(super) fn without(&self, all: &[Matcher]) -> Option<Self> {
        let opposites: Vec<Matcher> = all.iter().map(opposite).collect::<Option<_>>()?;
        let mut rest = Vec::new();
        for alternative in &self.0 {
            if join(alternative, all).is_none() {
                rest.push(alternative.clone());
                continue;
            }
            // The first matcher fails, or it holds and the second fails, and so on.
            let mut before = alternative.clone();
            for (matcher, opposite) in all.iter().zip(&opposites) {
                rest.extend(join(&before, std::slice::from_ref(opposite)));
                match join(&before, std::slice::from_ref(matcher)) {
                    Some(it) => before = it,
                    None => break,
                }
            }
        }
        let is_small = rest.len() <= ALTERNATIVES_MAX
            && rest.iter().all(|it| it.len() <= ALTERNATIVE_MATCHERS_MAX);
        is_small.then_some(Self(rest))
    }
}

fn opposite(matcher: &Matcher) -> Option<Matcher> {
    Matcher::new(matcher.name(), opposite_of(matcher.operator()), matcher.value()).ok()
}

fn opposite_of(operator: Operator) -> Operator {
    match operator {
        Operator::Equal => Operator::NotEqual,
        Operator::NotEqual => Operator::Equal,
        Operator::Matches => Operator::NotMatches,
        Operator::NotMatches => Operator::Matches,
    }
}

/// Adds matchers to others; `None` = no alert can fulfil all of them. What follows from the others is
/// left out.
fn join(alternative: &[Matcher], more: &[Matcher]) -> Option<Vec<Matcher>> {
    let mut joined = alternative.to_vec();
    for matcher in more {
        if joined.contains(matcher) {
            continue;
        }
        let is_about = |it: &Matcher| it.name() == matcher.name();
        let is_opposite = |it: &Matcher| {
            let operator = opposite_of(matcher.operator());
            is_about(it) && it.operator() == operator && it.value() == matcher.value()
        };
        if joined.iter().any(is_opposite) {
            return None;
        }
        let equal = |it: &Matcher| it.operator() == Operator::Equal;
        if let Some(known) = joined.iter().find(|it| is_about(it) && equal(it)) {
            if !matcher.matches_value(known.value()) {
                return None;
            }
            continue;
        }
        if equal(matcher) {
            if joined.iter().any(|it| is_about(it) && !it.matches_value(matcher.value())) {
                return None;
            }
            joined.retain(|it| !is_about(it));
        }
        joined.push(matcher.clone());
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::label::Labels;
    use crate::domain::matcher::Matchers;
    use proptest::prelude::*;

    fn matchers() -> impl Strategy<Value = Vec<Matcher>> {
        let names = proptest::sample::select(vec!["a", "b"]);
        let signs = proptest::sample::select(vec!["=", "!=", "=~", "!~"]);
        let values = proptest::sample::select(vec!["", "x", "y", "x|y"]);
        let matcher = (names, signs, values)
            .prop_map(|(name, sign, value)| format!("{name}{sign}\"{value}\"").parse().unwrap());
        proptest::collection::vec(matcher, 0..3)
    }

    proptest! {
        /// Each alert is in exactly one alternative of what it fulfils.
        #[test]
        fn alternatives_are_exact_and_apart(
            first in matchers(), without in proptest::collection::vec(matchers(), 0..4),
        ) {
            let mut condition = Condition::always().and(&first);
            for it in &without {
                condition = condition.without(it).unwrap();
            }
            for a in ["", "x", "y", "z"] {
                for b in ["", "x", "y", "z"] {
                    let labels = Labels::from_pairs([("a", a), ("b", b)]);
                    let all = |it: &[Matcher]| Matchers(it.to_vec()).matches(&labels);
                    let expected = all(&first) && !without.iter().any(|it| all(it));
                    let found = condition.0.iter().filter(|it| all(it)).count();
                    prop_assert_eq!(found, usize::from(expected), "{:?} of {:?}", labels, condition);
                }
            }
        }
    }
}
