//! The page in a real browser: it lists, renews, obeys, and lets nothing hostile in.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![expect(clippy::print_stderr, reason = "a failed test shows what the daemon said")]

#[path = "browser/chromium.rs"]
mod chromium;
#[expect(dead_code, reason = "shared with other tests, which use more of it")]
#[path = "daemon/http.rs"]
mod http;
#[expect(dead_code, reason = "shared with other tests, which use more of it")]
#[path = "daemon/support.rs"]
mod support;

use chromium::Chromium;
use serde_json::{Value, json};
use std::time::Duration;
use support::{BY_SERVICE, Daemon, SOON, eventually};

/// How soon the page must show what it found out; with what a busy machine adds.
const A_FEW_SECONDS: Duration = Duration::from_secs(10);
const HOSTILE: &str = "<img src=x onerror=\"window.hacked=1\">";

/// One runbook that waits for a yes.
const WITH_APPROVAL: &str = "
runbooks:
  - name: say-hello
    mode: approve
    triggers: [{event: incident_opened}]
    parameters: {service: {value: '{{ labels.service }}', pattern: '^[a-z]+$'}}
    steps:
      - {id: hello, command: {argv: [echo, '{{ parameters.service }}']}, timeout: 10s}
";

fn open_page(daemon: &Daemon) -> Chromium {
    let mut browser = Chromium::start();
    browser.open(&format!("http://{}/", daemon.address));
    browser.wait_until("document.querySelector('.live.good')", A_FEW_SECONDS);
    browser
}

fn alert(alertname: &str, service: &str) -> Value {
    json!({"labels": {"alertname": alertname, "service": service, "severity": "critical"}})
}

/// An expression: whether a table's row speaks of all these words.
fn row_with(words: &[&str]) -> String {
    format!(
        "[...document.querySelectorAll('#rows tr')]\
         .some((it) => {}.every((word) => it.innerText.includes(word)))",
        json!(words)
    )
}

#[test]
fn an_incident_is_listed_renewed_and_acknowledged() {
    let daemon = Daemon::start(BY_SERVICE);
    let mut browser = open_page(&daemon);
    let steps = browser.value("document.getElementById('first-steps').innerText");
    let steps = steps.as_str().unwrap();
    assert!(steps.contains(&daemon.address.to_string()), "no next step: {steps}");

    daemon.deliver(&[alert("QueueStuck", "mailer")]);
    let told = ["INC-1", "QueueStuck on mailer", "critical", "P3", "mailer", "Open"];
    browser.wait_until(&row_with(&told), A_FEW_SECONDS);
    assert_eq!(browser.value("document.getElementById('first-steps').hidden"), true);

    daemon.deliver(&[alert("DiskFull", "orders")]);
    browser.wait_until(&row_with(&["INC-2", "DiskFull on orders"]), A_FEW_SECONDS);
    daemon.done("/api/v1/incidents/INC-2/ack", &json!({"by": "ann"}));
    browser.wait_until(&row_with(&["INC-2", "Acknowledged", "ann"]), A_FEW_SECONDS);

    // The first click asks for a name; the second one knows it.
    browser.value("document.querySelector('[aria-label=\"Acknowledge INC-1\"]').click()");
    browser.value(
        "document.getElementById('ask-name').value = 'bob', \
         document.querySelector('#ask [value=yes]').click()",
    );
    browser.wait_until(&row_with(&["INC-1", "Acknowledged", "bob"]), A_FEW_SECONDS);
    assert_eq!(daemon.get("/api/v1/incidents/INC-1")["owner"], "bob");
    daemon.deliver(&[alert("QueueStuck", "search")]);
    let click = "document.querySelector('[aria-label=\"Acknowledge INC-3\"]')";
    browser.wait_until(click, A_FEW_SECONDS);
    browser.value(&format!("{click}.click()"));
    browser.wait_until(&row_with(&["INC-3", "Acknowledged", "bob"]), A_FEW_SECONDS);

    daemon.done("/api/v1/incidents/INC-2/resolve", &json!({"by": "ann", "reason": "done"}));
    browser.wait_until(&format!("!{}", row_with(&["INC-2"])), A_FEW_SECONDS);
    let over = "document.getElementById('past').innerText.includes('DiskFull on orders')";
    browser.wait_until(over, A_FEW_SECONDS);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn a_waiting_run_is_approved_and_another_denied() {
    let daemon = Daemon::start(&[BY_SERVICE, WITH_APPROVAL].concat());
    let mut browser = open_page(&daemon);
    browser.value("document.getElementById('name').value = 'ann'");
    daemon.deliver(&[alert("QueueStuck", "mailer"), alert("QueueStuck", "search")]);
    for (id, verb) in [("EXE-1", "Approve"), ("EXE-2", "Deny")] {
        let button = format!("document.querySelector('[aria-label=\"{verb} {id}\"]')");
        browser.wait_until(&button, A_FEW_SECONDS);
        browser.value(&format!("{button}.click()"));
    }
    browser.wait_until("document.getElementById('waiting').hidden", A_FEW_SECONDS);
    let state = |id: &str| daemon.get(&format!("/api/v1/executions/{id}"))["state"].clone();
    eventually("the run has ended", SOON, || (state("EXE-1") == "succeeded").then_some(()));
    assert_eq!(state("EXE-2"), "denied");
    assert_eq!(daemon.get("/api/v1/executions/EXE-1")["decided_by"], "ann");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn hostile_labels_are_text_and_the_policy_holds() {
    let daemon = Daemon::start(BY_SERVICE);
    let mut browser = open_page(&daemon);
    daemon.deliver(&[alert(HOSTILE, "<b>shop</b>")]);
    browser.wait_until(&row_with(&[HOSTILE, "<b>shop</b>"]), A_FEW_SECONDS);
    assert_eq!(browser.value("document.querySelectorAll('#rows img, #rows b').length"), 0);
    assert_eq!(browser.value("window.hacked === undefined"), true);
    assert_eq!(browser.complaints(), [""; 0]);

    // What came in by some other way could still not run; and we would hear of it.
    browser.value(
        "document.body.append(Object.assign(document.createElement('script'), \
         {textContent: 'window.hacked = 1'}))",
    );
    assert_eq!(browser.value("window.hacked === undefined"), true);
    let complaints = browser.complaints().concat();
    assert!(complaints.contains("Content Security Policy"), "{complaints}");
}

/// Finds the text whose contrast with what lies behind it is below 4.5 to 1, which WCAG 2.2 asks
/// for (1.4.3); buttons that cannot be pressed are exempt.
const PALE_TEXT: &str = r"(() => {
  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = (colour) => numbers(colour).slice(0, 3).map((it) => it / 255)
    .map((it) => (it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4))
    .reduce((sum, it, at) => sum + it * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (it) => {
    const colour = getComputedStyle(it).backgroundColor;
    const isSeen = numbers(colour).length === 3 || numbers(colour)[3] > 0;
    return isSeen || !it.parentElement ? colour : behind(it.parentElement);
  };
  const holdsText = (it) => [...it.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  return [...document.body.querySelectorAll('*')]
    .filter((it) => it.checkVisibility() && holdsText(it) && !it.disabled)
    .map((it) => [it, ...[light(getComputedStyle(it).color), light(behind(it))].sort((a, b) => b - a)])
    .filter(([, high, low]) => (high + 0.05) / (low + 0.05) < 4.5)
    .map(([it]) => it.className + ' ' + it.textContent);
})()";

#[test]
fn both_schemes_are_legible_and_a_phone_is_wide_enough() {
    let daemon = Daemon::start(&[BY_SERVICE, WITH_APPROVAL].concat());
    let alerts: Vec<Value> = ["critical", "error", "warning", "info"]
        .map(|it| json!({"labels": {"alertname": "Down", "service": it, "severity": it}}))
        .into();
    daemon.deliver(&alerts);
    daemon.deliver(&[alert("AVeryLongNameThatNeverEndsAndHasNoPlaceToBreakWithin", "mailer")]);
    daemon.done("/api/v1/incidents/INC-1/resolve", &json!({"by": "ann", "reason": "done"}));
    let mut browser = open_page(&daemon);
    browser.wait_until("document.querySelectorAll('#rows tr').length === 4", A_FEW_SECONDS);
    let mut backgrounds = Vec::new();
    for (scheme, width) in [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)] {
        browser.look(scheme, width);
        let pale = browser.value(PALE_TEXT);
        assert_eq!(pale, json!([]), "{scheme} {width}");
        let scroll = browser.value("document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(scroll <= u64::from(width), "{scroll} pixels in a window of {width}");
        backgrounds.push(browser.value("getComputedStyle(document.body).backgroundColor"));
    }
    assert_ne!(backgrounds[0], backgrounds[1]);
    assert_eq!(browser.complaints(), [""; 0]);
}
