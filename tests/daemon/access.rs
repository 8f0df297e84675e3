//! Who may do what, and what the doors say of themselves.

use crate::http;
use crate::support::{BY_SERVICE, Daemon, Options, firing, program};
use serde_json::json;
use std::fs;
use tempfile::TempDir;

const ROLES: [&str; 4] = ["ingest", "viewer", "responder", "admin"];

fn token(role: &str) -> String {
    format!("{role}-0123456789abcdef0123456789abcdef")
}

fn guarded(folder: &TempDir) -> Daemon {
    let mut tokens = Vec::new();
    for role in ROLES {
        let file = folder.path().join(role);
        fs::write(&file, format!("{}\n", token(role))).unwrap();
        let file = file.display();
        tokens.push(format!("{{name: {role}, role: {role}, token: {{file: '{file}'}}}}"));
    }
    let settings = format!("auth: {{tokens: [{}]}}\n", tokens.join(", "));
    let rules = BY_SERVICE.to_owned();
    Daemon::start_with(Options {
        rules,
        settings,
        token: Some(token("admin")),
        ..Options::default()
    })
}

#[test]
fn each_role_may_do_what_it_should_and_no_more() {
    let folder = TempDir::new().unwrap();
    let daemon = guarded(&folder);
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", "shop")])]);
    let id = daemon.items("/api/v1/incidents")[0]["id"].as_str().unwrap().to_owned();
    let alerts = json!([firing(&[("alertname", "Down"), ("service", "shop")])]);
    let note = json!({"by": "x", "text": "y"});
    let note_path = format!("/api/v1/incidents/{id}/note");
    // For ingest, viewer, responder, admin: whether it is let in.
    let table = [
        ("POST", "/api/v2/alerts", alerts, [true, false, true, true]),
        ("GET", "/api/v1/incidents", json!(null), [false, true, true, true]),
        ("GET", "/api/v2/alerts", json!(null), [false, true, true, true]),
        ("POST", note_path.as_str(), note, [false, false, true, true]),
        ("POST", "/-/reload", json!({}), [false, false, false, true]),
    ];
    for (method, path, body, allowed) in table {
        let body = body.to_string();
        let send = |bearer: Option<&str>| {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(bearer.map(|it| ("authorization", it)));
            http::send(daemon.address, method, path, &headers, body.as_bytes()).unwrap()
        };
        assert_eq!(send(None).status, 401, "{method} {path} without a token");
        for wrong in ["Bearer wrong", "Bearer ", "Basic YTpi", "admin"] {
            assert_eq!(send(Some(wrong)).status, 401, "{method} {path} with `{wrong}`");
        }
        for (role, allowed) in ROLES.into_iter().zip(allowed) {
            let reply = send(Some(&format!("Bearer {}", token(role))));
            let expected = if allowed { 200 } else { 403 };
            assert_eq!(reply.status, expected, "{method} {path} as {role}: {}", reply.body);
        }
    }
    let log = daemon.log();
    for role in ROLES {
        assert!(!log.contains(&token(role)), "a token is in the log");
    }
}

#[test]
fn health_needs_no_token() {
    let folder = TempDir::new().unwrap();
    let daemon = guarded(&folder);
    for path in ["/-/healthy", "/-/ready"] {
        let reply = http::send(daemon.address, "GET", path, &[], b"").unwrap();
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    }
}

#[test]
fn the_bearer_is_the_one_who_did_it() {
    let folder = TempDir::new().unwrap();
    let daemon = guarded(&folder);
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", "shop")])]);
    let id = daemon.items("/api/v1/incidents")[0]["id"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {}", token("responder"));
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    let body = json!({"by": "somebody-else"}).to_string();
    let path = format!("/api/v1/incidents/{id}/ack");
    let reply = http::send(daemon.address, "POST", &path, &headers, body.as_bytes()).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    let timeline = daemon.get(&format!("/api/v1/incidents/{id}"))["timeline"].to_string();
    assert!(timeline.contains("responder"), "{timeline}");
}

#[test]
fn beyond_loopback_it_does_not_start_without_tokens() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let rules = folder.path().join("rules");
    let data = data.to_str().unwrap();
    let rules = rules.to_str().unwrap();
    let printed = program(&["serve", "--listen", "0.0.0.0:0", "--data", data, "--rules", rules]);
    assert_eq!(printed.code, 2, "{printed:?}");
    assert!(printed.stderr.contains("token"), "{printed:?}");
}

#[test]
fn the_api_document_is_true() {
    let daemon = Daemon::start(BY_SERVICE);
    daemon.deliver(&[firing(&[("alertname", "Down"), ("service", "shop")])]);
    let incident = daemon.items("/api/v1/incidents").remove(0);
    let document = daemon.get("/api/v1/openapi.json");
    assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{document}");
    let paths = document["paths"].as_object().unwrap();
    for noun in ["alerts", "incidents", "silences", "problems", "runbooks", "executions"] {
        assert!(paths.contains_key(&format!("/api/v1/{noun}")), "no path for {noun}");
    }
    let mut asked = 0;
    for (path, operations) in paths {
        if operations.get("get").is_none() || path.contains("stream") {
            continue;
        }
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/') {
            parts.push(if part.starts_with('{') { incident["id"].as_str().unwrap() } else { part });
        }
        let path = parts.join("/");
        let reply = daemon.send("GET", &path, &[], b"");
        let fine = matches!(reply.status, 200 | 400 | 404);
        assert!(fine, "GET {path}: {} {}", reply.status, reply.body);
        // A preview cannot be had without a question.
        let asks = path.ends_with("/preview") || path.contains("INC-");
        if !operations["get"].to_string().contains("\"in\":\"path\"") && !asks {
            assert_eq!(reply.status, 200, "GET {path}: {}", reply.body);
        }
        let documented = &operations["get"]["responses"];
        let known = documented.get(reply.status.to_string()).or_else(|| documented.get("default"));
        assert!(known.is_some(), "GET {path}: status {} is not documented", reply.status);
        asked += 1;
    }
    assert!(asked >= 8, "only {asked} paths");
}

#[test]
fn the_listings_have_pages() {
    let daemon = Daemon::start(BY_SERVICE);
    for number in 0..7 {
        let service = format!("s{number}");
        daemon.deliver(&[firing(&[("alertname", "Down"), ("service", &service)])]);
    }
    let first = daemon.get("/api/v1/incidents?limit=3");
    assert_eq!(first["items"].as_array().unwrap().len(), 3);
    let mut ids = Vec::new();
    let mut path = "/api/v1/incidents?limit=3".to_owned();
    loop {
        let page = daemon.get(&path);
        for item in page["items"].as_array().unwrap() {
            ids.push(item["id"].as_str().unwrap().to_owned());
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/v1/incidents?limit=3&cursor={cursor}");
    }
    assert_eq!(ids, ["INC-7", "INC-6", "INC-5", "INC-4", "INC-3", "INC-2", "INC-1"]);
    assert_eq!(daemon.items("/api/v1/incidents?service=s3").len(), 1);
    assert_eq!(daemon.items("/api/v1/incidents?state=resolved").len(), 0);
    let bad = daemon.send("GET", "/api/v1/incidents?state=nonsense", &[], b"");
    assert_eq!(bad.status, 400, "{}", bad.body);
}

#[test]
fn a_reload_that_somebody_asks_for_is_told_under_his_name() {
    let folder = TempDir::new().unwrap();
    let daemon = guarded(&folder);
    let mut tries = 0;
    crate::support::eventually("it is told", crate::support::SOON, || {
        tries += 1;
        // The files are watched, too; who asks at once is mostly before that.
        daemon.write_rules(&format!("{BY_SERVICE}# {tries}\n"));
        assert_eq!(daemon.post("/-/reload", &json!({})).status, 200);
        let entries = daemon.items("/api/v1/audit?action=rules_loaded");
        entries.iter().any(|it| it["by"] == "admin").then_some(())
    });
    let first = daemon.all_items("/api/v1/audit").pop().unwrap();
    assert_eq!(
        (first["by"].as_str(), first["action"].as_str()),
        (Some("watchkeeper"), Some("rules_loaded"))
    );
}
