//! Label matchers in Alertmanager's syntax: one syntax everywhere.

use super::label::Labels;
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The longest pattern that a matcher may have, in bytes: a pattern from a sender is hostile.
const PATTERN_BYTES_MAX: usize = 4096;
/// The largest compiled pattern, in bytes; bounds the time that compiling takes.
const PATTERN_SIZE_MAX: usize = 1 << 20;

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Matches,
    /// `!~`
    NotMatches,
}

impl Operator {
    fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Matches => "=~",
            Self::NotMatches => "!~",
        }
    }
}

/// One condition on one label. An absent label counts as empty text.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    operator: Operator,
    value: String,
    /// Compiled and anchored; present for the two operators that need it.
    regex: Option<Regex>,
}

impl Matcher {
    /// Builds a matcher. Fails when the pattern is no regular expression or too large.
    pub fn new(name: &str, operator: Operator, value: &str) -> Result<Self, String> {
        if name.is_empty() {
            return Err("a matcher needs a label name".to_owned());
        }
        let regex = match operator {
            Operator::Equal | Operator::NotEqual => None,
            Operator::Matches | Operator::NotMatches => Some(compile_anchored(value)?),
        };
        Ok(Self { name: name.to_owned(), operator, value: value.to_owned(), regex })
    }

    /// The label's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the label is compared with: text or a pattern, by the operator.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// How it compares.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The label and the value that it must have, where there is only one.
    pub fn equality(&self) -> Option<(&str, &str)> {
        let is_one = self.operator == Operator::Equal && !self.value.is_empty();
        is_one.then_some((self.name.as_str(), self.value.as_str()))
    }

    /// Whether a set of labels fulfils the condition.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_value(labels.get(&self.name).unwrap_or_default())
    }

    /// Whether a label's value fulfils the condition.
    pub fn matches_value(&self, value: &str) -> bool {
        let pattern_matches = || self.regex.as_ref().is_some_and(|it| it.is_match(value));
        match self.operator {
            Operator::Equal => value == self.value,
            Operator::NotEqual => value != self.value,
            Operator::Matches => pattern_matches(),
            Operator::NotMatches => !pattern_matches(),
        }
    }
}

/// Compiles a pattern as Prometheus does: linear time, anchored at both ends, `.` matches newline.
pub fn compile_anchored(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("the pattern is longer than {PATTERN_BYTES_MAX} bytes"));
    }
    RegexBuilder::new(&format!("^(?s:{pattern})$"))
        .size_limit(PATTERN_SIZE_MAX)
        .build()
        .map_err(|error| format!("bad regular expression `{pattern}`: {error}"))
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.operator, &self.value) == (&other.name, other.operator, &other.value)
    }
}

impl Eq for Matcher {}

/// Prints `name="value"`; a name that is no plain one is quoted too. What is printed is stored, so
/// it must be read back as the same.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            write_quoted(f, &self.name)?;
        }
        f.write_str(self.operator.as_str())?;
        write_quoted(f, &self.value)
    }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for character in text.chars() {
        match character {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            other => write!(f, "{other}")?,
        }
    }
    f.write_str("\"")
}

/// Whether a label's name needs no quotes.
fn is_plain_name(name: &str) -> bool {
    name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_' || it == ':')
        && name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_' || it == ':')
}

/// Parses `name="value"`; quotes around the value may be left out where it has no special character.
impl FromStr for Matcher {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (name, rest) = take_name(text)?;
        let rest = rest.trim_start();
        let (operator, rest) =
            [("=~", Operator::Matches), ("!~", Operator::NotMatches), ("!=", Operator::NotEqual)]
                .into_iter()
                .chain([("=", Operator::Equal)])
                .find_map(|(sign, it)| rest.strip_prefix(sign).map(|rest| (it, rest)))
                .ok_or_else(|| format!("expected `=`, `!=`, `=~` or `!~` in `{text}`"))?;
        Self::new(&name, operator, &unquote(rest.trim(), text)?)
    }
}

/// Takes the label name off the front: quoted, or up to the operator.
fn take_name(text: &str) -> Result<(String, &str), String> {
    if text.starts_with('"') {
        let end = quoted_end(text).ok_or_else(|| format!("a quote is not closed in `{text}`"))?;
        let (quoted, rest) = text.split_at(end);
        return Ok((unquote(quoted, text)?, rest));
    }
    let end = text.find(['=', '!']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let name = name.trim();
    if is_plain_name(name) {
        Ok((name.to_owned(), rest))
    } else {
        Err(format!("bad label name `{name}` in matcher `{text}`"))
    }
}

/// Where the quoted text at the front ends, in bytes, its closing quote included.
fn quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (index, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(index + 1),
            _ => {}
        }
    }
    None
}

/// Takes off quotes and escapes: `\"`, `\\` and `\n`.
fn unquote(value: &str, whole: &str) -> Result<String, String> {
    let Some(inner) = value.strip_prefix('"') else {
        return if value.contains(['"', ',', '{', '}']) {
            Err(format!("the value must be in double quotes in matcher `{whole}`"))
        } else {
            Ok(value.to_owned())
        };
    };
    if quoted_end(value) != Some(value.len()) {
        return Err(format!("the quotes do not match in matcher `{whole}`"));
    }
    let mut characters = inner.strip_suffix('"').unwrap_or(inner).chars();
    let mut out = String::with_capacity(inner.len());
    while let Some(character) = characters.next() {
        match (character, character == '\\') {
            (_, true) => match characters.next() {
                Some('n') => out.push('\n'),
                Some(other @ ('"' | '\\')) => out.push(other),
                Some(other) => out.extend(['\\', other]),
                None => return Err(format!("a `\\` stands at the end of matcher `{whole}`")),
            },
            (other, false) => out.push(other),
        }
    }
    Ok(out)
}

impl Serialize for Matcher {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A list of matchers, all of which must hold. An empty list matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Matchers(pub Vec<Matcher>);

impl Matchers {
    /// Whether every matcher holds.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|it| it.matches(labels))
    }
}

/// Prints `{a="b",c=~"d"}`.
impl fmt::Display for Matchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(f, "{{{}}}", parts.join(","))
    }
}

/// Parses `{a="b",c=~"d"}` or the same without braces.
impl FromStr for Matchers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let inner = text.strip_prefix('{').and_then(|it| it.strip_suffix('}')).unwrap_or(text);
        let mut matchers = Vec::new();
        let mut start = 0;
        let (mut quoted, mut escaped) = (false, false);
        for (index, character) in inner.char_indices() {
            match character {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                ',' if !quoted => {
                    matchers.push(inner.get(start..index).unwrap_or_default());
                    start = index + 1;
                }
                _ => {}
            }
        }
        matchers.push(inner.get(start..).unwrap_or_default());
        let last_is_empty = matchers.last().is_some_and(|it| it.trim().is_empty());
        if last_is_empty {
            matchers.pop();
        }
        matchers.into_iter().map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(matcher: &str, value: &str, expected: bool) {
        let matcher: Matcher = matcher.parse().unwrap();
        let labels = Labels::from_pairs([("a", value)]);
        assert_eq!(matcher.matches(&labels), expected, "{matcher} on {labels}");
    }

    #[test]
    fn operators_compare_as_in_alertmanager() {
        check(r#"a="b""#, "b", true);
        check("a=b", "b", true);
        check(r#"a!="b""#, "", true);
        check(r#"a="""#, "", true);
        check(r#"a=~"b.*""#, "bcd", true);
        check(r#"a=~"b""#, "abc", false);
        check(r#"a=~"x|b""#, "b", true);
        check(r#"a!~"b.*""#, "cbd", true);
        check(r#" a =~ "b|c" "#, "c", true);
        check(r#"a="q\"\\\n""#, "q\"\\\n", true);
        check("a=~\".*x\"", "two\nlines x", true);
    }

    #[test]
    fn what_is_no_matcher_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "bad label name"),
            ("a", "expected `=`"),
            ("1a=b", "bad label name"),
            ("a=\"b", "quotes do not match"),
            ("a=~\"(\"", "bad regular expression"),
            ("a=b\"c", "must be in double quotes"),
        ] {
            let error = text.parse::<Matcher>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_list_is_split_outside_of_quotes() {
        let matchers: Matchers = r#"{a="b,c", d=~"e|f",}"#.parse().unwrap();
        assert_eq!(matchers.to_string(), r#"{a="b,c",d=~"e|f"}"#);
        assert_eq!("{}".parse::<Matchers>().unwrap(), Matchers::default());
    }

    #[test]
    fn printing_and_parsing_are_inverse() {
        for text in [
            r#"a="b""#,
            r#"a!="\"""#,
            r#"a=~"\\d+""#,
            r#"a!~"x\ny""#,
            r#""ä \"b"="c""#,
            r#""\""="c""#,
        ] {
            let matcher: Matcher = text.parse().unwrap();
            assert_eq!(matcher.to_string().parse::<Matcher>().unwrap(), matcher);
        }
    }
}
