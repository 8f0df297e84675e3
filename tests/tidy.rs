//! The house rules that no compiler checks: who may use whom, sizes, names, words, dependencies.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use regex::Regex;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A source file, with its path from the top.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The module it belongs to: `store` for `src/store.rs` and `src/store/sled.rs`.
    fn module(&self) -> &str {
        let path = self.path.strip_prefix("src/").unwrap_or(&self.path);
        path.split(['/', '.']).next().unwrap()
    }

    /// The text without comments and without the unit tests at the bottom.
    fn code(&self) -> String {
        let end = self.text.find("\n#[cfg(test)]\nmod ").unwrap_or(self.text.len());
        let lines = self.text[..end].lines().filter(|it| !it.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|it| it == "target") {
            // What a tool that is built in its own folder leaves behind.
        } else if path.is_dir() {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources(folder: &str) -> Vec<Source> {
    let sources: Vec<Source> = files_below(&top().join(folder), "rs")
        .into_iter()
        .map(|path| Source {
            text: fs::read_to_string(&path).unwrap(),
            path: path.strip_prefix(top()).unwrap().to_str().unwrap().to_owned(),
        })
        .collect();
    assert!(!sources.is_empty(), "no source below {folder}");
    sources
}

fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

/// A file for the tests of the rules themselves.
fn sample(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

// --- who may use whom ---

/// What a module may use of the crate; `None` = everything.
fn allowed(module: &str) -> Option<&'static [&'static str]> {
    match module {
        "domain" => Some(&[]),
        "telemetry" => Some(&["domain"]),
        "store" | "config" => Some(&["domain", "telemetry"]),
        "act" | "learn" => Some(&["domain", "config", "telemetry"]),
        "ingest" | "api" => Some(&["domain", "engine", "config", "telemetry"]),
        "engine" => Some(&["domain", "config", "store", "act", "learn", "telemetry"]),
        _ => None,
    }
}

/// What whoever reads through the engine's handle may name of the store.
const STORE_WORDS: [&str; 6] = ["self", "Kind", "Object", "Scope", "Health", "Error"];

/// Splits `{a::b, c::{d, e}}` at its outer commas.
fn outer_parts(text: &str) -> Vec<String> {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for letter in text.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth <= 1 => break,
            '}' => depth -= 1,
            _ => {}
        }
        if letter == ',' && depth == 1 {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut()
            && !(letter == '{' && depth == 1)
        {
            last.push(letter);
        }
    }
    parts.iter().map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()).collect()
}

/// Every path into the crate that a file names, from the module on.
fn crate_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, word) in code.match_indices("crate::") {
        let rest = &code[at + word.len()..];
        if rest.starts_with('{') {
            paths.extend(outer_parts(rest));
        } else {
            let end = rest.find([';', ')', '(', ' ', '<', '>']).unwrap_or(rest.len());
            let end = match rest.find("::{") {
                Some(brace) if brace < end => rest.find(';').unwrap_or(rest.len()),
                _ => end,
            };
            paths.push(rest[..end].to_owned());
        }
    }
    paths
}

/// Whether a path names only what readers may name of the store.
fn only_store_words(path: &str) -> bool {
    let rest = path.strip_prefix("store").unwrap_or(path);
    let rest = rest.strip_prefix("::").unwrap_or(rest);
    let words = if rest.starts_with('{') { outer_parts(rest) } else { vec![rest.to_owned()] };
    words.iter().all(|it| {
        let first = it.split("::").next().unwrap();
        first.is_empty() || STORE_WORDS.contains(&first)
    })
}

fn wrong_uses(source: &Source) -> Vec<String> {
    let module = source.module();
    let Some(allowed) = allowed(module) else { return Vec::new() };
    let reads_through_handle = matches!(module, "api" | "ingest" | "learn");
    let mut findings = Vec::new();
    for path in crate_paths(&source.code()) {
        let end = path.find(|it: char| !(it.is_alphanumeric() || it == '_')).unwrap_or(path.len());
        let used = &path[..end];
        let is_module = used.starts_with(|it: char| it.is_lowercase()) && used != "self";
        let excused = used == "store" && reads_through_handle && only_store_words(&path);
        if is_module && used != module && !allowed.contains(&used) && !excused {
            findings.push(format!("{}: `{module}` must not use `{path}`", source.path));
        }
    }
    findings
}

#[test]
fn modules_use_only_what_they_may() {
    let findings: Vec<String> = sources("src").iter().flat_map(wrong_uses).collect();
    assert_none(&findings);
}

#[test]
fn the_rule_on_uses_bites() {
    let cases = [
        ("src/domain/incident.rs", "use crate::engine::Handle;", 1),
        ("src/domain/incident.rs", "// crate::engine is not used", 0),
        ("src/domain/incident.rs", "use crate::domain::label::Labels;", 0),
        ("src/domain/incident.rs", "fn f(it: crate::telemetry::Name) {}", 1),
        (
            "src/store.rs",
            "use crate::{\n    domain::event::Event,\n    config::{Role, Token},\n};",
            1,
        ),
        ("src/api/incidents.rs", "use crate::store::{self, Kind, Scope};", 0),
        ("src/api/incidents.rs", "use crate::store::{Kind, Store};", 1),
        ("src/api/incidents.rs", "fn f(it: crate::store::Error) {}", 0),
        ("src/api/incidents.rs", "use crate::store::sled::Sled;", 1),
        ("src/api/incidents.rs", "x();\n\n#[cfg(test)]\nmod tests {\n    use crate::cli;\n}", 0),
        ("src/engine.rs", "use crate::api::router;", 1),
        ("src/cli/serve.rs", "use crate::{api, engine, ingest};", 0),
    ];
    for (path, text, count) in cases {
        let findings = wrong_uses(&sample(path, text));
        assert_eq!(findings.len(), count, "{path} `{text}`: {findings:?}");
    }
}

// --- first lines, sizes, names ---

fn wrong_first_line(source: &Source) -> Option<String> {
    let first = source.text.lines().next().unwrap_or_default();
    let sentence = first.strip_prefix("//! ").unwrap_or_default();
    let begins = sentence.starts_with(|it: char| it.is_uppercase() || it == '`');
    (!begins).then(|| format!("{}: the first line is not `//! ` and a sentence", source.path))
}

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

fn too_long(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    let lines: Vec<&str> = source.text.lines().collect();
    if lines.len() > FILE_LINES_MAX {
        findings.push(format!("{}: {} lines", source.path, lines.len()));
    }
    let begin = Regex::new(r"^( *)(pub(\([a-z]+\))? )?(const )?(async )?fn (\w+)").unwrap();
    for (number, line) in lines.iter().enumerate() {
        let Some(found) = begin.captures(line) else { continue };
        let end = format!("{}}}", found.get(1).unwrap().as_str());
        if line.ends_with('}') || line.ends_with(';') {
            continue;
        }
        let body = lines.iter().skip(number + 1).take_while(|it| **it != end);
        let counts = |it: &&&str| !it.trim().is_empty() && !it.trim_start().starts_with("//");
        let length = body.filter(counts).count();
        if length > FUNCTION_LINES_MAX {
            let name = found.get(6).unwrap().as_str();
            findings.push(format!("{}:{}: `{name}` has {length} lines", source.path, number + 1));
        }
    }
    findings
}

const NAMES_BANNED: [&str; 7] = ["utils", "util", "common", "manager", "helper", "helpers", "misc"];

fn banned_name(source: &Source) -> Option<String> {
    let banned = source.path.split(['/', '.', '_']).any(|it| NAMES_BANNED.contains(&it));
    banned.then(|| format!("{}: a name that says nothing", source.path))
}

#[test]
fn files_say_what_they_are_and_stay_small() {
    let mut findings = Vec::new();
    for source in ["src", "tests", "benches", "fuzz"].into_iter().flat_map(sources) {
        let source = &source;
        findings.extend(wrong_first_line(source));
        findings.extend(too_long(source));
        findings.extend(banned_name(source));
    }
    assert_none(&findings);
}

#[test]
fn the_rules_on_files_bite() {
    let first = |text| wrong_first_line(&sample("src/x.rs", text)).is_some();
    assert!(first("use std::fs;"));
    assert!(first("//!"));
    assert!(first("// A sentence."));
    assert!(!first("//! A sentence."));
    assert_eq!(too_long(&sample("src/x.rs", &"//! x\n".repeat(501))).len(), 1);
    assert_eq!(too_long(&sample("src/x.rs", &"//! x\n".repeat(500))).len(), 0);
    let function =
        |lines| format!("    pub async fn f() {{\n{}    }}\n", "        g();\n".repeat(lines));
    assert_eq!(too_long(&sample("src/x.rs", &function(71))).len(), 1);
    assert_eq!(too_long(&sample("src/x.rs", &function(70))).len(), 0);
    for path in ["src/utils.rs", "src/common/x.rs", "src/alert_manager.rs", "src/helper.rs"] {
        assert!(banned_name(&sample(path, "")).is_some(), "{path}");
    }
    assert!(banned_name(&sample("src/ingest/alertmanager.rs", "")).is_none());
}

// --- words ---

/// Metric names stand in one place.
fn stray_metric(source: &Source) -> Option<String> {
    let stray = source.module() != "telemetry" && source.code().contains("\"watchkeeper_");
    stray.then(|| format!("{}: names a metric; that is for `telemetry`", source.path))
}

/// What is left to do has a number under which it can be found.
fn todo_without_number(source: &Source) -> Option<String> {
    let word = Regex::new(r"\b(TODO|FIXME|XXX)\b").unwrap();
    let good = Regex::new(r"\b(TODO|FIXME)\(#[0-9]+\)").unwrap();
    let bad = source.text.lines().position(|it| word.is_match(it) && !good.is_match(it));
    bad.map(|it| format!("{}:{}: work without a number", source.path, it + 1))
}

#[test]
fn words_stand_where_they_belong() {
    let mut findings = Vec::new();
    for source in &sources("src") {
        findings.extend(stray_metric(source));
        findings.extend(todo_without_number(source));
    }
    assert_none(&findings);
}

#[test]
fn the_rules_on_words_bite() {
    let name = "let a = \"watchkeeper_alerts_total\";";
    assert!(stray_metric(&sample("src/api/metrics.rs", name)).is_some());
    assert!(stray_metric(&sample("src/telemetry.rs", name)).is_none());
    assert!(stray_metric(&sample("src/telemetry/metrics.rs", name)).is_none());
    assert!(todo_without_number(&sample("src/x.rs", "// TODO: more")).is_some());
    assert!(todo_without_number(&sample("src/x.rs", "// TODO(#12): more")).is_none());
}

// --- the map ---

fn wrong_map(map: &str, modules: &BTreeSet<String>) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = map.lines().count();
    if lines > 200 {
        findings.push(format!("ARCHITECTURE.md: {lines} lines"));
    }
    for module in modules {
        if !map.contains(&format!("`{module}`")) && !map.contains(&format!("src/{module}.rs")) {
            findings.push(format!("ARCHITECTURE.md: does not name `{module}`"));
        }
    }
    findings
}

#[test]
fn the_map_is_short_and_complete() {
    let map = fs::read_to_string(top().join("ARCHITECTURE.md")).unwrap();
    let sources = sources("src");
    let modules = sources.iter().map(|it| it.module().to_owned());
    let modules = modules.filter(|it| it != "lib" && it != "main").collect();
    assert_none(&wrong_map(&map, &modules));
}

#[test]
fn the_rule_on_the_map_bites() {
    let modules = BTreeSet::from(["store".to_owned(), "act".to_owned()]);
    assert_eq!(wrong_map("`store` and src/act.rs", &modules).len(), 0);
    assert_eq!(wrong_map("`store`", &modules).len(), 1);
    assert_eq!(wrong_map(&"`store` `act`\n".repeat(201), &modules).len(), 1);
}

// --- dependencies ---

/// The names under `[dependencies]`.
fn dependencies(manifest: &str) -> Vec<String> {
    let (_, rest) = manifest.split_once("\n[dependencies]\n").unwrap();
    let section = rest.split("\n[").next().unwrap();
    section.lines().filter_map(|it| it.split_once(" =")).map(|it| it.0.to_owned()).collect()
}

fn unused(manifest: &str, code: &str) -> Vec<String> {
    dependencies(manifest)
        .into_iter()
        .filter(|it| {
            let name = it.replace('-', "_");
            !Regex::new(&format!(r"\b{name}(::|;| as )")).unwrap().is_match(code)
        })
        .collect()
}

#[test]
fn every_dependency_is_used() {
    let manifest = fs::read_to_string(top().join("Cargo.toml")).unwrap();
    let code: String = sources("src").iter().map(|it| it.text.clone()).collect();
    assert_eq!(unused(&manifest, &code), Vec::<String>::new());
}

#[test]
fn the_rule_on_dependencies_bites() {
    let manifest =
        "[package]\n\n[dependencies]\na-b = \"1\"\nc = { version = \"1\" }\n\n[lints]\nd = 1\n";
    assert_eq!(unused(manifest, "use a_b::C;"), ["c"]);
    assert_eq!(unused(manifest, "use a_b::C; c::f();"), Vec::<String>::new());
}

/// The entries of a list in `deny.toml`, by the line that begins it.
fn denied_or_allowed(deny: &str, begin: &str) -> BTreeSet<String> {
    let (_, rest) = deny.split_once(begin).unwrap();
    let (list, _) = rest.split_once("\n]").unwrap();
    let entry = Regex::new("\"([^\"]+)\"").unwrap();
    entry.captures_iter(list).map(|it| it.get(1).unwrap().as_str().to_owned()).collect()
}

/// Whether one of the licences that are offered, or all that hold together, are allowed.
fn licence_is_allowed(licence: &str, allowed: &BTreeSet<String>) -> bool {
    let together = licence.contains(" AND ");
    let plain = licence.replace(['(', ')'], "").replace('/', " OR ").replace(" AND ", " OR ");
    let mut parts = plain.split(" OR ").map(str::trim);
    if together {
        parts.all(|it| allowed.contains(it))
    } else {
        parts.any(|it| allowed.contains(it))
    }
}

#[test]
fn what_comes_from_outside_is_allowed() {
    let deny = fs::read_to_string(top().join("deny.toml")).unwrap();
    let allowed = denied_or_allowed(&deny, "allow = [");
    let banned = denied_or_allowed(&deny, "\ndeny = [");
    assert!(allowed.contains("MIT") && banned.contains("openssl-sys"), "deny.toml is read");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(top())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut findings = Vec::new();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50);
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or("none");
        if !licence_is_allowed(licence, &allowed) {
            findings.push(format!("{name}: the licence `{licence}` is not allowed"));
        }
        if banned.contains(name) {
            findings.push(format!("{name}: is banned in deny.toml"));
        }
        let source = package["source"].as_str().unwrap_or("registry+here");
        if !source.starts_with("registry+") {
            findings.push(format!("{name}: comes from `{source}`"));
        }
    }
    assert_none(&findings);
}

#[test]
fn the_rule_on_licences_bites() {
    let allowed = ["MIT", "ISC"].map(str::to_owned).into();
    for (licence, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(MIT OR ISC) AND ISC", true),
        ("none", false),
    ] {
        assert_eq!(licence_is_allowed(licence, &allowed), expected, "{licence}");
    }
}
