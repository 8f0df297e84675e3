//! Reads a query with repeated keys, and Alertmanager's booleans and filters in it.

use crate::domain::matcher::Matcher;

/// The most filters that one query may have.
const FILTERS_MAX: usize = 64;

/// The pairs of a query, decoded, in order.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what stands after the `?`. Bad escapes stay as they are.
    pub(super) fn parse(text: Option<&str>) -> Self {
        let pairs = text.unwrap_or_default().split('&').filter(|it| !it.is_empty());
        Self(
            pairs
                .map(|it| it.split_once('=').unwrap_or((it, "")))
                .map(|(key, value)| (decode(key), decode(value)))
                .collect(),
        )
    }

    /// The last value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|it| it.0 == key).map(|it| &*it.1)
    }

    /// A boolean as Alertmanager reads it: true when absent, false when it is no word for true.
    pub(super) fn flag(&self, key: &str) -> bool {
        const WORDS: [&str; 10] =
            ["true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled"];
        self.get(key)
            .is_none_or(|it| it.is_empty() || WORDS.contains(&it.to_ascii_lowercase().as_str()))
    }

    /// All `filter`s. Fails on the first that is no matcher.
    pub(super) fn filters(&self) -> Result<Vec<Matcher>, String> {
        self.matchers("filter")
    }

    /// Whether no `receiver_matchers` ask for labels of receivers: ours have none, so that those
    /// are taken of which a matcher asks that a label is absent. Fails on the first that is none.
    pub(super) fn takes_unlabelled_receivers(&self) -> Result<bool, String> {
        let matchers = self.matchers("receiver_matchers");
        let matchers =
            matchers.map_err(|it| format!("failed to parse receiver_matchers param: {it}"))?;
        Ok(matchers.iter().all(|it| it.matches_value("")))
    }

    fn matchers(&self, key: &str) -> Result<Vec<Matcher>, String> {
        let filters: Vec<_> = self.0.iter().filter(|it| it.0 == key).collect();
        if filters.len() > FILTERS_MAX {
            return Err(format!("more than {FILTERS_MAX} filters"));
        }
        let parse = |text: &str| {
            text.parse().map_err(|error| format!("bad matcher format: {text}: {error}"))
        };
        filters.into_iter().map(|it| parse(&it.1)).collect()
    }
}

/// Decodes `%41` and `+`; what is no UTF-8 then is replaced.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        let digits = digits.filter(|it| it.bytes().all(|it| it.is_ascii_hexdigit()));
        match (first, digits.and_then(|it| u8::from_str_radix(it, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(other),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded() {
        for (text, expected) in [
            ("a%3D%22b%22", "a=\"b\""),
            ("a+b%2Bc", "a b+c"),
            ("%C3%A4", "ä"),
            ("%", "%"),
            ("%4", "%4"),
            ("%+1", "% 1"),
            ("%zz%41", "%zzA"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(decode(text), expected, "{text}");
        }
    }

    #[test]
    fn keys_may_repeat_and_booleans_are_alertmanagers() {
        let query = Query::parse(Some("filter=a%3Db&active=0&silenced=TRUE&x&filter=c!=d&y=maybe"));
        let filters: Vec<_> = query.filters().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(filters, ["a=\"b\"", "c!=\"d\""]);
        for (key, expected) in
            [("active", false), ("silenced", true), ("x", true), ("y", false), ("none", true)]
        {
            assert_eq!(query.flag(key), expected, "{key}");
        }
        assert!(Query::parse(None).filters().unwrap().is_empty());
        for text in ["filter=", "filter=a", "filter=a=~%22(%22"] {
            let error = Query::parse(Some(text)).filters().unwrap_err();
            assert!(error.starts_with("bad matcher format: "), "{text}: {error}");
        }
        assert!(Query::parse(Some(&"filter=a%3Db&".repeat(65))).filters().is_err());
    }
}
