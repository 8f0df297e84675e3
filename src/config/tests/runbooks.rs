//! What the reader of runbooks takes, and what it refuses and where.

use super::*;
use crate::domain::rules::Verify;

/// A runbook with one step and something more, on one line.
fn runbook(more: &str) -> String {
    format!("runbooks:\n- {{name: r, steps: [{{id: a, command: {{argv: [x]}}}}], {more}}}\n")
}

fn step(text: &str) -> String {
    format!("runbooks:\n- name: r\n  steps:\n  - {text}\n")
}

#[test]
fn what_is_wrong_with_a_trigger_is_found_with_its_place() {
    let cases: [(&str, &str); _] = [
        (&runbook("triggers: [{event: opened}]"), "WK0106 2:72"),
        (&runbook("triggers: [{event: incident_opened, when: 'a ='}]"), "WK0116 2:95"),
        (&runbook("triggers: [{event: incident_opened, when: 'a == 1'}]"), "WK0116 2:95"),
        (&runbook("triggers: [{event: schedule}]"), "WK0104 2:64"),
        (&runbook("triggers: [{event: schedule, schedule: '0 3 * *'}]"), "WK0117 2:92"),
        (
            &runbook("triggers: [{event: schedule, schedule: '0 3 * * *', time_zone: Mars/X}]"),
            "WK0118 2:116",
        ),
        (
            &runbook("triggers: [{event: schedule, schedule: '0 3 * * *', matchers: ['a=\"b\"']}]"),
            "WK0106 2:115",
        ),
        (&runbook("triggers: [{event: change, schedule: '0 3 * * *'}]"), "WK0106 2:90"),
        (&runbook("triggers: [{event: change, late: 5m}]"), "WK0106 2:86"),
        (&runbook("triggers: [{event: change, quota: {count: 0}}]"), "WK0106 2:95"),
        (&runbook("triggers: [{event: change, quota: 5}]"), "WK0105 2:87"),
        (&runbook("triggers: [{event: change, when: 'changes.id == 1'}]"), "WK0116 2:86"),
    ];
    compare(&cases, findings);
}

#[test]
fn what_is_wrong_with_what_is_waited_for_is_found_with_its_place() {
    let cases: [(&str, &str); _] = [
        (&step("{id: a, wait: {}}"), "WK0104 4:19"),
        (&step("{id: a, wait: {until: {wait: 5s}}}"), "WK0104 4:27|WK0103 4:28"),
        (&step("{id: a, wait: {until: {http: {url: 'http://a/'}}, every: 10m}}"), "WK0106 4:19"),
        (&step("{id: a, wait: {until: {http: {url: 'http://a/'}}, within: 2d}}"), "WK0106 4:63"),
        (
            &step("{id: a, wait: {until: {http: {url: 'http://a/'}}}, retry: {attempts: 2}}"),
            "WK0106 4:63",
        ),
    ];
    compare(&cases, findings);
}

#[test]
fn what_is_wrong_with_a_runbook_is_found_with_its_place() {
    let cases: [(&str, &str); _] = [
        (&runbook("mode: fast"), "WK0106 2:59"),
        (&runbook("lock: '{{ parameters.unit }}'"), "WK0115 2:59"),
        (&runbook("parameters: {a: {value: x, pattern: '('}}"), "WK0112 2:89"),
        (&runbook("parameters: {a-b: {value: x, pattern: x}}"), "WK0108 2:66"),
        (&runbook("guards: {cooldown: soon}"), "WK0113 2:72"),
        (&runbook("guards: {max_runs: {count: 0, per: 1h}}"), "WK0106 2:80"),
        (&runbook("guards: {cooldown: 1m, cooldown_max: 10s}"), "WK0106 2:90"),
        (&runbook("guards: {breaker: {per: 1h}}"), "WK0104 2:71"),
        (&runbook("guards: {at_once: 0}"), "WK0106 2:71"),
        (&runbook("guards: {at_most: 1}"), "WK0103 2:62"),
        (&step("{id: a, command: {argv: [sudo, x]}}"), "WK0207 4:29"),
        (&step("{id: a, command: {argv: [x], limits: {processes: 0}}}"), "WK0106 4:54"),
        (&step("{id: a, command: {argv: [x], environment: {WATCHKEEPER_A: b}}}"), "WK0108 4:48"),
        (&step("{id: a, command: {argv: [x], paths: {write: [tmp]}}}"), "WK0106 4:50"),
        (&step("{id: a, command: {argv: [x], landlock: required}}"), "WK0104 4:44"),
        (&step("{id: a, command: {argv: [x], paths: {}, new_privileges: true}}"), "WK0106 4:41"),
        (&runbook("verify: {settle: 1m, within: 10s, alerts_resolved: true}"), "WK0106 2:82"),
        (&runbook("verify: {alerts_resolved: yes}"), "WK0104 2:61|WK0105 2:79"),
        (&runbook("verify: {query: {source: a}}"), "WK0104 2:61|WK0104 2:69"),
        (
            &runbook("verify: {query: {source: a, promql: 'up{a=\"{{ labels.x }}\"}'}}"),
            "WK0106 2:89",
        ),
        (&runbook("verify: {query: {source: a, promql: up, assert: 'x > 1'}}"), "WK0116 2:101"),
        (&runbook("verify: {on_ineffective: [shout], command: {argv: [x]}}"), "WK0106 2:79"),
        (&runbook("verify: {within: 10s, hold: 1m, command: {argv: [x]}}"), "WK0106 2:70"),
        (&runbook("always: [{id: a, command: {argv: [x]}}]"), "WK0109 2:67"),
        ("runbooks: [{name: r, steps: []}]\n", "WK0106 1:29"),
        (&step("{id: a}"), "WK0104 4:5"),
        (&step("{id: a, command: {argv: []}}"), "WK0106 4:29"),
        (&step("{id: a, command: {argv: ['{{ labels.program }}']}}"), "WK0106 4:30"),
        (&step("{id: a, command: {argv: [x, '{{ parameters.no }}']}}"), "WK0115 4:33"),
        (&step("{id: a, command: {argv: [x]}, undo: {}}"), "WK0104 4:41"),
        (&step("{id: a, command: {argv: [x]}, undo: {wait: 1s, if: 'true'}}"), "WK0103 4:52"),
        (&step("{id: a, command: {argv: [x]}, wait: 1s}"), "WK0104 4:5"),
        (&step("{id: a/b, command: {argv: [x]}}"), "WK0108 4:10"),
        (&step("{id: a, command: {argv: [x]}, if: 'lables.a == 1'}"), "WK0116 4:39"),
        (&step("{id: a, command: {argv: [x]}, if: ''}"), "WK0106 4:39"),
        (&step("{id: a, command: {argv: [x]}, continue_on_error: 1}"), "WK0105 4:54"),
        (&step("{id: a, command: {argv: [x]}, look: {command: {argv: [y]}}}"), "WK0106 4:41"),
        (
            &step("{id: a, command: {argv: [x]}, idempotency: check_then_act, look: {}}"),
            "WK0104 4:70",
        ),
        (&step("{id: a, wait: 0s}"), "WK0113 4:19"),
        (&step("{id: a, set: {n: {value: '{{ steps.x.output }}', pattern: '('}}}"), "WK0112 4:63"),
        (&step("{id: a, set: {n: {value: '{{ labels.x }}'}}}"), "WK0104 4:22"),
        (&step("{id: a, command: {argv: [x, '{{ steps.a.output }}']}}"), "WK0115 4:33"),
        (
            &step(
                "{id: a, command: {argv: [x, '{{ parameters.n }}']}}\n  - {id: b, set: {n: {value: x, pattern: x}}}",
            ),
            "WK0115 4:33",
        ),
        (&step("{id: a, notify: {receiver: nobody, text: x}}"), "WK0110 4:32"),
        (&step("{id: a, notify: {text: x}}"), "WK0104 4:21"),
        (&step("{id: a, http: {url: 'http://h/', expect_status: [999]}}"), "WK0106 4:54"),
        (&step("{id: a, http: {url: nowhere}}"), "WK0120 4:25"),
        (&step("{id: a, command: {argv: [x]}, retry: {attempts: 0}}"), "WK0106 4:53"),
        (&step("{id: a, command: {argv: [x]}}\n  - {id: a, command: {argv: [x]}}"), "WK0109 5:10"),
    ];
    compare(&cases, findings);
}

#[test]
fn what_is_wrong_with_steps_that_ask_call_or_reach_further_is_found() {
    let cases: [(&str, &str); _] = [
        (&runbook("guards: {blast_radius: {}}"), "WK0104 2:76"),
        (&runbook("guards: {blast_radius: {share: 0.5}}"), "WK0106 2:84"),
        (&runbook("guards: {blast_radius: {items: 1, unknown: maybe}}"), "WK0106 2:96"),
        (&step("{id: a, for_each: {in: [b], as: b}, command: {argv: [x]}}"), "WK0104 4:23"),
        (&step("{id: a, for_each: {in: [b], as: b, pattern: b}, wait: 1s}"), "WK0106 4:5"),
        (
            &step("{id: a, for_each: {in: [b], as: a-b, pattern: b}, runbook: r}"),
            "WK0108 4:37|WK0106 4:64",
        ),
        (&step("{id: a, runbook: nobody}"), "WK0110 4:22"),
        (&step("{id: a, runbook: r}"), "WK0106 4:22"),
        (
            &step(
                "{id: a, runbook: {name: s, parameters: {b: c}}}\n- name: s\n  steps: [{id: a, wait: 1s}]",
            ),
            "WK0110 4:45",
        ),
        (&step("{id: a, change: {service: x}}"), "WK0104 4:21"),
        (&step("{id: a, ssh: {argv: [x]}}"), "WK0104 4:18"),
        (&step("{id: a, ssh: {host: h, port: 0, argv: [x]}}"), "WK0106 4:34"),
        (&step("{id: a, kubernetes: {arguments: ['{{ labels.x }}']}}"), "WK0106 4:38"),
        (&step("{id: a, ansible: {playbook: '{{ parameters.x }}'}}"), "WK0106 4:33"),
        (&step("{id: a, command: {argv: [x], user: '{{ labels.x }}'}}"), "WK0108 4:40"),
        (&step("{id: a, approval: yes}"), "WK0105 4:23"),
        (&step("{id: a, approval: {people: 0}}"), "WK0106 4:32"),
        (&step("{id: a, approval: {role: viewer}}"), "WK0106 4:30"),
        (&step("{id: a, approval: {expires: 1m, remind: 1m}}"), "WK0106 4:45"),
        (&step("{id: a, approval: {receiver: nobody}}"), "WK0110 4:34"),
        (&step("{id: a, approval: {text: '{{ lables.x }}'}}"), "WK0115 4:30"),
        (&runbook("mode: auto, approval: {people: 2}"), "WK0106 2:75"),
    ];
    compare(&cases, findings);
}

/// Everything that a step can say.
const STEPS: &str = r#"
receivers: [{name: hook, webhook: {url: "http://127.0.0.1/x"}}]
runbooks:
  - name: r
    parameters: {unit: {value: "{{ labels.unit }}", pattern: '^[a-z]+$'}}
    steps:
      - {id: size, command: {argv: [du, -s, /var]}, continue_on_error: true}
      - {id: take, set: {kilobytes: {value: "{{ steps.size.output }}", pattern: '^[0-9]+$'}}}
      - {id: rest, wait: 5s, if: "parameters.kilobytes != '0' && steps.size.exit_code == 0"}
      - id: stop
        command: {argv: [systemctl, stop, "{{ parameters.unit }}"]}
        idempotency: check_then_act
        look: {command: {argv: [systemctl, is-failed, "{{ parameters.unit }}"]}}
        undo: {command: {argv: [systemctl, start, "{{ parameters.unit }}"]}, timeout: 5s,
               retry: {attempts: 3}, idempotency: idempotent}
      - {id: tell, notify: {receiver: hook, text: "{{ parameters.kilobytes }}"}}
    verify:
      settle: 1s
      within: 2m
      every: 5s
      hold: 30s
      http: {url: "http://h/health"}
      query: {source: prod, promql: 'up{unit="{{ parameters.unit }}"}', assert: "value == 1.0"}
      on_ineffective: [undo]
    always:
      - {id: last, command: {argv: [echo, "{{ parameters.kilobytes }}"]}}
"#;

#[test]
fn everything_that_a_step_can_say_is_read() {
    let checked = read(STEPS);
    assert_eq!(checked.findings, []);
    let rules = checked.value.unwrap();
    let runbook = rules.runbook("r").unwrap();
    let [size, take, rest, stop, tell] = runbook.steps.as_slice() else { panic!("not five") };
    assert!(size.continue_on_error && size.undo.is_none());
    assert!(matches!(&take.action, Action::Set { values } if values.contains_key("kilobytes")));
    assert_eq!(rest.action, Action::Wait { seconds: 5 });
    assert!(rest.condition.starts_with("parameters.kilobytes"));
    assert_eq!(stop.look.as_ref().and_then(Action::argv).unwrap()[1], "is-failed");
    let undo = stop.undo.as_ref().unwrap();
    assert_eq!((undo.id.as_str(), undo.attempts, undo.timeout_seconds), ("stop", 3, 5));
    assert!(matches!(&tell.action, Action::Notify { receiver, .. } if receiver == "hook"));
    assert_eq!(runbook.always[0].id, "last");
    let verify = runbook.verify.as_ref().unwrap();
    let expected = Verify {
        settle_seconds: 1,
        within_seconds: 120,
        every_seconds: 5,
        hold_seconds: 30,
        undo: true,
        looks: verify.looks.clone(),
        ..Verify::default()
    };
    assert_eq!(*verify, expected);
    assert!(matches!(&verify.looks[1], Action::Query { source, .. } if source == "prod"));
    assert_eq!(verify.looks[0].request(), Some(("GET", "http://h/health")));
}

#[test]
fn a_destination_that_is_not_allowed_is_a_warning_where_settings_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.yaml", &step("{id: a, http: {url: 'http://one/{{ labels.x }}'}}"));
    write(
        "b.yaml",
        &step("{id: a, http: {url: 'http://two:8080/x'}}").replace("name: r", "name: s"),
    );
    let checked = check_paths(&[folder.path().to_owned()]);
    assert_eq!(checked.findings, []);
    write(SETTINGS_FILE, "http_allow: ['two:8080']\n");
    let checked = check_paths(&[folder.path().to_owned()]);
    assert_eq!(places(&checked.findings), ["WK0203 4:25"]);
    assert_eq!(checked.files, 3);
    assert!(checked.value.is_some());
}
