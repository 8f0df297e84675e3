//! What a web page of somebody else can send must change nothing.

use crate::support::{BY_SERVICE, Daemon, firing};
use serde_json::json;

const RUNBOOK: &str = "
runbooks:
  - name: touch
    mode: approve
    steps: [{id: a, command: {argv: ['true']}, idempotency: idempotent}]
";

const JSON: (&str, &str) = ("content-type", "application/json");

/// Headers that a browser sends for a page that is not ours, or for a name that is not ours.
fn hostile() -> Vec<Vec<(&'static str, &'static str)>> {
    vec![
        vec![JSON, ("origin", "http://evil.example")],
        vec![JSON, ("origin", "https://127.0.0.1.evil.example")],
        vec![JSON, ("origin", "null")],
        vec![JSON, ("origin", "http://127.0.0.1:1")],
        vec![("content-type", "application/x-www-form-urlencoded"), ("origin", "null")],
        vec![("content-type", "application/x-www-form-urlencoded")],
        vec![("content-type", "text/plain")],
        vec![("content-type", "text/plain; application/json")],
        vec![("content-type", "multipart/form-data; boundary=x")],
        vec![],
        vec![JSON, ("host", "evil.example")],
        vec![JSON, ("host", "evil.example:9377")],
        vec![JSON, ("host", "evil.example"), ("origin", "http://evil.example")],
        vec![JSON, ("host", "127.0.0.1.evil.example")],
    ]
}

#[test]
fn a_foreign_page_changes_nothing() {
    let daemon = Daemon::start(&format!("{BY_SERVICE}{RUNBOOK}"));
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", "shop")])]);
    let incident = daemon.items("/api/v1/incidents").remove(0);
    let id = incident["id"].as_str().unwrap();
    let silence = json!({"matchers": [{"name": "a", "value": "b", "isRegex": false}],
        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z",
        "createdBy": "x", "comment": "x"});
    let attacks = [
        (format!("/api/v1/incidents/{id}/ack"), json!({"by": "evil"})),
        (format!("/api/v1/incidents/{id}/resolve"), json!({"by": "evil", "reason": "x"})),
        ("/api/v1/runbooks/touch/run".to_owned(), json!({"by": "evil", "parameters": {}})),
        ("/api/v2/silences".to_owned(), silence),
    ];
    for headers in hostile() {
        for (path, body) in &attacks {
            let reply = daemon.send("POST", path, &headers, body.to_string().as_bytes());
            let refused = matches!(reply.status, 400 | 403 | 415 | 421);
            assert!(refused, "POST {path} with {headers:?}: {} {}", reply.status, reply.body);
            let allowed = reply.headers.get("access-control-allow-origin");
            assert_eq!(allowed, None, "{headers:?}");
        }
    }
    assert_eq!(daemon.get(&format!("/api/v1/incidents/{id}"))["state"], "open");
    assert!(daemon.items("/api/v1/executions").is_empty());
    assert_eq!(daemon.get("/api/v2/silences"), json!([]));
}

#[test]
fn our_own_page_and_a_program_may() {
    let daemon = Daemon::start(&format!("{BY_SERVICE}{RUNBOOK}"));
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", "shop")])]);
    let incident = daemon.items("/api/v1/incidents").remove(0);
    let path = format!("/api/v1/incidents/{}/ack", incident["id"].as_str().unwrap());
    let origin = format!("http://{}", daemon.address);
    let body = json!({"by": "ann"}).to_string();
    let reply = daemon.send("POST", &path, &[JSON, ("origin", &origin)], body.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.json()["state"], "acknowledged");
    let execution = daemon.done("/api/v1/runbooks/touch/run", &json!({"by": "ann"}));
    assert!(execution["id"].as_str().unwrap().starts_with("EXE-"), "{execution}");
    let host = format!("localhost:{}", daemon.address.port());
    let body = json!({"by": "ann", "text": "hello"}).to_string();
    let path = path.replace("/ack", "/note");
    let json = ("content-type", "application/json; charset=utf-8");
    let reply = daemon.send("POST", &path, &[json, ("host", &host)], body.as_bytes());
    assert_eq!(reply.status, 200, "localhost is ours too: {}", reply.body);
}

#[test]
fn the_page_escapes_what_alerts_say() {
    let daemon = Daemon::start(BY_SERVICE);
    let script = "<script>alert(1)</script>";
    daemon.deliver(&[firing(&[("alertname", script), ("service", "\"><img src=x onerror=a>")])]);
    assert_eq!(daemon.items("/api/v1/incidents").len(), 1);
    let page = daemon.send("GET", "/", &[], b"");
    assert_eq!(page.status, 200);
    assert!(page.headers["content-type"].starts_with("text/html"), "{:?}", page.headers);
    assert!(!page.body.contains(script) && !page.body.contains("<img src=x"), "{}", page.body);
    assert!(page.headers.contains_key("content-security-policy"), "{:?}", page.headers);
}
