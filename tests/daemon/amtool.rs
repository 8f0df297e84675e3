//! The command line tool of Alertmanager works unchanged: alerts, silences, all formats, exit codes.

use crate::support::{Daemon, Printed, SOON, eventually, run};
use serde_json::Value;
use std::process::Command;

fn amtool(daemon: &Daemon, arguments: &[&str]) -> Printed {
    let url = format!("--alertmanager.url=http://{}", daemon.address);
    let mut command = Command::new("amtool");
    // A home of its own, so that no configuration of the user's is read.
    run(command.arg(url).args(arguments).env("HOME", daemon.folder.path()))
}

fn good(daemon: &Daemon, arguments: &[&str]) -> String {
    let printed = amtool(daemon, arguments);
    assert_eq!(printed.code, 0, "amtool {arguments:?}: {printed:?}");
    printed.stdout
}

#[test]
fn alert_add_and_query() {
    let daemon = Daemon::start("");
    good(&daemon, &["alert", "add", "DiskFull", "host=a", "env=prod", "--annotation=note=hello"]);
    good(&daemon, &["alert", "add", "DiskFull", "host=b", "env=test"]);
    good(&daemon, &["alert", "add", "Slow", "host=a", "env=prod"]);
    let names = |matchers: &[&str]| {
        let mut arguments = vec!["alert", "query", "-o", "json"];
        arguments.extend_from_slice(matchers);
        let alerts: Value = serde_json::from_str(&good(&daemon, &arguments)).unwrap();
        let mut names: Vec<String> = alerts
            .as_array()
            .unwrap()
            .iter()
            .map(|it| format!("{}/{}", it["labels"]["alertname"], it["labels"]["host"]))
            .map(|it| it.replace('"', ""))
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&[]), ["DiskFull/a", "DiskFull/b", "Slow/a"]);
    assert_eq!(names(&["alertname=DiskFull"]), ["DiskFull/a", "DiskFull/b"]);
    assert_eq!(names(&["alertname=DiskFull", "env!=test"]), ["DiskFull/a"]);
    assert_eq!(names(&["env=~pr.+"]), ["DiskFull/a", "Slow/a"]);
    assert_eq!(names(&["host!~a|c"]), ["DiskFull/b"]);
    let simple = good(&daemon, &["alert", "query", "-o", "simple", "Slow"]);
    assert!(simple.contains("Slow") && simple.contains("active"), "{simple}");
    let extended = good(&daemon, &["alert", "query", "-o", "extended", "DiskFull"]);
    assert!(extended.contains("host=\"a\"") && extended.contains("note=\"hello\""), "{extended}");
    let bad = amtool(&daemon, &["alert", "add", "X", "no-equals-sign"]);
    assert_ne!(bad.code, 0, "{bad:?}");
}

#[test]
fn silence_add_query_and_expire() {
    let daemon = Daemon::start("");
    good(&daemon, &["alert", "add", "DiskFull", "host=a"]);
    let id = good(&daemon, &["silence", "add", "-a", "ann", "-c", "repair", "-d", "1h", "host=a"]);
    let id = id.trim();
    assert_eq!(id.len(), 36, "a UUID: `{id}`");
    let other =
        good(&daemon, &["silence", "add", "-a", "bob", "-c", "more", "-d", "2h", "env=~x.*"]);
    let simple = good(&daemon, &["silence", "query", "-o", "simple"]);
    assert!(simple.contains(id) && simple.contains("ann") && simple.contains("repair"), "{simple}");
    let extended = good(&daemon, &["silence", "query", "-o", "extended", "host=a"]);
    assert!(extended.contains(id) && !extended.contains(other.trim()), "{extended}");
    let all: Value =
        serde_json::from_str(&good(&daemon, &["silence", "query", "-o", "json"])).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    assert_eq!(good(&daemon, &["silence", "query", "-q", "host=a"]).trim(), id);

    eventually("the alert is silenced", SOON, || {
        let alerts = daemon.get("/api/v2/alerts");
        (alerts[0]["status"]["state"] == "suppressed" && alerts[0]["status"]["silencedBy"][0] == id)
            .then_some(())
    });
    let active = good(&daemon, &["alert", "query", "-o", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&active).unwrap().as_array().unwrap().len(), 0);
    let silenced = good(&daemon, &["alert", "query", "--silenced", "-o", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&silenced).unwrap().as_array().unwrap().len(), 1);

    let updated = good(&daemon, &["silence", "update", "-d", "3h", id]);
    assert!(updated.contains(id), "extending keeps the id: {updated}");
    good(&daemon, &["silence", "expire", id]);
    let left = good(&daemon, &["silence", "query", "-q"]);
    assert_eq!(left.trim(), other.trim());
    let expired = good(&daemon, &["silence", "query", "--expired", "-q"]);
    assert_eq!(expired.trim(), id);
    eventually("the alert is active again", SOON, || {
        (daemon.get("/api/v2/alerts")[0]["status"]["state"] == "active").then_some(())
    });
    let unknown = "2f3f4a5c-0000-4000-8000-000000000000";
    assert_ne!(amtool(&daemon, &["silence", "expire", unknown]).code, 0);
}

#[test]
fn silences_are_imported_changed_and_refused() {
    let daemon = Daemon::start("");
    let ids = |more: &[&str]| {
        let printed = good(&daemon, &[&["silence", "query", "-q"], more].concat());
        printed.lines().map(str::to_owned).collect::<Vec<String>>()
    };
    let id = good(&daemon, &["silence", "add", "-a", "ann", "-c", "repair", "-d", "1h", "host=a"]);
    let id = id.trim();
    let file = daemon.folder.path().join("silences.json");
    let export = |path: &std::path::Path| {
        std::fs::write(path, good(&daemon, &["silence", "query", "-o", "json"])).unwrap();
    };
    export(&file);
    let file = file.to_str().unwrap();
    // The same again is no second one; by force it is.
    good(&daemon, &["silence", "import", file]);
    assert_eq!(ids(&[]), [id]);
    good(&daemon, &["silence", "import", "--force", file]);
    assert_eq!(ids(&[]).len(), 2);
    // What is over is not changed but made anew, as in Alertmanager.
    good(&daemon, &["silence", "expire", id]);
    good(&daemon, &["silence", "import", file]);
    assert!(!ids(&[]).contains(&id.to_owned()));
    assert_eq!((ids(&[]).len(), ids(&["--expired"])), (2, vec![id.to_owned()]));
    // One that nobody knows is refused as not found, and amtool makes it anew.
    let text = std::fs::read_to_string(file).unwrap();
    let foreign = text.replace(id, "2f3f4a5c-0000-4000-8000-000000000000");
    std::fs::write(file, foreign).unwrap();
    good(&daemon, &["silence", "import", file]);
    assert_eq!(ids(&[]).len(), 3);

    let left = ids(&[])[0].clone();
    let commented = good(&daemon, &["silence", "update", "-c", "longer", &left]);
    assert!(commented.contains(&left), "{commented}");
    let simple = good(&daemon, &["silence", "query", "-o", "simple"]);
    assert!(simple.contains("longer"), "{simple}");
    for bad in [
        &["silence", "add", "-a", "ann", "-d", "1h", "host=a"][..],
        &["silence", "add", "-a", "ann", "-c", "x", "-d", "1h"],
        &[
            "silence",
            "add",
            "-a",
            "ann",
            "-c",
            "x",
            "--start",
            "2026-01-02T00:00:00Z",
            "--end",
            "2026-01-01T00:00:00Z",
            "host=a",
        ],
        &["silence", "update", "-d", "1h", "2f3f4a5c-0000-4000-8000-000000000000"],
        &["silence", "query", "-o", "nothing"],
    ] {
        assert_ne!(amtool(&daemon, bad).code, 0, "{bad:?}");
    }
}

#[test]
fn what_holds_alerts_back_is_shown() {
    let daemon = Daemon::start(
        "
inhibitions:
  - {name: parent, source_matchers: ['alertname=Parent'], target_matchers: ['alertname=Child'], equal: [dc]}
maintenance:
  - {name: disks, matchers: ['alertname=Disk'], owner: ann, reason: new disks,
     starts_at: 2026-01-01T00:00:00Z, ends_at: 2099-01-01T00:00:00Z}
",
    );
    for (name, dc) in [("Parent", "a"), ("Child", "a"), ("Child", "b"), ("Disk", "a")] {
        good(&daemon, &["alert", "add", name, &format!("dc={dc}")]);
    }
    let count = |more: &[&str]| {
        let printed = good(&daemon, &[&["alert", "query", "-o", "json"], more].concat());
        serde_json::from_str::<Value>(&printed).unwrap().as_array().unwrap().len()
    };
    assert_eq!(count(&[]), 2, "those that nothing holds");
    assert_eq!(count(&["--inhibited"]), 1);
    assert_eq!(count(&["--active", "--inhibited", "--silenced"]), 4);
    let inhibited = good(&daemon, &["alert", "query", "--inhibited", "-o", "simple"]);
    assert!(inhibited.contains("Child") && inhibited.contains("suppressed"), "{inhibited}");
}

#[test]
fn status_routes_and_cluster() {
    let daemon = Daemon::start("");
    good(&daemon, &["config", "show"]);
    good(&daemon, &["config", "routes"]);
    good(&daemon, &["cluster", "show"]);
}
