//! The tree of routes, as correlations and routes of ours.

use super::condition::Condition;
use super::{Importer, entries, get, items, list_of, quoted, scalar, text};
use crate::config::yaml::Node;
use crate::domain::matcher::Matcher;

/// The deepest tree that is followed.
const DEPTH_MAX: usize = 32;
/// The most routes that are written; a tree with more is no tree that people wrote.
const ROUTES_MAX: usize = 10_000;
/// The fields of a route that are read.
const READ: [&str; 9] = [
    "receiver",
    "group_by",
    "continue",
    "matchers",
    "match",
    "match_re",
    "routes",
    "mute_time_intervals",
    "active_time_intervals",
];

/// What a route has from those above it.
#[derive(Clone)]
struct Above {
    receiver: String,
    group_by: Vec<String>,
    /// The matchers of all of them.
    path: Vec<Matcher>,
    depth: usize,
}

impl Importer {
    pub(super) fn route(&mut self, root: &Node) {
        let above =
            Above { receiver: String::new(), group_by: Vec::new(), path: Vec::new(), depth: 0 };
        self.branch(root, &above, &Condition::always(), &[]);
    }

    /// A route to which alerts come that fulfil a condition, its own matchers included.
    fn branch(&mut self, node: &Node, above: &Above, comes: &Condition, own: &[Matcher]) {
        self.note_unread(node);
        let mut here = above.clone();
        here.depth += 1;
        here.path.extend(own.iter().filter(|it| !above.path.contains(it)).cloned());
        if let Some(receiver) = text(node, "receiver") {
            receiver.clone_into(&mut here.receiver);
        }
        if let Some(labels) = get(node, "group_by") {
            here.group_by = group_by(labels);
        }
        let mut rest = comes.clone();
        for child in items(get(node, "routes")) {
            if here.depth >= DEPTH_MAX {
                self.note(child.place.line, "not carried over: the tree is too deep");
                continue;
            }
            let own = self.matchers(child, ["match", "match_re", "matchers"]);
            let Some(own) = own else { continue };
            self.branch(child, &here, &rest.and(&own), &own);
            if text(child, "continue") == Some("true") {
                let message = "an alert belongs to one incident: of `continue`, the first route \
                               that fits groups it";
                self.note(child.place.line, message);
            }
            rest = self.after(child, rest, &own);
        }
        let comes = self.untaken(node, comes.clone());
        self.correlation(node, &here);
        self.tell(node, &here, &comes);
    }

    /// What comes to the routes behind a child.
    fn after(&mut self, child: &Node, rest: Condition, own: &[Matcher]) -> Condition {
        if text(child, "continue") == Some("true") {
            return rest;
        }
        rest.without(own).unwrap_or_else(|| {
            self.too_many(child);
            rest
        })
    }

    /// What no child takes.
    fn untaken(&mut self, node: &Node, mut comes: Condition) -> Condition {
        for child in items(get(node, "routes")) {
            let Some(own) = self.matchers(child, ["match", "match_re", "matchers"]) else {
                continue;
            };
            match comes.without(&own) {
                Some(rest) => comes = rest,
                None => self.too_many(child),
            }
        }
        comes
    }

    fn too_many(&mut self, child: &Node) {
        let message = "alerts of this route may be told by those behind it and above it as well: it \
                       is too much to tell them apart";
        self.note(child.place.line, message);
    }

    fn note_unread(&mut self, node: &Node) {
        for (key, _) in entries(node).iter().filter(|(key, _)| !READ.contains(&&*key.text)) {
            let message = match key.text.as_str() {
                "group_wait" | "group_interval" | "repeat_interval" => {
                    format!("not carried over: `{}`: an incident is told once, at once", key.text)
                }
                other => format!("not carried over: `{other}` of a route"),
            };
            self.note(key.place.line, message);
        }
    }

    fn correlation(&mut self, node: &Node, here: &Above) {
        let line = node.place.line;
        let name = self.name("correlations", &format!("route-{line}"), line);
        let entry = format!(
            "name: {}\nmatchers: {}\ngroup_by: {}\nwindow: {{gap: 1d, max: 7d}}",
            quoted(&name),
            list_of(here.path.iter().map(ToString::to_string)),
            list_of(&here.group_by)
        );
        self.add("correlations", entry);
    }

    fn tell(&mut self, node: &Node, here: &Above, comes: &Condition) {
        let line = node.place.line;
        let webhooks = self.webhooks.get(&here.receiver).cloned().unwrap_or_default();
        if webhooks.is_empty() {
            let message = format!(
                "this route tells nobody: `{}` has no receiver that we know",
                here.receiver
            );
            self.note(line, message);
        }
        let mute = self.named_intervals(node, "mute_time_intervals");
        let active = self.named_intervals(node, "active_time_intervals");
        for alternative in &comes.0 {
            for (receiver, resolved) in &webhooks {
                if self.lists.get("routes").is_some_and(|it| it.len() >= ROUTES_MAX) {
                    self.note(line, "not carried over: there are too many routes");
                    return;
                }
                let on = if *resolved { "[opened, resolved]" } else { "[opened]" };
                let matchers = list_of(alternative.iter().map(ToString::to_string));
                let entry = format!(
                    "{{matchers: {matchers}, on: {on}, receiver: {}{mute}{active}}}",
                    quoted(receiver)
                );
                self.add("routes", entry);
            }
        }
    }

    /// `, key: [names]`, or nothing.
    fn named_intervals(&mut self, node: &Node, key: &str) -> String {
        let mut names = Vec::new();
        for item in items(get(node, key)) {
            let there = scalar(item).unwrap_or_default();
            if let Some(name) = self.intervals.get(there) {
                names.push(name.clone());
            } else {
                let message = format!("not carried over: the time interval `{there}`");
                self.note(item.place.line, message);
            }
        }
        if names.is_empty() { String::new() } else { format!(", {key}: {}", list_of(names)) }
    }
}

/// Labels to group by, each once; `...` stands alone.
fn group_by(node: &Node) -> Vec<String> {
    const LABELS_MAX: usize = 64;
    let mut labels: Vec<String> = Vec::new();
    for label in items(Some(node)).iter().filter_map(scalar) {
        if !labels.iter().any(|it| it == label) {
            labels.push(label.to_owned());
        }
    }
    if labels.iter().any(|it| it == "...") {
        return vec!["...".to_owned()];
    }
    labels.truncate(LABELS_MAX);
    labels
}
