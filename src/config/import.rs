//! Takes over an Alertmanager configuration as rules of ours, and says what it could not carry over.

mod condition;
mod parts;
mod routes;

use super::yaml::{Key, Node, Value, parse};
use std::collections::{BTreeMap, BTreeSet};

/// What an Alertmanager configuration became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The contents of a file of rules.
    pub rules: String,
    /// What could not be carried over, or not as it was, in order of line.
    pub notes: Vec<ImportNote>,
}

/// Something about a line of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImportNote {
    /// From 1.
    pub line: u32,
    /// What, a lower-case fragment.
    pub message: String,
}

/// Top-level keys that are read.
const READ: [&str; 6] =
    ["route", "receivers", "inhibit_rules", "time_intervals", "mute_time_intervals", "global"];
/// The resolve timeout of both, unless told otherwise.
const RESOLVE_TIMEOUT: &str = "5m";

/// Takes over an Alertmanager configuration. Fails, with the reasons, where it is no such thing.
pub fn import_alertmanager(text: &str) -> Result<Imported, Vec<ImportNote>> {
    let (documents, errors) = parse(text);
    if !errors.is_empty() {
        let note = |message, line| ImportNote { line, message };
        let notes = errors.into_iter();
        return Err(notes
            .map(|it| note(format!("not valid YAML: {}", it.message), it.place.line))
            .collect());
    }
    let Some((root, route)) = documents.first().and_then(|it| Some((it, get(it, "route")?))) else {
        let message = "no configuration of an Alertmanager: it has no `route`".to_owned();
        return Err(vec![ImportNote { line: 1, message }]);
    };
    let mut importer = Importer::default();
    for (key, _) in entries(root).iter().filter(|(key, _)| !READ.contains(&&*key.text)) {
        importer.note(key.place.line, format!("not carried over: `{}`", key.text));
    }
    importer.global(get(root, "global"));
    for name in ["time_intervals", "mute_time_intervals"] {
        importer.time_intervals(get(root, name));
    }
    importer.inhibit_rules(get(root, "inhibit_rules"));
    importer.receivers(get(root, "receivers"));
    importer.route(route);
    Ok(importer.finish())
}

/// A receiver as it was taken over: its names here, one for each webhook, and whether that is told of
/// the end too.
type Webhooks = Vec<(String, bool)>;

/// What was taken over so far.
#[derive(Default)]
struct Importer {
    notes: BTreeSet<ImportNote>,
    /// The entries of each list of the file, as YAML, in the order of [`LISTS`].
    lists: BTreeMap<&'static str, Vec<String>>,
    /// The names that entries of each list bear here.
    names: BTreeSet<(&'static str, String)>,
    /// Time intervals by their names there.
    intervals: BTreeMap<String, String>,
    /// Receivers by their names there.
    webhooks: BTreeMap<String, Webhooks>,
}

/// The lists, in the order in which people read them.
const LISTS: [&str; 5] = ["time_intervals", "inhibitions", "correlations", "receivers", "routes"];

impl Importer {
    fn note(&mut self, line: u32, message: impl Into<String>) {
        self.notes.insert(ImportNote { line, message: message.into() });
    }

    fn add(&mut self, list: &'static str, yaml: String) {
        self.lists.entry(list).or_default().push(yaml);
    }

    /// A name that is one here, and that no other entry of the list has.
    fn name(&mut self, list: &'static str, wanted: &str, line: u32) -> String {
        const CHARACTERS_MAX: usize = 90;
        let plain: String = (wanted.chars().take(CHARACTERS_MAX))
            .map(|it| if it == '/' || it.is_control() { '-' } else { it })
            .collect();
        let plain = match plain.trim() {
            "" => format!("line-{line}"),
            trimmed => trimmed.to_owned(),
        };
        let mut name = plain.clone();
        let mut number = 1;
        while !self.names.insert((list, name.clone())) {
            number += 1;
            name = format!("{plain}-{number}");
        }
        name
    }

    fn global(&mut self, node: Option<&Node>) {
        for (key, value) in node.map(entries).unwrap_or_default() {
            if key.text == "resolve_timeout" && scalar(value) == Some(RESOLVE_TIMEOUT) {
                continue;
            }
            self.note(key.place.line, format!("not carried over: `global: {}`", key.text));
        }
    }

    fn finish(self) -> Imported {
        const HEAD: &str =
            "# Taken over from the configuration of an Alertmanager by `watchkeeper import`.\n";
        let mut rules = HEAD.to_owned();
        for name in LISTS {
            let Some(entries) = self.lists.get(name) else { continue };
            rules.extend(["\n", name, ":\n"]);
            for entry in entries {
                rules.extend(["  - ", &entry.replace('\n', "\n    "), "\n"]);
            }
        }
        Imported { rules, notes: self.notes.into_iter().collect() }
    }
}

/// The value of a key of a map.
fn get<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let found = entries(node).iter().find(|(key, _)| key.text == name)?;
    (!found.1.is_null()).then_some(&found.1)
}

fn entries(node: &Node) -> &[(Key, Node)] {
    if let Value::Map(entries) = &node.value { entries } else { &[] }
}

fn items(node: Option<&Node>) -> &[Node] {
    match node.map(|it| &it.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

fn scalar(node: &Node) -> Option<&str> {
    if let Value::Scalar { text, .. } = &node.value { Some(text) } else { None }
}

fn text<'n>(node: &'n Node, name: &str) -> Option<&'n str> {
    get(node, name).and_then(scalar)
}

/// A text as YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list_of(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let texts: Vec<String> = texts.into_iter().map(|it| quoted(it.as_ref())).collect();
    format!("[{}]", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules_from_texts;
    use crate::domain::label::Labels;
    use crate::domain::rules::{Mode, RuleSet};

    fn import(text: &str) -> (RuleSet, Vec<String>) {
        let imported = import_alertmanager(text).unwrap();
        let checked = rules_from_texts(&[("a.yaml", &imported.rules)], Mode::Act);
        let rules = checked.value.unwrap_or_else(|| {
            panic!("{:?}\n{}", checked.findings, imported.rules);
        });
        assert!(checked.findings.is_empty(), "{:?}\n{}", checked.findings, imported.rules);
        let notes = imported.notes.iter().map(|it| format!("{}: {}", it.line, it.message));
        (rules, notes.collect())
    }

    fn told(rules: &RuleSet, labels: &[(&str, &str)]) -> Vec<String> {
        let labels = Labels::from_pairs(labels.iter().copied());
        let routes = rules.routes.iter().filter(|it| it.matchers.matches(&labels));
        let mut names: Vec<String> = routes.map(|it| it.receiver.clone()).collect();
        names.sort();
        names
    }

    const TREE: &str = r#"
route:
  receiver: all
  group_by: [alertname, cluster]
  routes:
    - matchers: ['team="a"', severity=critical]
      receiver: a-pager
      continue: true
    - match: {team: a}
      receiver: a-mail
      group_by: [service]
      routes:
        - match_re: {service: web|shop}
          receiver: web
    - matchers: ['team=~"b|c"']
      receiver: bc
receivers:
  - {name: all, webhook_configs: [{url: "http://x/all"}]}
  - {name: a-pager, webhook_configs: [{url: "http://x/1", send_resolved: false}, {url: "http://x/2"}]}
  - {name: a-mail, webhook_configs: [{url: "http://x/3"}]}
  - {name: web, webhook_configs: [{url: "http://x/4"}]}
  - {name: bc, webhook_configs: [{url_file: /run/secrets/bc}], slack_configs: [{channel: x}]}
"#;

    #[test]
    fn each_alert_is_told_to_whom_the_tree_would_tell_it() {
        let (rules, notes) = import(TREE);
        for (labels, expected) in [
            (&[][..], &["all"][..]),
            (&[("team", "a"), ("severity", "critical")], &["a-mail", "a-pager", "a-pager-2"]),
            (
                &[("team", "a"), ("severity", "critical"), ("service", "shop")],
                &["a-pager", "a-pager-2", "web"],
            ),
            (&[("team", "a"), ("service", "web")], &["web"]),
            (&[("team", "a"), ("service", "webs")], &["a-mail"]),
            (&[("team", "b")], &["bc"]),
            (&[("team", "bc")], &["all"]),
            (&[("severity", "critical")], &["all"]),
        ] {
            assert_eq!(told(&rules, labels), expected, "{labels:?}");
        }
        let on = |name: &str| {
            let route = rules.routes.iter().find(|it| it.receiver == name).unwrap();
            route.on.iter().map(|it| it.as_str()).collect::<Vec<_>>()
        };
        assert_eq!((on("a-pager"), on("a-pager-2")), (vec!["opened"], vec!["opened", "resolved"]));
        assert!(
            notes
                .contains(&"22: not carried over: `slack_configs` of the receiver `bc`".to_owned()),
            "{notes:?}"
        );
    }

    #[test]
    fn groups_become_correlations_in_the_order_of_the_tree() {
        let (rules, _) = import(TREE);
        let group_by = |labels: &[(&str, &str)]| {
            let labels = Labels::from_pairs(labels.iter().copied());
            let rule = rules.correlations.iter().find(|it| it.matchers.matches(&labels)).unwrap();
            rule.group_by.join(",")
        };
        assert_eq!(group_by(&[("team", "a"), ("service", "web")]), "service");
        assert_eq!(group_by(&[("team", "a"), ("severity", "critical")]), "alertname,cluster");
        assert_eq!(group_by(&[("team", "a")]), "service");
        assert_eq!(group_by(&[]), "alertname,cluster");
    }

    #[test]
    fn inhibition_and_time_intervals_are_carried_over() {
        let (rules, notes) = import(
            r#"
route:
  receiver: x
  routes:
    - {matchers: [a=b], receiver: x, mute_time_intervals: [nights], active_time_intervals: [days/work]}
receivers: [{name: x, webhook_configs: [{url: "http://x/"}]}]
inhibit_rules:
  - source_match: {severity: critical}
    target_match_re: {severity: warning|info}
    target_matchers: ['team != "x"']
    equal: [alertname, cluster, cluster]
  - {name: all, target_matchers: [a=b]}
time_intervals:
  - name: nights
    time_intervals:
      - times: [{start_time: '22:00', end_time: '24:00'}]
        weekdays: ['monday:friday']
        location: Europe/Berlin
mute_time_intervals:
  - name: days/work
    time_intervals: [{days_of_month: ['1:-1']}]
"#,
        );
        let inhibition = &rules.inhibitions[0];
        assert_eq!(inhibition.source_matchers.to_string(), r#"{severity="critical"}"#);
        assert_eq!(
            inhibition.target_matchers.to_string(),
            r#"{severity=~"warning|info",team!="x"}"#
        );
        assert_eq!(inhibition.equal.len(), 2);
        assert!(rules.inhibitions[1].source_matchers.matches(&Labels::default()));
        assert_eq!(rules.time_intervals.len(), 2);
        assert_eq!(rules.time_intervals[0].intervals[0].location.name(), "Europe/Berlin");
        let route = rules.routes.iter().find(|it| !it.mute_time_intervals.is_empty()).unwrap();
        assert_eq!(route.active_time_intervals[0].rule.name, "days-work");
        assert!(
            notes.iter().any(|it| it.starts_with("20: ") && it.contains("days-work")),
            "{notes:?}"
        );
    }

    #[test]
    fn what_is_not_carried_over_is_told_with_its_line() {
        let (_, notes) = import(
            "global:\n  smtp_from: a\n  resolve_timeout: 10m\nroute:\n  receiver: x\n  group_wait: 30s\n  \
             routes:\n    - {receiver: y, matchers: ['a=b']}\nreceivers:\n  - name: x\n    email_configs: \
             [{to: b}]\n  - name: y\n    webhook_configs:\n      - url: http://y/\n        http_config: {}\n\
             templates: ['*.tmpl']\n",
        );
        let lines: Vec<&str> = notes.iter().map(|it| it.split(':').next().unwrap()).collect();
        for line in ["2", "3", "6", "5", "11", "15", "16"] {
            assert!(lines.contains(&line), "{line} is not in {notes:#?}");
        }
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for (text, line) in [("", 1), ("a: b", 1), ("route: [", 1), ("- x", 1), ("a: 'b\n", 2)] {
            let notes = import_alertmanager(text).unwrap_err();
            assert!(notes[0].line <= line, "{text}: {notes:?}");
        }
    }

    #[test]
    fn siblings_with_several_matchers_stay_few() {
        let sibling = |it: usize| {
            format!(
                "    - {{receiver: x, matchers: ['team=t{it}', 'severity=critical', 'env=~p.*']}}\n"
            )
        };
        let text = format!(
            "route:\n  receiver: x\n  routes:\n{}receivers: [{{name: x, webhook_configs: [{{url: 'http://x/'}}]}}]\n",
            (0..20).map(sibling).collect::<String>()
        );
        let (rules, _) = import(&text);
        assert!(rules.routes.len() < 100, "{}", rules.routes.len());
        for team in ["t0", "t19", "t20"] {
            for severity in ["critical", "warning"] {
                let labels = [("team", team), ("severity", severity), ("env", "prod")];
                assert_eq!(told(&rules, &labels), ["x"], "{labels:?}");
            }
        }
    }
}
