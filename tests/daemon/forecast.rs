//! Capacity forecasts, beside a real Prometheus whose series fills.

use crate::polling::Page;
use crate::support::{BY_SERVICE, Daemon, Options, eventually, free_port};
use crate::tools::prometheus_at;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const MINUTES: Duration = Duration::from_mins(3);

/// What the daemon found of a disk.
fn series(daemon: &Daemon, disk: &str) -> Value {
    let forecasts = daemon.items("/api/v1/forecasts");
    assert_eq!(forecasts.len(), 2, "{forecasts:?}");
    let all = forecasts[0]["series"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|it| it["labels"]["disk"] == disk).unwrap_or_default()
}

#[test]
fn a_disk_that_fills_is_told_of_and_no_more_when_it_was_cleaned() {
    let page = Page::serve();
    let began = Instant::now();
    // A third more each second: from 50 it comes to 75 after 75 s.
    let measure = |cleaned: f64| {
        let filled = 50.0 + began.elapsed().as_secs_f64() / 3.0 - cleaned;
        let text = format!("used{{disk=\"a\"}} {filled}\nused{{disk=\"b\"}} 40\n");
        *page.text.lock().unwrap() = text;
    };
    measure(0.0);
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let folder = TempDir::new().unwrap();
    let configuration = format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
scrape_configs: [{{job_name: disks, static_configs: [{{targets: ['{}']}}]}}]
",
        page.address
    );
    let _prometheus = prometheus_at(address, folder.path(), &configuration, "groups: []\n");
    let forecasts = "
forecasts:
  - name: disk
    query: {source: prod, promql: used}
    full: 75
    horizon: 10m
    look_back: 2m
    every: 1s
    labels: {service: 'storage-{{ labels.disk }}'}
  - {name: broken, query: {source: prod, promql: 'sum('}, full: 1, horizon: 10m, every: 1s}
";
    let daemon = Daemon::start_with(Options {
        rules: format!("{BY_SERVICE}{forecasts}"),
        settings: format!("prometheus: [{{name: prod, url: 'http://{address}'}}]\n"),
        ..Options::default()
    });
    let found = eventually("it is foreseen", MINUTES, || {
        measure(0.0);
        Some(series(&daemon, "a")).filter(|it| it["outlook"] == "foreseen")
    });
    let time = |name: &str| found[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let left = Duration::from_secs(75).saturating_sub(began.elapsed());
    let full = jiff::Timestamp::now() + jiff::SignedDuration::try_from(left).unwrap();
    let slack = jiff::SignedDuration::from_secs(10);
    assert!(time("from") - slack <= full && full <= time("until") + slack, "{full}: {found}");
    assert_eq!(series(&daemon, "b")["outlook"], "no_trend");
    let incident = daemon.incident_becomes("open", MINUTES);
    assert_eq!(incident["alert_count"], json!(1), "{incident}");
    let alerts = daemon.items("/api/v1/alerts?state=firing");
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0]["labels"]["service"], "storage-a");
    assert_eq!(alerts[0]["fingerprint"], found["alert"]);
    let told = alerts[0]["annotations"]["summary"].as_str().unwrap();
    assert!(told.starts_with("disk: 75 is reached in "), "{told}");
    let broken = &daemon.items("/api/v1/forecasts")[1];
    assert!(broken["error"].as_str().unwrap().contains("parse error"), "{broken}");
    let failed = [("forecast", "broken"), ("outcome", "failed")];
    assert!(daemon.metric("watchkeeper_forecast_looks_total", &failed) > 0.5);
    // Somebody cleans it: what was foreseen is withdrawn.
    eventually("it is withdrawn", MINUTES, || {
        measure(40.0);
        daemon.items("/api/v1/alerts?state=firing").is_empty().then_some(())
    });
    daemon.incident_becomes("resolved", MINUTES);
    let looked = daemon.metric("watchkeeper_forecast_series", &[("forecast", "disk")]);
    assert!(looked > 1.5, "{looked}");
}
