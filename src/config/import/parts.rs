//! Receivers, inhibition and time intervals of an Alertmanager, as entries of our lists.

use super::{Importer, entries, get, items, list_of, quoted, scalar, text};
use crate::config::yaml::{Node, Value};
use crate::domain::matcher::{Matcher, Matchers, Operator};
use crate::domain::rules::Mode;

/// The fields of a webhook that are read.
const WEBHOOK_READ: [&str; 3] = ["url", "url_file", "send_resolved"];

/// The most matchers of one thing.
const MATCHERS_MAX: usize = 64;

impl Importer {
    pub(super) fn receivers(&mut self, node: Option<&Node>) {
        for receiver in items(node) {
            let name = text(receiver, "name").unwrap_or_default();
            let mut webhooks = Vec::new();
            for (key, value) in entries(receiver) {
                match key.text.as_str() {
                    "name" => {}
                    "webhook_configs" => {
                        for webhook in items(Some(value)) {
                            webhooks.extend(self.webhook(name, webhook));
                        }
                    }
                    other => {
                        let message =
                            format!("not carried over: `{other}` of the receiver `{name}`");
                        self.note(key.place.line, message);
                    }
                }
            }
            self.webhooks.entry(name.to_owned()).or_default().extend(webhooks);
        }
    }

    fn webhook(&mut self, receiver: &str, node: &Node) -> Option<(String, bool)> {
        let line = node.place.line;
        let url = match (text(node, "url"), text(node, "url_file")) {
            (Some(url), _) if is_address(url) => quoted(url),
            (None, Some(file)) if !file.is_empty() => format!("{{file: {}}}", quoted(file)),
            _ => {
                let message =
                    format!("not carried over: a webhook of `{receiver}` without an address");
                self.note(line, message);
                return None;
            }
        };
        for (key, _) in entries(node).iter().filter(|it| !WEBHOOK_READ.contains(&&*it.0.text)) {
            let message = format!("not carried over: `{}` of a webhook of `{receiver}`", key.text);
            self.note(key.place.line, message);
        }
        let message =
            "a webhook is told of incidents, in a body of ours, not of Alertmanager's groups";
        self.note(line, message);
        let name = self.name("receivers", receiver, line);
        self.add("receivers", format!("{{name: {}, webhook: {{url: {url}}}}}", quoted(&name)));
        Some((name, text(node, "send_resolved") != Some("false")))
    }

    pub(super) fn inhibit_rules(&mut self, node: Option<&Node>) {
        for rule in items(node) {
            let line = rule.place.line;
            let source =
                self.matchers(rule, ["source_match", "source_match_re", "source_matchers"]);
            let target =
                self.matchers(rule, ["target_match", "target_match_re", "target_matchers"]);
            let (Some(source), Some(target)) = (source, target) else { continue };
            let wanted =
                text(rule, "name").map_or_else(|| format!("inhibition-{line}"), str::to_owned);
            let name = self.name("inhibitions", &wanted, line);
            let mut equal: Vec<&str> = Vec::new();
            for label in items(get(rule, "equal")).iter().filter_map(scalar) {
                if !label.is_empty() && !equal.contains(&label) {
                    equal.push(label);
                }
            }
            let entry = format!(
                "name: {}\nsource_matchers: {}\ntarget_matchers: {}\nequal: {}",
                quoted(&name),
                side(&source),
                side(&target),
                list_of(equal)
            );
            self.add("inhibitions", entry);
        }
    }

    /// Matchers in the old and the new syntax. `None` = one cannot be read, which is told.
    pub(super) fn matchers(&mut self, node: &Node, keys: [&str; 3]) -> Option<Vec<Matcher>> {
        let [equal, regex, list] = keys;
        let mut all = Vec::new();
        for (key, operator) in [(equal, Operator::Equal), (regex, Operator::Matches)] {
            for (name, value) in get(node, key).map(entries).unwrap_or_default() {
                let value = scalar(value).unwrap_or_default();
                all.push((name.place.line, Matcher::new(&name.text, operator, value)));
            }
        }
        let mut good = Vec::new();
        for item in items(get(node, list)) {
            match scalar(item).unwrap_or_default().parse::<Matchers>() {
                Ok(matchers) => good.extend(matchers.0),
                Err(reason) => all.push((item.place.line, Err(reason))),
            }
        }
        let mut is_whole = true;
        for (line, matcher) in all {
            match matcher {
                Ok(matcher) => good.push(matcher),
                Err(reason) => {
                    let reason = reason.lines().next().unwrap_or_default().to_owned();
                    self.note(
                        line,
                        format!("not carried over, with all that hangs on it: {reason}"),
                    );
                    is_whole = false;
                }
            }
        }
        good.sort_by_key(ToString::to_string);
        good.dedup();
        if good.len() > MATCHERS_MAX {
            self.note(
                node.place.line,
                format!("not carried over: more than {MATCHERS_MAX} matchers"),
            );
            is_whole = false;
        }
        is_whole.then_some(good)
    }

    pub(super) fn time_intervals(&mut self, node: Option<&Node>) {
        for interval in items(node) {
            let line = interval.place.line;
            let (Some(there), Some(times)) =
                (text(interval, "name"), get(interval, "time_intervals"))
            else {
                self.note(line, "not carried over: a time interval without a name or times");
                continue;
            };
            // Only what we would read ourselves, with the same meaning, is carried over.
            let times = flow(times);
            let probe = format!("time_intervals: [{{name: a, time_intervals: {times}}}]\n");
            let checked = crate::config::rules_from_texts(&[("a", &probe)], Mode::Act);
            if let Some(finding) = checked.findings.first() {
                let message =
                    format!("not carried over: the time interval `{there}`: {}", finding.message);
                self.note(line, message);
                continue;
            }
            let name = self.name("time_intervals", there, line);
            if name != there {
                self.note(line, format!("the time interval `{there}` is called `{name}`"));
            }
            self.add("time_intervals", format!("name: {}\ntime_intervals: {times}", quoted(&name)));
            self.intervals.insert(there.to_owned(), name);
        }
    }
}

/// The matchers of a side of an inhibition. Without any it is every alert, which we want in writing.
fn side(matchers: &[Matcher]) -> String {
    if matchers.is_empty() {
        return list_of(["alertname=~\".*\""]);
    }
    list_of(matchers.iter().map(ToString::to_string))
}

fn is_address(url: &str) -> bool {
    reqwest::Url::parse(url)
        .is_ok_and(|it| matches!(it.scheme(), "http" | "https") && it.has_host())
}

/// A value as YAML on one line.
fn flow(node: &Node) -> String {
    match &node.value {
        Value::Scalar { text, .. } => quoted(text),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(entries) => {
            let entries = entries.iter();
            let entries: Vec<String> =
                entries.map(|(key, it)| format!("{}: {}", quoted(&key.text), flow(it))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}
