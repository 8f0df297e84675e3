//! What the bodies of many tools become, by their declared mappings and by the general mapper.
//!
//! The bodies in `tests/payloads` were written by us after each tool's public documentation, with what
//! is expected of them beside them. `cargo test --test payloads -- --nocapture` shows the table.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![expect(clippy::print_stdout, reason = "the table is for people")]

use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use watchkeeper::config;
use watchkeeper::domain::rules::Mode;
use watchkeeper::domain::source::Source;
use watchkeeper::ingest::{self, Kind, Mapped};

/// What the general mapper must reach, in percent.
const GUESSED_MIN: [(&str, usize); 6] = [
    ("kind", 95),
    ("title", 95),
    ("state", 95),
    ("severity", 95),
    ("identity", 95),
    ("change", 95),
];

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// A body with what is expected of each of its entries: a `title` (it is a part of what is found), a
/// `state`, a `severity`, since when (`starts_at`), a `link`, and a name of the thing (`known_by`): bodies of a
/// tool with one name have one fingerprint, with two names two. A list holds several right answers, what
/// is not written is not judged. `kind` says what it may be, if not `alert`: `other`, `change`, `refused`; `change`
/// what a change tells: `service`, `version`, `environment`, `author`, `state`.
struct Case {
    tool: String,
    body: Vec<u8>,
    content_type: String,
    expected: Vec<Value>,
}

impl Case {
    fn guess(&self) -> Result<Vec<Result<Mapped, String>>, String> {
        ingest::guess_body(&self.body, &self.content_type, now())
    }

    /// Whether the body is nothing else.
    fn may_be_only(&self, kind: &str) -> bool {
        self.expected.first().is_some_and(|it| match it["kind"].as_str() {
            Some(only) => only == kind,
            None => it["kind"].is_null() && kind == "alert",
        })
    }

    /// Whether the body may be something else than an alert.
    fn may_be(&self, kind: &str) -> bool {
        self.expected.first().is_some_and(|it| accepts(&it["kind"], |right| right == kind))
    }
}

/// Whether one of the right answers passes.
fn accepts(expected: &Value, is_right: impl Fn(&str) -> bool) -> bool {
    match expected {
        Value::Array(several) => several.iter().any(|it| it.as_str().is_some_and(&is_right)),
        one => one.as_str().is_some_and(is_right),
    }
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payloads");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let tool = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let text: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert!(text["documentation"].as_str().is_some_and(|it| it.len() > 10), "{tool}");
        for case in text["cases"].as_array().unwrap() {
            let expected = match &case["expect"] {
                Value::Array(entries) => entries.clone(),
                one => vec![one.clone()],
            };
            // What is no JSON stands as a text.
            let body = case["text"].as_str().map(|it| it.as_bytes().to_vec());
            let body = body.unwrap_or_else(|| serde_json::to_vec(&case["body"]).unwrap());
            let content_type = case["content_type"].as_str().unwrap_or("application/json");
            let content_type = content_type.to_owned();
            found.push(Case { tool: tool.clone(), body, content_type, expected });
        }
    }
    assert!(found.len() > 40, "the bodies are there");
    found
}

/// How many of what was expected was found, by tool and field.
#[derive(Default)]
struct Score {
    counts: BTreeMap<(String, &'static str), (usize, usize)>,
    /// The fingerprints of each thing that is expected to be known again.
    known: BTreeMap<(String, String), BTreeSet<String>>,
    misses: Vec<String>,
}

impl Score {
    fn add(&mut self, tool: &str, field: &'static str, is_right: bool) {
        let count = self.counts.entry((tool.to_owned(), field)).or_default();
        count.0 += usize::from(is_right);
        count.1 += 1;
    }

    fn judge(&mut self, tool: &str, expected: &Value, found: Option<&Mapped>) {
        let kind = found.map_or("refused", |it| match it.kind {
            Kind::Alert => "alert",
            Kind::Change => "change",
            Kind::Other => "other",
        });
        let is_right = match &expected["kind"] {
            Value::Null => kind == "alert",
            kinds => accepts(kinds, |it| it == kind),
        };
        self.add(tool, "kind", is_right);
        if !is_right {
            self.misses.push(format!("{tool}: kind is {kind}"));
        }
        for (name, right) in expected["change"].as_object().into_iter().flatten() {
            let found = found.filter(|it| it.kind == Kind::Change);
            let found = found.and_then(|it| it.labels.get(name)).map(String::as_str);
            let is_right = found == right.as_str();
            self.add(tool, "change", is_right);
            if !is_right {
                self.misses.push(format!("{tool}: {name} of a change is {found:?}, not {right}"));
            }
        }
        if is_right && kind != "alert" {
            return;
        }
        let found = found.filter(|it| it.kind == Kind::Alert);
        let state = found.map(|it| if it.is_firing { "firing" } else { "resolved" });
        let title = found.map(|it| it.title.to_lowercase()).unwrap_or_default();
        let starts_at = found.and_then(|it| it.starts_at).map(|it| it.to_string());
        let mut one =
            |field: &'static str, found: Option<&str>, is_right: fn(&str, &str) -> bool| {
                if expected[field].is_null() {
                    return;
                }
                let is_right =
                    found.is_some_and(|it| accepts(&expected[field], |right| is_right(it, right)));
                self.add(tool, field, is_right);
                if !is_right {
                    let expected = &expected[field];
                    self.misses.push(format!("{tool}: {field} is {found:?}, not {expected}"));
                }
            };
        one("title", Some(&title), |it, expected| it.contains(&expected.to_lowercase()));
        one("state", state, |it, expected| it == expected);
        one("severity", found.map(|it| it.severity().as_str()), |it, expected| it == expected);
        one("starts_at", starts_at.as_deref(), |it, expected| {
            let seconds = |it: &str| it.parse::<Timestamp>().unwrap().as_second();
            seconds(it) == seconds(expected)
        });
        one("link", found.map(|it| it.link.as_str()), |it, expected| it == expected);
        let Some(thing) = expected["known_by"].as_str() else { return };
        let key = (tool.to_owned(), thing.to_owned());
        let fingerprint = found.map_or("none".to_owned(), |it| it.fingerprint().to_string());
        self.known.entry(key).or_default().insert(fingerprint);
    }

    /// One thing has one fingerprint, and no two things of a tool the same.
    fn judge_identities(&mut self) {
        let known = std::mem::take(&mut self.known);
        for ((tool, thing), fingerprints) in &known {
            let is_shared = known.iter().any(|((other, other_thing), it)| {
                other == tool && other_thing != thing && !it.is_disjoint(fingerprints)
            });
            let is_right = fingerprints.len() == 1 && !fingerprints.contains("none") && !is_shared;
            self.add(tool, "identity", is_right);
            if !is_right {
                self.misses.push(format!("{tool}: {thing} is known by {fingerprints:?}"));
            }
        }
    }

    /// The part of all that was right, in percent, rounded down.
    fn percent(&self, field: &str) -> usize {
        let all = self.counts.iter().filter(|((_, it), _)| *it == field);
        let (right, count) = all.fold((0, 0), |sum, (_, it)| (sum.0 + it.0, sum.1 + it.1));
        // Where nothing was asked nothing was wrong.
        (right * 100).checked_div(count).unwrap_or(100)
    }

    fn print(&self, name: &str) {
        const FIELDS: [&str; 8] =
            ["kind", "title", "state", "severity", "identity", "starts_at", "link", "change"];
        println!("\n{name:<18}{}", FIELDS.map(|it| format!("{it:>11}")).concat());
        let tools: BTreeSet<&String> = self.counts.keys().map(|it| &it.0).collect();
        for tool in tools {
            let cells = FIELDS.map(|field| {
                let count = self.counts.get(&(tool.clone(), field));
                format!("{:>11}", count.map_or(String::new(), |it| format!("{}/{}", it.0, it.1)))
            });
            println!("{tool:<18}{}", cells.concat());
        }
        println!("{:<18}{}", "all", FIELDS.map(|it| format!("{:>10}%", self.percent(it))).concat());
        for miss in &self.misses {
            println!("  {miss}");
        }
    }
}

fn source(name: &str) -> Option<Source> {
    config::built_in_sources().into_iter().find(|it| it.rule.name == name)
}

#[test]
fn declared_tools_are_understood_wholly() {
    let mut score = Score::default();
    for case in cases() {
        let Some(source) = source(&case.tool) else { continue };
        let entries = ingest::map_body(&source, &case.body, &case.content_type).unwrap();
        assert_eq!(entries.len(), case.expected.len(), "{}", case.tool);
        for (expected, entry) in case.expected.iter().zip(&entries) {
            if let Err(reason) = entry {
                println!("{}: {reason}", case.tool);
            }
            score.judge(&case.tool, expected, entry.as_ref().ok());
        }
        let delivery = ingest::deliver_entries(&entries, now());
        assert_eq!(delivery.rejected, [], "{}", case.tool);
    }
    score.judge_identities();
    score.print("declared");
    assert_eq!(score.misses, Vec::<String>::new());
}

#[test]
fn the_general_mapper_understands_most() {
    let mut score = Score::default();
    for case in cases() {
        let entries = case.guess().unwrap_or_default();
        for (index, expected) in case.expected.iter().enumerate() {
            let found = entries.get(index).and_then(|it| it.as_ref().ok());
            score.judge(&case.tool, expected, found);
        }
        for it in entries.iter().flatten() {
            assert_eq!(it.labels["mapped_by"], "guess");
            assert!(it.annotations.contains_key("raw") && it.confidence <= 1000);
        }
        assert_eq!(ingest::deliver_entries(&entries, now()).rejected, [], "{}", case.tool);
    }
    score.judge_identities();
    score.print("guessed");
    for (field, least) in GUESSED_MIN {
        let percent = score.percent(field);
        assert!(percent >= least, "{field}: {percent} %, not {least} %");
    }
}

#[test]
fn a_suggestion_is_a_mapping_that_does_what_the_guess_did() {
    for case in cases().into_iter().filter(|it| !it.may_be("refused")) {
        let text =
            ingest::suggest_source(&case.body, &case.content_type, ("tried", now())).unwrap();
        let checked = config::rules_from_texts(&[("s.yaml", &text)], Mode::Act);
        let findings: Vec<_> = checked.findings.iter().map(|it| &it.message).collect();
        let rules = checked.value.unwrap_or_else(|| panic!("{}: {findings:?}\n{text}", case.tool));
        let source = rules.sources.first().unwrap();
        let entries = ingest::map_body(source, &case.body, &case.content_type).unwrap();
        let guessed = case.guess().unwrap();
        for (mapped, guessed) in entries.iter().zip(&guessed) {
            let guessed = guessed.as_ref().unwrap();
            let mapped = mapped.as_ref().unwrap_or_else(|it| panic!("{}: {it}\n{text}", case.tool));
            assert!(!mapped.title.is_empty(), "{}\n{text}", case.tool);
            // A title that was cut from a longer text is whole in the mapping.
            let both = [&mapped.title, &guessed.title];
            let both = both.map(|it| it.replace("<b>", "").replace("</b>", ""));
            let first = both[0].lines().next().unwrap_or_default();
            let alike = both[0].contains(both[1].as_str()) || both[1].contains(first);
            assert!(alike, "{}: {both:?}", case.tool);
            let states = [mapped.is_firing, guessed.is_firing];
            assert!(states[0] == states[1], "{}: {states:?}\n{text}", case.tool);
        }
    }
}

/// A mapping that was made of one body says of the other bodies of its tool what the guess says of them.
#[test]
fn a_suggestion_understands_the_end_of_what_it_was_made_of() {
    let all = cases();
    let (mut right, mut count) = (0, 0);
    for case in all.iter().filter(|it| it.may_be_only("alert")) {
        let text =
            ingest::suggest_source(&case.body, &case.content_type, ("tried", now())).unwrap();
        let source = config::rules_from_texts(&[("s.yaml", &text)], Mode::Act).value.unwrap();
        let source = source.sources.first().unwrap().clone();
        let others = all.iter().filter(|it| it.tool == case.tool && it.body != case.body);
        for other in others.filter(|it| it.may_be_only("alert")) {
            let state = |entries: Result<Vec<Result<Mapped, String>>, String>| {
                Some(entries.ok()?.first()?.as_ref().ok()?.is_firing)
            };
            let mapped = state(ingest::map_body(&source, &other.body, &other.content_type));
            let is_right = mapped.is_some() && mapped == state(other.guess());
            right += usize::from(is_right);
            count += 1;
            if !is_right {
                println!("{}: {mapped:?}", case.tool);
            }
        }
    }
    println!("suggested: {right} of {count} other bodies");
    assert!(right * 100 >= count * 80, "{right} of {count}");
}

/// What a mapping that was made of one body says of another: a truth, a time, a sentence, a word after others.
#[test]
fn a_suggestion_reads_states_in_each_form() {
    for (made_of, other, is_firing) in [
        (
            r#"{"alert": "Disk", "resolved": false}"#,
            r#"{"alert": "Disk", "resolved": true}"#,
            false,
        ),
        (r#"{"alert": "Disk", "is_down": false}"#, r#"{"alert": "Disk", "is_down": true}"#, true),
        (
            r#"{"alert": "Disk", "resolved_at": null}"#,
            r#"{"alert": "Disk", "resolved_at": "2026-11-20T09:15:00Z"}"#,
            false,
        ),
        (
            r#"{"alert": "Disk", "message": "The disk has failed on a"}"#,
            r#"{"alert": "Disk", "message": "The disk has recovered on a"}"#,
            false,
        ),
        (
            r#"{"alert": "Disk", "event": "disk.triggered"}"#,
            r#"{"alert": "Disk", "event": "disk.resolved"}"#,
            false,
        ),
    ] {
        let text = ingest::suggest_source(made_of.as_bytes(), "", ("tried", now())).unwrap();
        let rules = config::rules_from_texts(&[("s.yaml", &text)], Mode::Act).value.unwrap();
        let source = rules.sources.first().unwrap();
        for (body, is_firing) in [(made_of, !is_firing), (other, is_firing)] {
            let entries = ingest::map_body(source, body.as_bytes(), "application/json").unwrap();
            let found = entries.first().unwrap().as_ref().unwrap();
            assert_eq!(found.is_firing, is_firing, "{body}\n{text}");
        }
    }
}

/// What stands beside a list holds for its entries, in a suggestion too.
#[test]
fn a_suggestion_reads_what_stands_beside_a_list() {
    let body = br#"{"rule_name": "Disk is full", "severity": "critical", "alerts": [
        {"host": "a", "status": "firing", "used": 97}, {"host": "b", "status": "ok", "used": 60}]}"#;
    let text = ingest::suggest_source(body, "", ("tried", now())).unwrap();
    let rules = config::rules_from_texts(&[("s.yaml", &text)], Mode::Act).value.unwrap();
    let source = rules.sources.first().unwrap();
    let entries = ingest::map_body(source, body, "application/json").unwrap();
    let told = |it: &Mapped| (it.title.clone(), it.severity(), it.is_firing);
    let mapped: Vec<_> = entries.iter().map(|it| told(it.as_ref().unwrap())).collect();
    let guessed = ingest::guess_body(body, "application/json", now()).unwrap();
    let guessed: Vec<_> = guessed.iter().map(|it| told(it.as_ref().unwrap())).collect();
    assert_eq!(mapped, guessed, "{text}");
    assert!(mapped[0].0 == "Disk is full" && mapped[0].2 && !mapped[1].2, "{mapped:?}");
}

#[test]
fn broken_bodies_are_refused_with_a_reason() {
    let sources = config::built_in_sources();
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let cut = br#"{"title": "a", "status": "fir"#;
    let bodies: [&[u8]; 12] = [
        b"",
        b"nonsense",
        b"{",
        cut,
        b"\xff\xfe",
        b"null",
        b"7",
        b"\"text\"",
        b"[]",
        b"{}",
        br#"{"alerts": [7, null, []], "event": 5, "data": "x", "incident": [], "Message": "{"}"#,
        deep.as_bytes(),
    ];
    for body in bodies {
        let text = String::from_utf8_lossy(body);
        let reason = ingest::guess_body(body, "application/json", now()).unwrap_err();
        assert!(reason.len() > 10, "{text}: {reason}");
        for source in &sources {
            let name = &source.rule.name;
            match ingest::map_body(source, body, "application/json") {
                Err(reason) => assert!(reason.len() > 10, "{name} {text}: {reason}"),
                Ok(entries) => {
                    let delivery = ingest::deliver_entries(&entries, now());
                    assert_eq!(delivery.alerts, [], "{name} took {text}");
                }
            }
        }
    }
}

/// Bodies whose parts must not be compared with each other: the first took over a minute, the second
/// twelve seconds, when they were.
#[test]
fn large_bodies_are_looked_at_within_bounds() {
    let brackets =
        format!(r#"{{"title": "Queue is long {}", "status": "down"}}"#, "[".repeat(1_000_000));
    let keys: Vec<String> =
        (0..80_000).map(|it| format!("\"servicestatehostnamestatuscheck{it}\": {{}}")).collect();
    let keys = format!(r#"{{"alert_title": "Queue is long", {}}}"#, keys.join(","));
    let lists = vec![r#"{"alerts": [{"x": 1}]}"#; 80_000].join(",");
    let lists = format!(r#"{{"title": "Queue is long", "a": {{"alerts": [{lists}]}}}}"#);
    for (what, body) in [("brackets", brackets), ("keys", keys), ("lists", lists)] {
        let found = ingest::guess_body(body.as_bytes(), "application/json", now());
        let found = found.unwrap_or_else(|reason| panic!("{what}: {reason}"));
        assert_eq!(found.len(), 1, "{what}");
    }
}

#[test]
fn every_body_that_is_cut_or_spoilt_is_read_without_a_panic() {
    let sources = config::built_in_sources();
    for case in cases() {
        let Ok(whole) = serde_json::from_slice::<Value>(&case.body) else { continue };
        for spoilt in spoilt(&whole) {
            let body = serde_json::to_vec(&spoilt).unwrap();
            let guessed = ingest::guess_body(&body, "application/json", now());
            if let Ok(entries) = guessed {
                drop(ingest::deliver_entries(&entries, now()));
            }
            let Some(source) = sources.iter().find(|it| it.rule.name == case.tool) else {
                continue;
            };
            if let Ok(entries) = ingest::map_body(source, &body, "application/json") {
                drop(ingest::deliver_entries(&entries, now()));
            }
        }
    }
}

/// The body with each of its first keys left out, or with a value of another kind.
fn spoilt(whole: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    for key in whole.as_object().into_iter().flat_map(|it| it.keys()) {
        for other in [Value::Null, 7.into(), "x".into(), Value::Array(vec![whole.clone()])] {
            let mut body = whole.clone();
            body[key] = other;
            found.push(body);
        }
        let mut body = whole.clone();
        body.as_object_mut().unwrap().remove(key);
        found.push(body);
    }
    found
}
