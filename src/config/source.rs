//! `sources:`: whose webhooks are heard, what their bodies mean, who may send them.

use super::code::Code;
use super::fields::Fields;
use super::mapping::{self, Wanted};
use super::notification::address;
use super::reader::Reader;
use super::yaml::{Key, Node, Value};
use super::{built_in, secret};
use crate::domain::rules::SecretText;
use crate::domain::source::{Mapping, Proof, ProofStyle, Quota, Source};
use std::collections::BTreeMap;

/// Names that have a meaning of their own.
const TAKEN: [&str; 2] = ["alertmanager", "guess"];
/// A source that needs no mapping.
const READ_AT_THE_DOOR: &str = "cloudevents";
/// The most labels or annotations of one mapping.
const PAIRS_MAX: usize = 64;
/// How old a signed time may be, unless told: five minutes, as with Slack and Stripe.
const REPLAY_WINDOW_SECONDS: u32 = 300;
/// The same for SNS, which tries for up to an hour to deliver what it signed once.
const SNS_WINDOW_SECONDS: u32 = 3600;

/// An entry of `sources`.
pub(super) fn source(reader: &mut Reader<'_>, node: &Node) -> Option<Source> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.name("source", &mut fields);
    if TAKEN.contains(&rule.name.as_str()) {
        let message = format!("this name has a meaning of its own: `{}`", rule.name);
        reader.report(fields.place, Code::BadName, message);
    }
    let like = fields.optional("like").map(|it| (reader.text(it), it.place));
    let map = match (fields.optional("map"), like) {
        (Some(node), None) => mapping(reader, node),
        (Some(node), Some(_)) => {
            let message = "a mapping of its own, or `like` a built-in one: one of the two";
            reader.report(node.place, Code::BadValue, message);
            Mapping::default()
        }
        // The door reads these events itself; a declaration may add no more than a proof.
        (None, None) if rule.name == READ_AT_THE_DOOR => Mapping::default(),
        (None, like) => {
            let (name, place) = like.unwrap_or((rule.name.clone(), fields.place));
            built_in::mapping(&name).unwrap_or_else(|| {
                let message = format!("there is no built-in mapping `{name}`");
                let hint =
                    format!("write `map:`, or `like:` one of {}", built_in::names().join(", "));
                reader.report_hint(place, Code::UnknownName, message, hint);
                Mapping::default()
            })
        }
    };
    let proof = proof(reader, &mut fields);
    let quota = fields.optional("quota").and_then(|it| quota(reader, it));
    fields.finish(reader);
    Some(Source { rule, map, proof, quota })
}

/// `quota:`.
pub(super) fn quota(reader: &mut Reader<'_>, node: &Node) -> Option<Quota> {
    let mut fields = Fields::open_like(reader, node, "count: 600, per: 1m")?;
    let count = fields.required(reader, "count").map_or(1, |it| reader.integer(it, 1, 1_000_000));
    let per_seconds = fields.required(reader, "per").map_or(1, |it| reader.positive_duration(it));
    fields.finish(reader);
    Some(Quota { count: u32::try_from(count).unwrap_or(u32::MAX), per_seconds })
}

/// `token:`, `hmac:` or `sns:`.
fn proof(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Option<Proof> {
    match (fields.optional("token"), fields.optional("hmac"), fields.optional("sns")) {
        (None, None, None) => None,
        (Some(node), None, None) => Some(token(reader, node)),
        (None, Some(node), None) => hmac(reader, node),
        (None, None, Some(node)) => sns(reader, node),
        (_, Some(node), _) | (_, _, Some(node)) => {
            let message = "a token, an HMAC or the signature of SNS: one of the three";
            reader.report(node.place, Code::BadValue, message);
            None
        }
    }
}

/// The topics whose messages are taken.
fn sns(reader: &mut Reader<'_>, node: &Node) -> Option<Proof> {
    let mut fields = Fields::open_like(reader, node, "topics: ['arn:aws:sns:…']")?;
    let mut topics = Vec::new();
    if let Some(node) = fields.required(reader, "topics") {
        let items = reader.list(node);
        if items.is_empty() {
            reader.report(node.place, Code::BadValue, "no topic: nothing would be taken");
        }
        for item in items {
            let text = reader.filled_text(item);
            if !text.starts_with("arn:") || text.split(':').count() != 6 {
                let message = format!("not the name of a topic: `{text}`");
                let hint = "write it as `arn:aws:sns:REGION:ACCOUNT:NAME`";
                reader.report_hint(item.place, Code::BadValue, message, hint);
            }
            topics.push(text);
        }
    }
    let endpoint = fields.optional("endpoint").map_or(String::new(), |node| {
        let url = reader.text(node);
        address(reader, node, &url);
        url
    });
    let window = fields.optional("replay_window");
    let replay_window_seconds =
        window.map_or(SNS_WINDOW_SECONDS, |it| reader.positive_duration(it));
    fields.finish(reader);
    let style = ProofStyle::Sns { topics, endpoint };
    Some(Proof { style, secret: SecretText::Text(String::new()), replay_window_seconds })
}

/// A place of a secret, or a header with one.
fn token(reader: &mut Reader<'_>, node: &Node) -> Proof {
    let has = |name: &str| matches!(&node.value, Value::Map(it) if it.iter().any(|(key, _)| key.text == name));
    let (mut header, mut text) = (String::new(), SecretText::Text(String::new()));
    if has("header") || has("secret") {
        if let Some(mut fields) = Fields::open(reader, node) {
            header = header_name(reader, &mut fields, "");
            if let Some(node) = fields.required(reader, "secret") {
                text = secret::read_hidden(reader, node);
            }
            fields.finish(reader);
        }
    } else {
        text = secret::read_hidden(reader, node);
    }
    Proof { style: ProofStyle::Token { header }, secret: text, replay_window_seconds: 0 }
}

fn hmac(reader: &mut Reader<'_>, node: &Node) -> Option<Proof> {
    let mut fields = Fields::open_like(reader, node, "style: github, secret: {file: …}")?;
    let words = [("github", 0), ("slack", 1), ("stripe", 2), ("standard", 3)];
    let style = fields.required(reader, "style").and_then(|it| reader.word(it, &words));
    let style = match style {
        Some(1) => ProofStyle::Slack,
        Some(3) => ProofStyle::Standard,
        Some(2) => {
            ProofStyle::Stripe { header: header_name(reader, &mut fields, "stripe-signature") }
        }
        _ => ProofStyle::Github { header: header_name(reader, &mut fields, "x-hub-signature-256") },
    };
    let node = fields.required(reader, "secret");
    let secret = node.map_or(SecretText::Text(String::new()), |it| secret::read_hidden(reader, it));
    let window = fields.optional("replay_window");
    if let (ProofStyle::Github { .. }, Some(node)) = (&style, window) {
        let message = "this style signs no time, so that there is no window";
        reader.report(node.place, Code::BadValue, message);
    }
    let replay_window_seconds =
        window.map_or(REPLAY_WINDOW_SECONDS, |it| reader.positive_duration(it));
    fields.finish(reader);
    Some(Proof { style, secret, replay_window_seconds })
}

fn header_name(reader: &mut Reader<'_>, fields: &mut Fields<'_>, usual: &str) -> String {
    let Some(node) = fields.optional("header") else { return usual.to_owned() };
    let name = reader.filled_text(node).to_ascii_lowercase();
    if !name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_') {
        reader.report(node.place, Code::BadName, format!("not the name of a header: `{name}`"));
    }
    name
}

/// `map:`.
pub(super) fn mapping(reader: &mut Reader<'_>, node: &Node) -> Mapping {
    let inside = "status: …, labels: {alertname: …}";
    let Some(mut fields) = Fields::open_like(reader, node, inside) else {
        return Mapping::default();
    };
    let mut one = |reader: &mut Reader<'_>, name, wanted, is_each| match fields.optional(name) {
        Some(node) => expression(reader, node, wanted, is_each),
        None => String::new(),
    };
    let each = one(reader, "each", Wanted::List, false);
    let is_each = !each.is_empty();
    let when = one(reader, "when", Wanted::Truth, is_each);
    let change = one(reader, "change", Wanted::Truth, is_each);
    let title = one(reader, "title", Wanted::Text, is_each);
    let starts_at = one(reader, "starts_at", Wanted::Time, is_each);
    let ends_at = one(reader, "ends_at", Wanted::Time, is_each);
    let link = one(reader, "link", Wanted::Text, is_each);
    let labels_from = one(reader, "labels_from", Wanted::Map, is_each);
    let annotations_from = one(reader, "annotations_from", Wanted::Map, is_each);
    let status = fields.required(reader, "status");
    let status = status.map_or(String::new(), |it| expression(reader, it, Wanted::State, is_each));
    let labels = pairs(reader, fields.optional("labels"), is_each);
    let annotations = pairs(reader, fields.optional("annotations"), is_each);
    if labels.is_empty() && labels_from.is_empty() && title.is_empty() {
        let message = "a mapping needs `labels`, or a `title`: an alert is known by its labels";
        reader.report(fields.place, Code::MissingField, message);
    }
    let fingerprint = match fields.optional("fingerprint") {
        None => Vec::new(),
        Some(node) => match &node.value {
            Value::List(items) => {
                items.iter().map(|it| expression(reader, it, Wanted::Text, is_each)).collect()
            }
            _ => vec![expression(reader, node, Wanted::Text, is_each)],
        },
    };
    fields.finish(reader);
    Mapping {
        each,
        when,
        change,
        status,
        title,
        fingerprint,
        starts_at,
        ends_at,
        link,
        labels,
        labels_from,
        annotations,
        annotations_from,
    }
}

fn expression(reader: &mut Reader<'_>, node: &Node, wanted: Wanted, is_each: bool) -> String {
    let text = reader.filled_text(node);
    if text.trim().is_empty() {
        return String::new();
    }
    if let Err((message, hint)) = mapping::compile(&text, wanted, is_each) {
        reader.report_at((reader.current, node.place), Code::BadCondition, &message, hint);
    }
    text
}

fn pairs(reader: &mut Reader<'_>, node: Option<&Node>, is_each: bool) -> BTreeMap<String, String> {
    let Some(node) = node else { return BTreeMap::new() };
    let entries = reader.map(node);
    if entries.len() > PAIRS_MAX {
        reader.report(node.place, Code::BadValue, format!("more than {PAIRS_MAX} entries"));
    }
    let mut found = BTreeMap::new();
    for (key, value) in entries.iter().take(PAIRS_MAX) {
        check_name(reader, key);
        found.insert(key.text.clone(), expression(reader, value, Wanted::Text, is_each));
    }
    found
}

fn check_name(reader: &mut Reader<'_>, key: &Key) {
    let is_good = key.text.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_')
        && key.text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
    if !is_good {
        let message = format!("not the name of a label: `{}`", key.text);
        let hint = "letters, digits and `_`, no digit in front";
        reader.report_hint(key.place, Code::BadName, message, hint);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::rules_from_texts;
    use crate::domain::rules::Mode;
    use crate::domain::source::{ProofStyle, Quota};

    #[test]
    fn a_source_is_read_whole() {
        let text = "
sources:
  - name: shop
    hmac: {style: stripe, secret: {env: SHOP_SECRET}, replay_window: 1m}
    quota: {count: 10, per: 1m}
    map:
      each: body.alerts
      status: \"item.ok ? 'resolved' : 'firing'\"
      fingerprint: [item.id, \"get(item, 'host', '')\"]
      labels: {alertname: item.name}
  - {name: datadog, token: {file: /run/secrets/datadog}}
  - {name: other, like: datadog}
  - {name: aws, sns: {topics: ['arn:aws:sns:eu-west-1:1:t'], endpoint: 'http://localhost:4566'}}
";
        let checked = rules_from_texts(&[("s.yaml", text)], Mode::Act);
        assert_eq!(checked.findings, []);
        let sources = checked.value.unwrap().sources;
        let [shop, datadog, other, aws] = sources.as_slice() else { panic!("not four") };
        let proof = shop.proof.as_ref().unwrap();
        assert_eq!(proof.style, ProofStyle::Stripe { header: "stripe-signature".to_owned() });
        assert_eq!((proof.replay_window_seconds, shop.map.fingerprint.len()), (60, 2));
        assert_eq!(shop.quota, Some(Quota { count: 10, per_seconds: 60 }));
        assert_eq!(datadog.map, other.map);
        assert!(datadog.proof.is_some() && other.proof.is_none());
        let aws = aws.proof.as_ref().unwrap();
        assert!(matches!(&aws.style, ProofStyle::Sns { topics, .. } if topics.len() == 1));
        assert_eq!(aws.replay_window_seconds, 3600);
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_with_its_place() {
        let text = "
sources:
  - name: a
    token: secret
    map:
      each: \"'x'\"
      status: open
      starts_at: \"body.a == 1\"
      labels: {alertname: itm.name, 1bad: item.x}
  - name: guess
    map: {title: body.t}
  - {name: nobody}
  - {name: b, hmac: {style: github, secret: {env: A}, replay_window: 1m}, like: kibana}
  - {name: c, hmac: {style: githup, secret: plain}, quota: {count: 0, per: 0s}, like: kibana}
  - {name: aws, sns: {topics: [alarms], endpoint: x}}
  - {name: cloudwatch, sns: {topics: []}, token: {env: A}}
  - {name: kibana, sns: {topics: []}}
";
        let checked = rules_from_texts(&[("s.yaml", text)], Mode::Act);
        assert!(checked.value.is_none());
        let found: Vec<String> = checked
            .findings
            .iter()
            .map(|it| format!("{}:{} {}", it.line, it.column, it.message))
            .collect();
        let expected = [
            "4:12 a token must not stand in this file",
            "6:13 this gives a text, not a list",
            "7:15 a mapping here knows no name `open`",
            "8:18 this gives true or false, not a time",
            "9:27 a mapping here knows no name `itm`",
            "9:37 not the name of a label: `1bad`",
            "10:5 this name has a meaning of its own: `guess`",
            "11:10 missing field `status`",
            "12:5 there is no built-in mapping `nobody`",
            "13:70 this style signs no time, so that there is no window",
            "14:29 unknown value `githup`",
            "14:45 a token must not stand in this file",
            "14:68 expected a number from 1 to 1000000: `0`",
            "14:76 this cannot be zero",
            "15:32 not the name of a topic: `alarms`",
            "15:51 not an address: `x`",
            "16:29 a token, an HMAC or the signature of SNS: one of the three",
            "17:34 no topic: nothing would be taken",
        ];
        assert_eq!(found, expected);
    }
}
