//! Changes: told by pipelines and by people, kept, listed, explained, there again after a crash.

use crate::http;
use crate::support::{Daemon, Options, SOON, eventually};
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Stdio};
use tempfile::TempDir;

fn changes(daemon: &Daemon) -> Vec<Value> {
    daemon.items("/api/v1/changes")
}

/// A `deployment_status` as GitHub sends it.
fn deployment(id: u64, state: &str) -> Value {
    json!({"action": "created", "deployment_status": {"id": id * 10, "state": state,
            "created_at": "2026-11-22T10:00:00Z", "target_url": "https://ci.example.org/7",
            "environment": "production"},
        "deployment": {"id": id, "sha": "a10867b14bb761a232cd80139fbd4c0d33264240",
            "environment": "production", "creator": {"login": "ada"},
            "created_at": "2026-11-22T09:59:00Z"},
        "repository": {"name": "shop", "full_name": "acme/shop",
            "html_url": "https://github.example.org/acme/shop"},
        "sender": {"login": "ada"}})
}

/// The signature that GitHub puts beside a body, by the program that people check it with.
pub(crate) fn sign(secret: &str, body: &str) -> String {
    let mut child = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", secret, "-r"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start `openssl`: {error}; see tests/run"));
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), body.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    format!("sha256={}", text.split(' ').next().unwrap())
}

#[test]
fn github_tells_of_a_deployment_signed_and_once() {
    let folder = TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "key").unwrap();
    let rules = format!(
        "sources: [{{name: github, hmac: {{style: github, secret: {{file: '{}'}}}}}}]\n",
        secret.display()
    );
    let mut daemon = Daemon::start_with(Options { rules, ..Options::default() });
    let send = |daemon: &Daemon, body: &Value, number: &str, secret: &str| {
        let body = body.to_string();
        let signature = sign(secret, &body);
        let headers = [
            ("content-type", "application/json"),
            ("x-github-event", "deployment_status"),
            ("x-github-delivery", number),
            ("x-hub-signature-256", &signature),
        ];
        http::send(daemon.address, "POST", "/ingest/github", &headers, body.as_bytes()).unwrap()
    };
    assert_eq!(send(&daemon, &deployment(7, "in_progress"), "1", "wrong").status, 401);
    assert!(changes(&daemon).is_empty());
    let reply = send(&daemon, &deployment(7, "in_progress"), "1", "key");
    assert_eq!((reply.status, reply.json()["changes"].clone()), (200, json!(1)));
    assert_eq!(changes(&daemon)[0]["state"], "running");
    assert_eq!(send(&daemon, &deployment(7, "success"), "2", "key").status, 200);
    let again = send(&daemon, &deployment(7, "in_progress"), "1", "key");
    assert_eq!(again.json()["duplicate"], true);
    assert_eq!(send(&daemon, &deployment(7, "inactive"), "3", "key").json()["left_out"], 1);
    daemon.kill_9();
    daemon.restart();
    // Also after a start, which has forgotten the numbers of deliveries.
    assert_eq!(send(&daemon, &deployment(7, "in_progress"), "1", "key").status, 200);
    assert_eq!(send(&daemon, &deployment(8, "failure"), "4", "key").status, 200);
    let [failed, done] = &changes(&daemon)[..] else { panic!("{:?}", changes(&daemon)) };
    assert_eq!((&failed["id"], &failed["state"]), (&json!("CHG-2"), &json!("failed")));
    let expected = json!({"id": "CHG-1", "external_id": "7", "kind": "normal", "state": "done",
        "title": "deployment of acme/shop to production", "service": "shop",
        "environment": "production", "version": "a10867b14bb761a232cd80139fbd4c0d33264240",
        "author": "ada", "time": "2026-11-22T10:00:00Z", "link": "https://ci.example.org/7",
        "source": "github", "received_at": done["received_at"], "updated_at": done["updated_at"],
        "freezes": [], "execution": null});
    assert_eq!(*done, expected);
    daemon.metric_becomes("watchkeeper_changes_total", &[("kind", "normal")], 1.0);
    assert!(daemon.items("/api/v1/alerts").is_empty(), "a change is no alert");
}

#[test]
fn each_pipeline_tells_in_its_own_way() {
    let daemon = Daemon::start("");
    for (source, body, service, version, state) in [
        (
            "github",
            json!({"action": "published", "release": {"id": 1, "tag_name": "v1.2",
                    "html_url": "https://g.example.org/r", "published_at": "2026-11-22T10:00:00Z",
                    "author": {"login": "ada"}},
                "repository": {"name": "api", "full_name": "acme/api"}}),
            "api",
            "v1.2",
            "done",
        ),
        (
            "github",
            json!({"action": "completed", "workflow_run": {"id": 5, "name": "Deploy to production",
                    "conclusion": "failure", "head_sha": "abc", "html_url": "https://g.example.org/w",
                    "run_started_at": "2026-11-22T10:00:00Z", "actor": {"login": "bob"}},
                "repository": {"name": "web", "full_name": "acme/web"}}),
            "web",
            "abc",
            "failed",
        ),
        (
            "gitlab",
            json!({"object_kind": "deployment", "status": "running", "deployment_id": 15,
                "status_changed_at": "2026-11-22 10:00:00 +0200", "environment": "staging",
                "short_sha": "279484c0", "user": {"username": "root"},
                "project": {"name": "test", "path_with_namespace": "acme/test",
                    "web_url": "https://l.example.org/acme/test"}}),
            "test",
            "279484c0",
            "running",
        ),
        (
            "argocd",
            json!({"app": "cart", "project": "default", "trigger": "on-deployed",
                "health": "Healthy", "sync": "Succeeded", "revision": "def", "message": "",
                "timestamp": "2026-11-22T10:00:00Z", "url": "https://a.example.org"}),
            "cart",
            "def",
            "done",
        ),
    ] {
        let reply = daemon.done(&format!("/ingest/{source}"), &body);
        assert_eq!(reply["changes"], 1, "{source}: {reply}");
        let last = changes(&daemon).remove(0);
        let told = [&last["source"], &last["service"], &last["version"], &last["state"]];
        assert_eq!(told, [source, service, version, state].map(|it| json!(it)).each_ref());
    }
    let push = json!({"ref": "refs/heads/main", "repository": {"name": "a", "full_name": "b/a"}});
    assert_eq!(daemon.done("/ingest/github", &push)["left_out"], 1);
    let listed = |query: &str| daemon.items(&format!("/api/v1/changes?{query}")).len();
    assert_eq!((listed("service=web"), listed("state=failed,running")), (1, 2));
    assert_eq!((listed("source=github"), listed("until=2026-11-22T09:00:00Z")), (2, 1));
    assert_eq!(daemon.send("GET", "/api/v1/changes?kind=odd", &[], b"").status, 400);
}

#[test]
fn people_tell_list_and_ask_why() {
    let daemon = Daemon::start("");
    let add = ["change", "add", "shop 1.2", "--service", "shop", "--version", "1.2", "--by", "ada"];
    let printed = daemon.cli(&[&add[..], &["--external-id", "ticket 7"]].concat());
    assert_eq!((printed.code, printed.stdout.trim()), (0, "CHG-1  done  shop 1.2"), "{printed:?}");
    let printed =
        daemon.cli(&[&add[..], &["--external-id", "ticket 7", "--state", "failed"]].concat());
    assert_eq!(printed.stdout.trim(), "CHG-1  failed  shop 1.2", "the same name, the same change");
    let printed = daemon.cli(&["change", "list", "--service", "shop"]);
    assert!(printed.stdout.contains("CHG-1") && printed.stdout.contains("ada"), "{printed:?}");
    let printed = daemon.cli(&["change", "show", "1"]);
    assert!(printed.stdout.contains("ticket 7"), "{printed:?}");
    let printed = daemon.cli(&["explain", "CHG-1"]);
    assert!(printed.stdout.contains("the source api told of it"), "{printed:?}");
    assert_eq!(daemon.cli(&["change", "add", " "]).code, 2);
    assert_eq!(daemon.cli(&["change", "show", "CHG-9"]).code, 1);
    let headers = [("content-type", "application/json"), ("idempotency-key", "once")];
    let body = br#"{"by": "ada", "title": "x"}"#;
    let ids = [0; 2].map(|_| {
        let reply = daemon.send("POST", "/api/v1/changes", &headers, body);
        reply.json()["id"].clone()
    });
    assert_eq!(ids, ["CHG-2", "CHG-2"].map(Value::from));
}

#[test]
fn changes_come_as_pagerdutys_and_as_cdevents() {
    let daemon = Daemon::start("");
    crate::clients::client(&daemon, "changes.py", &[]);
    let found = eventually("both changes are there", SOON, || {
        let found = changes(&daemon);
        (found.len() == 2).then_some(found)
    });
    let [deployed, submitted] = &found[..] else { panic!("{found:?}") };
    assert_eq!(deployed["title"], "deployment of shop to production");
    assert_eq!(
        (&deployed["service"], &deployed["environment"]),
        (&json!("shop"), &json!("production"))
    );
    assert_eq!(
        (&submitted["title"], &submitted["version"]),
        (&json!("shop 1.2 is out"), &json!("1.2"))
    );
    assert_eq!(
        (&submitted["author"], &submitted["link"]),
        (&json!("ada"), &json!("https://ci.example.org/7"))
    );
}
