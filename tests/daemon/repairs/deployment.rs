//! A new version of a real HTTP service gives errors: it is rolled back after a yes. The orchestrator is a
//! script in the place of `kubectl`, which knows one deployment and starts real processes.

use super::{
    MINUTE, Plan, Scene, Service, exporter, in_background, script, shipped, write_program,
};
use crate::http;
use crate::support::{eventually, free_port, run};
use crate::tools::local;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// `deploy VERSION` is what people do; the rest is what the runbook asks for.
const ORCHESTRATOR: &str = r#"#!/bin/sh
cd 'FOLDER' || exit 1
begin() {
    if [ -e pid ]; then kill -9 "$(cat pid)"; fi
    SERVICE
}
case "$*" in
"deploy "*) cp version before 2>/dev/null; echo "$2" > version; begin ;;
"--namespace=shop rollout history deployment/web") cat before version ;;
"--namespace=shop rollout undo deployment/web") echo undo >> undone; cp before version; begin ;;
"--namespace=shop rollout status deployment/web --timeout=280s") curl -sf --retry 50 --retry-delay 1 --retry-connrefused ADDRESS/metrics ;;
*) echo "unknown: $*" >&2; exit 1 ;;
esac
"#;

fn deploy(orchestrator: &Path, version: &str) {
    let printed = run(Command::new(orchestrator).args(["deploy", version]));
    assert_eq!(printed.code, 0, "{printed:?}");
}

/// What a user sees.
fn status(address: SocketAddr) -> u16 {
    http::send(address, "GET", "/", &[], b"").map_or(0, |it| it.status)
}

#[test]
fn a_version_that_gives_errors_is_rolled_back() {
    let folder = TempDir::new().unwrap();
    let port = free_port();
    let address = local(port);
    let service = script("service.py", port, &["versioned", "version"]);
    let orchestrator = folder.path().join("kubectl");
    let text = ORCHESTRATOR.replace("FOLDER", folder.path().to_str().unwrap());
    let text =
        text.replace("SERVICE", &in_background(&service)).replace("ADDRESS", &address.to_string());
    write_program(&orchestrator, &text);
    let _service = Service(folder.path());
    deploy(&orchestrator, "1");
    eventually("version 1 answers well", MINUTE, || (status(address) == 200).then_some(()));
    let exporter = exporter(folder.path(), &["probe", &format!("http://{address}/")]);
    let scene = Scene::start(Plan {
        rules: shipped("roll-back-deployment.yaml", &[("settle: 1m", "settle: 1s")]),
        alert: "alert: ErrorsAfterDeployment, expr: 'probe_http_status_code >= 500',
                labels: {severity: critical, namespace: shop, deployment: web, service: web}",
        target: Some(exporter.address),
        programs: Some(folder.path().to_str().unwrap().to_owned()),
    });
    scene.prometheus_says("probe_http_status_code == 200");

    deploy(&orchestrator, "2");
    let told = scene.daemon.cli(&["change", "add", "web 2", "--service", "web", "--version", "2"]);
    assert_eq!(told.code, 0, "{told:?}");
    scene.prometheus_says("probe_http_status_code == 500");
    scene.approve();
    let run = scene.run_becomes("succeeded");
    assert_eq!(run["why"], "verified: all alerts are over", "{run}");
    scene.prometheus_says("probe_http_status_code == 200");
    assert_eq!(status(address), 200);
    assert_eq!(fs::read_to_string(folder.path().join("version")).unwrap(), "1\n");
    assert_eq!(fs::read_to_string(folder.path().join("undone")).unwrap(), "undo\n", "once");
    let incident = scene.daemon.incident_becomes("resolved", MINUTE);
    let suspect = &incident["suspect_changes"][0]["id"];
    assert_eq!(suspect, "CHG-1", "the deployment is the suspect: {incident}");
    assert_eq!(run["change"], "CHG-2", "the way back is a change, too");
}
