//! What is known is offered with an incident: articles of files and of people, past incidents with what helped; and
//! what people say of it counts, also after a crash.

use crate::support::{BY_SERVICE, Daemon, SOON, eventually, firing, over};
use serde_json::Value;
use std::fs;

const DISK: &str = "---\ntitle: A disk is full\nalerts: [DiskFull]\nurls: ['https://wiki/disk']\n---\n\
    Delete old logs, then grow the volume.\n";

fn write_article(daemon: &Daemon, name: &str, text: &str) {
    let folder = daemon.rules().join("knowledge");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), text).unwrap();
}

fn articles(daemon: &Daemon) -> Vec<String> {
    let items = daemon.items("/api/v1/articles");
    items.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

fn assert_become(daemon: &Daemon, names: &[&str]) {
    eventually(&format!("the articles are {names:?}"), SOON, || {
        (articles(daemon) == names).then_some(())
    });
}

fn offered(daemon: &Daemon, incident: &str) -> Vec<String> {
    let incident = daemon.get(&format!("/api/v1/incidents/{incident}"));
    let all = incident["articles"].as_array().unwrap().iter();
    all.map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn articles_of_files_are_reloaded_whole_and_offered_where_they_fit() {
    let daemon = Daemon::start(BY_SERVICE);
    write_article(&daemon, "disk.md", DISK);
    assert_become(&daemon, &["disk"]);
    write_article(&daemon, "net.md", "---\ntitel: x\n---\n");
    daemon.metric_becomes("watchkeeper_config_last_reload_successful", &[], 0.0);
    let log = daemon.log();
    assert!(log.contains("net.md") && log.contains("titel"), "the log says where: {log}");
    assert_eq!(articles(&daemon), ["disk"], "what was good stays");
    write_article(&daemon, "net.md", "# The network is down\n\nLook at the switch.\n");
    assert_become(&daemon, &["disk", "net"]);

    let mut alert = firing(&[("alertname", "Unreachable"), ("service", "shop")]);
    alert["annotations"]["summary"] = "a switch of the network does not answer".into();
    daemon.deliver(&[alert]);
    assert_eq!(offered(&daemon, "INC-1"), ["net"]);
    let mut alert = firing(&[("alertname", "VolumeAlmostFull"), ("service", "mail")]);
    alert["annotations"]["runbook_url"] = "https://wiki/disk/".into();
    daemon.deliver(&[alert]);
    assert_eq!(offered(&daemon, "INC-2")[0], "disk");
    let printed = daemon.cli(&["incident", "show", "INC-2"]).stdout;
    assert!(printed.contains("article disk  A disk is full"), "{printed}");
    assert!(printed.contains("runbook_url leads to it"), "{printed}");
}

#[test]
fn an_article_that_somebody_made_outlives_a_crash_and_what_helps_comes_first() {
    let mut daemon = Daemon::start(BY_SERVICE);
    let folder = daemon.rules();
    for name in ["one", "two"] {
        let file = folder.join(format!("{name}.md"));
        fs::write(&file, DISK.replace("urls: ['https://wiki/disk']\n", "")).unwrap();
        let printed = daemon.cli(&["article", "add", file.to_str().unwrap(), "--by", "ann"]);
        assert_eq!(printed.code, 0, "{printed:?}");
    }
    daemon.deliver(&[firing(&[("alertname", "DiskFull"), ("service", "shop")])]);
    assert_eq!(offered(&daemon, "INC-1"), ["one", "two"]);
    let rate = ["article", "rate", "two", "--helped", "--for", "1", "--by", "ann"];
    assert_eq!(daemon.cli(&rate).code, 0);
    daemon.kill_9();
    daemon.restart();
    assert_eq!(offered(&daemon, "INC-1"), ["two", "one"]);
    let printed = daemon.cli(&["article", "search", "volume", "logs"]).stdout;
    assert!(printed.contains("two") && printed.contains("both say"), "{printed}");
    let printed = daemon.cli(&["article", "show", "two"]).stdout;
    assert!(printed.contains("made by ann") && printed.contains("Delete old logs"), "{printed}");
    fs::write(folder.join("bad.md"), "---\ntitle: x\nalerts: 1\n---\n").unwrap();
    let printed = daemon.cli(&["article", "add", folder.join("bad.md").to_str().unwrap()]);
    assert!(printed.code == 2 && printed.stderr.contains("3:9"), "{printed:?}");
    assert_eq!(daemon.cli(&["article", "remove", "one", "--by", "ann"]).code, 0);
    assert_eq!(articles(&daemon), ["two"]);
}

const AT_ONCE: &str = "
correlations:
  - name: by-service
    group_by: [service]
    window: {gap: 5m, max: 4h}
    incident: {title: '{{ labels.alertname }} of {{ labels.service }}', reopen_within: 1s}
";

/// Lets an incident begin, be resolved with a reason, and be closed.
fn past(daemon: &Daemon, id: &str, labels: &[(&str, &str)], reason: &str) {
    daemon.deliver(&[firing(labels)]);
    let printed = daemon.cli(&["incident", "resolve", id, "--reason", reason, "--by", "ann"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    daemon.deliver(&[over(labels)]);
    eventually(&format!("{id} is closed"), SOON, || {
        (daemon.get(&format!("/api/v1/incidents/{id}"))["state"] == "closed").then_some(())
    });
}

fn similar(daemon: &Daemon, id: &str) -> Vec<Value> {
    daemon.items(&format!("/api/v1/incidents/{id}/similar"))
}

#[test]
fn past_incidents_are_told_with_what_helped() {
    let mut daemon = Daemon::start(AT_ONCE);
    let shop = [("alertname", "QueueFull"), ("service", "shop")];
    past(&daemon, "INC-1", &shop, "restarted the consumer");
    past(&daemon, "INC-2", &[("alertname", "CertificateExpires"), ("service", "mail")], "renewed");
    daemon.deliver(&[firing(&shop)]);
    let found = similar(&daemon, "INC-3");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["id"], &found[0]["resolved_by"]), (&"INC-1".into(), &"ann".into()));
    assert_eq!(found[0]["resolution"], "restarted the consumer");
    assert!(found[0]["why"].to_string().contains("the same alert QueueFull"), "{found:?}");
    let shown = daemon.get("/api/v1/incidents/INC-3");
    assert_eq!(shown["similar"][0]["id"], "INC-1");
    let printed = daemon.cli(&["incident", "similar", "INC-3"]).stdout;
    assert!(printed.contains("INC-1") && printed.contains("restarted the consumer"), "{printed}");

    // What is closed later is found, too, and what was closed before a restart.
    assert_eq!(daemon.cli(&["incident", "resolve", "INC-3", "--by", "ann"]).code, 0);
    daemon.deliver(&[over(&shop)]);
    eventually("it is closed", SOON, || {
        (daemon.get("/api/v1/incidents/INC-3")["state"] == "closed").then_some(())
    });
    daemon.deliver(&[firing(&shop)]);
    let ids = |daemon: &Daemon| -> Vec<String> {
        let found = similar(daemon, "INC-4");
        found.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&daemon), ["INC-3", "INC-1"]);
    let rate = ["incident", "rate", "INC-1", "--helped", "--for", "INC-4", "--by", "ann"];
    assert_eq!(daemon.cli(&rate).code, 0);
    assert_eq!(ids(&daemon), ["INC-1", "INC-3"]);
    daemon.kill_9();
    daemon.restart();
    assert_eq!(ids(&daemon), ["INC-1", "INC-3"]);
    let refused = daemon.cli(&["incident", "rate", "INC-99", "--no-use", "--by", "ann"]);
    assert!(refused.code == 1 && refused.stderr.contains("there is no `INC-99`"), "{refused:?}");
}

#[test]
fn a_post_mortem_and_an_article_are_drafted_from_what_is_known() {
    let daemon = Daemon::start(&format!(
        "{AT_ONCE}problem_detection: [{{name: d, schedule: {{cron: '0 3 1 1 *'}}, min_incidents: 3}}]\n"
    ));
    for id in 1..=3 {
        let labels = [("alertname", "QueueFull"), ("service", "shop")];
        past(&daemon, &format!("INC-{id}"), &labels, "restarted the <consumer>");
    }
    let printed = daemon.cli(&["report", "postmortem", "INC-3"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    for part in [
        "# Post-mortem: INC-3, QueueFull of shop",
        "| resolved |",
        "ann, resolved: restarted the \\<consumer\\>",
        "_To fill in:_",
    ] {
        assert!(printed.stdout.contains(part), "{part} in {}", printed.stdout);
    }
    assert_eq!(daemon.cli(&["report", "postmortem", "INC-9"]).code, 1);
    assert_eq!(daemon.cli(&["problem", "detect", "--by", "ann"]).code, 0);
    let problem = daemon.items("/api/v1/problems").remove(0);
    let id = problem["id"].as_str().unwrap();
    let draft = daemon.cli(&["problem", "article", id]).stdout;
    assert!(draft.contains("alerts: [\"QueueFull\"]"), "{draft}");
    let file = daemon.rules().join("queue.md");
    fs::write(&file, &draft).unwrap();
    let added = daemon.cli(&["article", "add", file.to_str().unwrap(), "--by", "ann"]);
    assert_eq!(added.code, 0, "{added:?}");
    daemon.deliver(&[firing(&[("alertname", "QueueFull"), ("service", "shop")])]);
    assert_eq!(offered(&daemon, "INC-4"), ["queue"]);
}
