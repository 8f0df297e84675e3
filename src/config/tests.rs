//! What the readers of settings and rules take, and what they refuse and where.

mod holds;
mod runbooks;

use super::*;
use crate::domain::rules::{Action, Algorithm, Idempotency, Occasion, RunbookMode};
use crate::domain::service_level::TargetKind;
use proptest::prelude::*;

/// The syntax of the contract, as far as this version does it.
const EVERYTHING: &str = r#"correlations:
  - name: web
    matchers: ['env="prod"']
    group_by: [cluster]
    window: {gap: 5m, max: 4h}
    incident: {title: "{{ labels.alertname }}", severity: from_label, reopen_within: 15m}
priorities: [{matchers: ['tier="1"'], impact: 1, urgency: 2}]
sla_policies:
  - {name: gold, matchers: [], calendar: always, warn_at: [50, 80],
     targets: {P1: {acknowledge: 5m, resolve: 1h}}}
silences: [{name: s, matchers: ['host="a"'], owner: o, reason: r,
            starts_at: 2026-01-01T00:00:00Z, ends_at: 2099-02-01T00:00:00Z}]
receivers: [{name: hook, webhook: {url: "http://127.0.0.1/x"}}]
routes: [{matchers: [], on: [opened, resolved, breached, approval_needed], receiver: hook}]
runbooks:
  - name: restart
    mode: auto
    triggers:
      - {event: incident_opened, matchers: ['alertname="Down"'], when: "incident.priority != 'P1'"}
    parameters: {unit: {value: "{{ labels.unit }}", pattern: '^[a-z0-9@.-]+$'}}
    lock: "{{ parameters.unit }}"
    guards: {cooldown: 10m, max_runs: {count: 3, per: 1h}}
    steps:
      - {id: a, command: {argv: [systemctl, restart, "{{ parameters.unit }}"]}, timeout: 60s,
         retry: {attempts: 2, backoff: 1s}, idempotency: idempotent}
      - {id: b, http: {method: POST, url: "http://h/x", body: "y", expect_status: [200]}}
    verify: {settle: 10s, within: 5m, alerts_resolved: true}
tests:
  - name: one incident
    start: 2026-01-01T00:00:00Z
    input:
      - {at: 60s, resolve: {alertname: Down, severity: critical, unit: web}}
      - {at: 0s, alert: {alertname: Down, severity: critical, unit: web}}
    expect:
      - {at: 30s, incidents: [{state: open, alert_count: 1, rule: web}],
         executions: [{runbook: restart}]}
problem_detection:
  - {name: weekly, schedule: {cron: "0 3 * * mon", time_zone: Europe/Berlin}, look_back: 90d,
     algorithm: dbscan, min_incidents: 3, seed: 7}
"#;

fn read(text: &str) -> Checked<RuleSet> {
    rules_from_texts(&[("rules/a.yaml", text)], Mode::Act)
}

fn read_settings_text(text: &str) -> Checked<Settings> {
    let name = SETTINGS_FILE.to_owned();
    let source = Source { name: name.clone(), relative: name, text: text.to_owned() };
    let files = Files { sources: vec![source], findings: Vec::new() };
    settings::collect(files, Timestamp::now())
}

/// `code line:column`, which is all that a case compares.
fn places(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|it| format!("{} {}:{}", it.code, it.line, it.column)).collect()
}

#[test]
fn the_syntax_of_the_contract_is_read() {
    let checked = read(EVERYTHING);
    assert_eq!(checked.findings, []);
    let rules = checked.value.unwrap();
    let web = &rules.correlations[0];
    assert_eq!(web.rule.to_string(), "web (rules/a.yaml:2)");
    assert_eq!((web.gap_seconds, web.max_seconds, web.reopen_within_seconds), (300, 14_400, 900));
    assert_eq!(rules.correlations.len(), 1, "evidence decides where no rule does");
    assert_eq!(rules.priorities[0].rule.to_string(), "priority 1 (rules/a.yaml:7)");
    let targets = &rules.sla_policies[0].targets[&1];
    assert_eq!((targets[&TargetKind::Acknowledge], targets[&TargetKind::Resolve]), (300, 3600));
    assert_eq!(
        rules.routes[0].on,
        [Occasion::Opened, Occasion::Resolved, Occasion::Breached, Occasion::ApprovalNeeded]
    );
    let runbook = rules.runbook("restart").unwrap();
    assert_eq!(runbook.mode, RunbookMode::Auto);
    assert_eq!(runbook.guards.cooldown_seconds, 600);
    assert_eq!(runbook.steps[0].idempotency, Idempotency::Idempotent);
    assert_eq!((runbook.steps[0].attempts, runbook.steps[0].timeout_seconds), (2, 60));
    assert!(matches!(&runbook.steps[1].action, Action::Http { method, .. } if method == "POST"));
    let detection = &rules.problem_detection[0];
    assert_eq!((detection.incidents_min, detection.algorithm), (3, Algorithm::Dbscan));
    assert_eq!(rules.problem_detection.len(), 1);
    assert_eq!(rules.resolve_timeout_seconds, 300);
}

#[test]
fn tests_are_read_in_order_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    std::fs::write(&path, EVERYTHING).unwrap();
    let tests = read_tests(&[path]).value.unwrap();
    let test = &tests[0];
    assert_eq!((test.rule.name.as_str(), test.rule.line), ("one incident", 29));
    assert!(
        matches!(&test.input[0].fact, TestFact::Fires(labels) if labels.get("unit") == Some("web"))
    );
    assert_eq!(test.input[1].at_seconds, 60);
    let expect = &test.expect[0];
    assert!(expect.incidents_exact);
    assert_eq!(expect.incidents[0].alert_count, Some(1));
    assert_eq!(expect.executions[0].runbook, "restart");
}

#[test]
fn nothing_at_all_gives_the_built_in_rules() {
    for text in ["", "# nothing\n", "---\n", "correlations:\n", "inhibitions: []\n"] {
        let checked = read(text);
        assert_eq!(checked.findings, [], "{text}");
        let rules = checked.value.unwrap();
        assert_eq!(rules.correlations, []);
        assert_eq!(rules.problem_detection[0].cron, "0 */6 * * *");
    }
}

fn silence(times: &str) -> String {
    format!("silences:\n- {{name: s, matchers: [a=b], owner: o, reason: r,\n   {times}}}\n")
}

/// Compares what is found in each text with what is expected, and says all differences.
fn compare(cases: &[(&str, &str)], find: impl Fn(&str) -> Vec<Finding>) {
    let mut wrong = Vec::new();
    for (text, expected) in cases {
        let findings = find(text);
        let found = places(&findings).join("|");
        if found != *expected {
            wrong.push(format!("{expected} but {found}\n{text}{findings:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The findings of a rule file; a set with an error is never given out.
fn findings(text: &str) -> Vec<Finding> {
    let checked = read(text);
    let bad = checked.findings.iter().any(|it| it.level == Level::Error);
    assert_eq!(checked.value.is_none(), bad, "{text}");
    checked.findings
}

#[test]
fn what_is_wrong_is_found_with_its_place() {
    let long = "x".repeat(101);
    let cases: [(&str, &str); _] = [
        ("ignored_evidence: [same_zone, same_moment]", ""),
        ("ignored_evidence: [same_sone]", "WK0106 1:20"),
        ("priorities: [", "WK0102 1:13"),
        ("- a\n", "WK0105 1:1"),
        ("just text\n", "WK0105 1:1"),
        ("correlation: []\n", "WK0103 1:1"),
        ("correlations:\n- name: a\n  treshold: 3\n", "WK0103 3:3"),
        ("correlations:\n- matchers: []\n", "WK0104 2:3"),
        ("correlations: {a: 1}\n", "WK0105 1:15"),
        ("correlations: [x]\n", "WK0105 1:16"),
        ("correlations: [{name: [x]}]\n", "WK0105 1:23"),
        ("correlations: [{name: a/b}]\n", "WK0108 1:23"),
        (&format!("correlations: [{{name: {long}}}]\n"), "WK0108 1:23"),
        ("correlations: [{name: a, matchers: ['1a=b']}]\n", "WK0111 1:37"),
        ("correlations: [{name: a, matchers: ['a=~\"(\"']}]\n", "WK0112 1:37"),
        ("correlations: [{name: a, matchers: a=b}]\n", "WK0105 1:36"),
        ("correlations: [{name: a, group_by: ['...', b]}]\n", "WK0106 1:36"),
        ("correlations: [{name: a, group_by: [b, b]}]\n", "WK0106 1:36"),
        ("correlations: [{name: a, window: {gap: 5}}]\n", "WK0113 1:40"),
        ("correlations: [{name: a, window: {gap: 5m, max: 1m}}]\n", "WK0106 1:49"),
        ("correlations: [{name: a, incident: {title: '{{ labels.a'}}]\n", "WK0115 1:44"),
        ("correlations: [{name: a, incident: {title: '{{ incident.id }}'}}]\n", "WK0115 1:44"),
        ("correlations: [{name: a, incident: {title: ''}}]\n", "WK0106 1:44"),
        ("correlations: [{name: a, incident: {severity: bad}}]\n", "WK0106 1:47"),
        ("correlations: [{name: a, topology: {}}]\n", "WK0202 1:23"),
        ("correlations: [{name: a, topology: {relation: needs}}]\n", "WK0106 1:47"),
        ("correlations: [{name: a, require: x}]\n", "WK0116 1:35"),
        ("correlations: [{name: a, require: 'incident.alert_count'}]\n", "WK0116 1:35"),
        ("correlations: [{name: a, require: \"size(alerts, 1)\"}]\n", "WK0116 1:35"),
        ("correlations: [{name: a, require: \"distinct(alerts, 'a').size() > 1\"}]\n", ""),
        ("priorities: [{impact: 4}]\n", "WK0106 1:23"),
        ("priorities: [{impact: x}]\n", "WK0105 1:23"),
        ("priorities: [{matchers: []}]\n", "WK0104 1:14"),
        ("sla_policies: [{name: a, targets: {P6: {}}}]\n", "WK0106 1:36"),
        ("sla_policies: [{name: a, targets: {}}]\n", "WK0106 1:35"),
        ("sla_policies: [{name: a, targets: {P1: {resolve: 0s}}}]\n", "WK0113 1:50"),
        ("sla_policies: [{name: a, warn_at: [80, 50], targets: {P1: {}}}]\n", "WK0106 1:40"),
        ("sla_policies: [{name: a, warn_at: [100], targets: {P1: {}}}]\n", "WK0106 1:36"),
        ("sla_policies: [{name: a, calendar: office, targets: {P1: {}}}]\n", "WK0107 1:36"),
        (&silence("starts_at: 2026-01-02T00:00:00Z, ends_at: 2026-01-01T00:00:00Z"), "WK0114 3:46"),
        (&silence("starts_at: 2020-01-01T00:00:00Z, ends_at: 2020-01-02T00:00:00Z"), "WK0201 3:46"),
        (&silence("starts_at: today, ends_at: 2099-01-02T00:00:00Z"), "WK0114 3:15"),
        ("receivers: [{name: a, webhook: {url: ftp://x}}]\n", "WK0120 1:38"),
        ("receivers: [{name: a, webhook: {url: {file: a, env: b}}}]\n", "WK0106 1:38"),
        ("routes: [{on: [opened], receiver: nobody}]\n", "WK0110 1:35"),
        ("routes: [{on: [open], receiver: ''}]\n", "WK0106 1:16"),
        ("routes: [{on: [], receiver: ''}]\n", "WK0106 1:15"),
        ("problem_detection: [{name: a, schedule: {cron: '* *'}}]\n", "WK0117 1:48"),
        (
            "problem_detection: [{name: a, schedule: {cron: '* * * * *', time_zone: Nowhere}}]\n",
            "WK0118 1:72",
        ),
        ("tests: [{name: a, input: [], expect: []}]\n", "WK0106 1:38"),
        (
            "tests: [{name: a, input: [{at: 1s}], expect: [{at: 1s, incidents: []}]}]\n",
            "WK0104 1:27",
        ),
        ("slos: [{}]\n", "WK0107 1:1"),
        ("slos: x\n", "WK0107 1:1"),
        ("apiVersion: openslo/v1\nkind: SLO\n", "WK0107 1:1"),
        ("kind: SLO\napiVersion: openslo/v1\n", "WK0107 2:1"),
    ];
    compare(&cases, findings);
}

#[test]
fn settings_that_are_wrong_are_found_with_their_place() {
    let cases: [(&str, &str); _] = [
        ("", ""),
        ("server:\n", ""),
        ("server: {listen: 'localhost:0'}", ""),
        ("server: {listen: '[::1]:9377', external_url: 'https://x/'}", ""),
        ("server: {listen: ':9377'}", "WK0120 1:18"),
        ("server: {listen: '0.0.0.0:9377'}", "WK0121 1:18"),
        ("server: {external_url: x}", "WK0120 1:24"),
        ("server: {lissen: 'x'}", "WK0103 1:10"),
        ("store: {engine: sled, retention: 7d, audit_retention: 2555d}", ""),
        ("store: {engine: redb}", ""),
        ("store: {engine: postgres}", "WK0107 1:17"),
        ("store: {engine: sqlite}", "WK0106 1:17"),
        ("store: {url: 'postgres://x'}", "WK0107 1:9"),
        ("store: {retention: 0d}", "WK0113 1:20"),
        ("mode: on", "WK0106 1:7"),
        ("auth: {tokens: [{name: a, role: admin, token: {env: A}}]}", ""),
        ("auth: {tokens: [{name: a, role: boss, token: {env: A}}]}", "WK0106 1:33"),
        ("auth: {tokens: [{name: a, role: admin, token: geheim}]}", "WK0119 1:47"),
        ("http_allow: ['127.0.0.1:8080', 'host:80', '[::1]:80']", ""),
        ("http_allow: ['10.0.0.0/8', 'fd00::/8', 'a.example:80']", ""),
        ("http_allow: ['10.0.0.0/33']", "WK0120 1:14"),
        ("http_allow: ['http://x']", "WK0120 1:14"),
        ("http_allow: ['x']", "WK0120 1:14"),
        ("prometheus: [{name: a}]", "WK0104 1:14"),
        ("heartbeat_out: {}", "WK0104 1:16"),
        ("executor: {socket: /run/watchkeeper-executor/socket}", ""),
        ("executor: {socket: run/socket}", "WK0106 1:20"),
        ("executor: {}", "WK0104 1:11"),
        ("a: 1\n---\nb: 2\n", "WK0103 1:1|WK0102 3:1"),
    ];
    compare(&cases, |it| read_settings_text(it).findings);
}

#[test]
fn the_engine_of_the_store_is_the_one_that_is_written() {
    for (text, engine) in [("", None), ("store: {engine: sled}", Some("sled"))] {
        assert_eq!(read_settings_text(text).value.unwrap().engine.as_deref(), engine);
    }
}

#[test]
fn a_token_in_the_file_is_not_shown() {
    let text = "auth: {tokens: [{name: a, role: boss, token: geheim}]}";
    let checked = read_settings_text(text);
    assert!(!format!("{:?}", checked.findings).contains("geheim"));
}

#[test]
fn the_door_stays_shut_without_tokens() {
    let settings =
        |listen: &str| Settings { listen: listen.parse().unwrap(), ..Settings::default() };
    for (listen, good) in [
        ("127.0.0.1:1", true),
        ("127.8.8.8:1", true),
        ("[::1]:1", true),
        ("[::ffff:127.0.0.1]:1", true),
        ("0.0.0.0:1", false),
        ("[::]:1", false),
        ("10.0.0.1:1", false),
    ] {
        assert_eq!(settings(listen).validate().is_ok(), good, "{listen}");
    }
    let token = Token { name: "a".into(), role: Role::Viewer, token: SecretText::Env("A".into()) };
    let open = Settings { tokens: vec![token], ..settings("0.0.0.0:1") };
    assert!(open.validate().is_ok());
}

#[test]
fn tokens_are_read_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let token = Token {
        name: "ci".into(),
        role: Role::Admin,
        token: SecretText::File(path.display().to_string()),
    };
    assert!(
        read_token(&token).unwrap_err().to_string().starts_with("cannot read the secret of `ci`")
    );
    std::fs::write(&path, " \n").unwrap();
    assert_eq!(read_token(&token).unwrap_err().to_string(), "the secret is empty: `ci`");
    std::fs::write(&path, "correct horse\n").unwrap();
    assert_eq!(read_token(&token).unwrap(), "correct horse");
}

#[test]
fn one_error_does_not_hide_the_next() {
    let texts = [
        (
            "rules/a.yaml",
            "correlations:\n- {name: x, matchres: []}\n- {name: y, window: {gap: 1}}\n",
        ),
        ("rules/b.yaml", "runbooks:\n- {name: r}\nslos: x\nsilences: [{x: [\n"),
        ("rules/c.yaml", "correlations: [{name: x}]\nroutes: [{on: [opened], receiver: q}]\n"),
    ];
    let checked = rules_from_texts(&texts, Mode::Act);
    assert_eq!(
        places(&checked.findings),
        ["WK0103 2:13", "WK0113 3:27", "WK0104 2:3", "WK0107 3:1", "WK0102 4:16", "WK0109 1:23"]
    );
    let hints: Vec<_> = checked.findings.iter().filter_map(|it| it.hint.as_deref()).collect();
    assert_eq!(hints[0], "did you mean `matchers`?");
    assert!(hints.contains(&"the other one is at rules/a.yaml:2:10"), "{hints:?}");
    assert!(checked.value.is_none());
    assert_eq!(checked.files, 3);
}

#[test]
fn a_newcomers_mistake_is_told_once_and_with_a_way_out() {
    let runbook = |text: &str| format!("runbooks:\n- {{name: r, {text}}}\n");
    let step = |text: &str| runbook(&format!("steps: [{{id: a, {text}}}]"));
    for (text, hints) in [
        ("correlation: []\n".to_owned(), vec!["did you mean `correlations`?"]),
        ("correlations:\n\t- {name: a}\n".to_owned(), vec!["indent with spaces"]),
        (step("command: systemctl restart web"), vec!["write `{argv: [systemctl, restart, web]}`"]),
        (step("command: {argv: date}"), vec!["write `[a, b]`, or a line `- a` for each entry"]),
        (step("command: {argv: [date]}, retry: 3"), vec!["write `{attempts: 3, backoff: 1s}`"]),
        (
            runbook("cooldown: 10m, steps: [{id: a, command: {argv: [date]}}]"),
            vec!["write `guards: {cooldown: …}`"],
        ),
        (
            runbook("steps: [{id: a, command: {argv: [date]}}], parameters: {unit: web}"),
            vec!["write `{value: '{{ labels.NAME }}', pattern: '^[a-z0-9-]+$'}`"],
        ),
        (
            "correlations: [{name: a, group_by: x, window: {gap: 5 minutes}}]\n".to_owned(),
            vec!["write `[a, b]`, or a line `- a` for each entry", "did you mean `5m`?"],
        ),
        (
            silence("starts_at: 2026-01-01T00:00:00Z, ends_at: 2099-01-01T00:00:00Z")
                .replace("[a=b]", "a=b"),
            vec!["write `[a, b]`, or a line `- a` for each entry"],
        ),
    ] {
        let checked = read(&text);
        let found: Vec<_> = checked.findings.iter().filter_map(|it| it.hint.as_deref()).collect();
        assert_eq!(found, hints, "{text}{:?}", checked.findings);
        assert_eq!(checked.findings.len(), hints.len(), "{text}");
    }
}

#[test]
fn many_findings_are_cut_off_but_never_the_first_error() {
    let over = silence("starts_at: 2020-01-01T00:00:00Z, ends_at: 2020-01-02T00:00:00Z");
    let (head, entry) = over.split_once('\n').unwrap();
    let entries = (0..600).map(|it| entry.replace("name: s", &format!("name: s{it}")));
    let text = format!("{head}\n{}wrong: 1\n", entries.collect::<String>());
    let checked = read(&text);
    assert!(checked.value.is_none());
    assert_eq!(checked.findings.len(), 501);
}

#[test]
fn a_finding_shows_its_line_and_marks_it() {
    let checked = read("correlations:\n  - name: a\n    treshold: 3\n");
    assert_eq!(checked.findings[0].snippet, "    treshold: 3\n    ^^^^^^^^");
    assert_eq!(checked.findings[0].message, "unknown field `treshold`");
}

#[test]
fn a_file_alone_may_name_what_its_neighbours_have() {
    let folder = tempfile::tempdir().unwrap();
    let routes = folder.path().join("routes.yaml");
    std::fs::write(&routes, "routes: [{on: [opened], receiver: hook}]\n").unwrap();
    assert_eq!(places(&check_paths(std::slice::from_ref(&routes)).findings), ["WK0110 1:35"]);
    let receivers = "receivers: [{name: hook, webhook: {url: 'http://x/'}}]\nbroken: 1\n";
    std::fs::write(folder.path().join("receivers.yaml"), receivers).unwrap();
    assert_eq!(check_paths(&[routes]).findings, []);
}

#[test]
fn the_repositorys_own_files_are_good() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let paths = ["deploy/watchkeeper.yaml", "rules", "models"].map(|it| root.join(it));
    let checked = check_paths(&paths);
    assert_eq!(checked.findings, []);
    assert!(checked.value.unwrap().runbooks.len() >= 2);
    assert!(read_tests(&paths).value.unwrap().len() >= 5);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC*", name in "[a-z]{1,8}") {
        read(&text);
        read(&format!("correlations: [{{name: {name}, matchers: [{text}]}}]"));
        read_settings_text(&text);
    }

    #[test]
    fn no_damage_to_a_good_file_makes_the_reader_panic(
        at in 0..EVERYTHING.len(), length in 0..20_usize, with in "[ -~\n]{0,4}"
    ) {
        let (from, to) = (at, (at + length).min(EVERYTHING.len()));
        let text = format!("{}{with}{}", &EVERYTHING[..from], &EVERYTHING[to..]);
        let checked = read(&text);
        // Each finding points into the file.
        for finding in &checked.findings {
            prop_assert!(finding.line as usize <= text.lines().count() + 1);
            prop_assert!(finding.line > 0 && finding.column > 0);
        }
    }
}
