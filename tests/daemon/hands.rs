//! What runbooks may do to the world: questions, requests, programs, and where each of them ends.

use crate::http::Receiver;
use crate::support::{BY_SERVICE, Daemon, Options, SOON, eventually};
use crate::tools::{Shop, prometheus, wait_for_up};
use std::time::Duration;

/// Prometheus looks each second, but two cores have more to do than this test.
const MINUTE: Duration = Duration::from_mins(1);

#[test]
fn prometheus_tells_the_truth_before_and_after() {
    let shop = Shop::start(0);
    let folder = tempfile::TempDir::new().unwrap();
    let prometheus = prometheus(folder.path(), &shop, &[]);
    wait_for_up(&prometheus, "1");
    let rules = format!(
        "{BY_SERVICE}
runbooks:
  - name: restart-shop
    mode: auto
    triggers: [{{event: incident_opened, matchers: ['alertname=\"ShopDown\"']}}]
    parameters: {{job: {{value: shop, pattern: '^[a-z]+$'}}}}
    steps:
      - {{id: sure, query: {{source: prod, promql: 'up{{job=\"{{{{ parameters.job }}}}\"}}', assert: 'value < 1'}}}}
      - {{id: restart, command: {{argv: ['{}']}}, timeout: 20s, idempotency: idempotent}}
    verify:
      within: 1m
      every: 1s
      hold: 2s
      query: {{source: prod, promql: 'up{{job=\"shop\"}} == 1'}}
      http: {{url: 'http://{}/-/ready'}}
",
        shop.script.display(),
        shop.address,
    );
    let settings = format!(
        "prometheus: [{{name: prod, url: 'http://{}', poll_every: 1s}}]\nhttp_allow: ['{}']\n",
        prometheus.address, shop.address
    );
    let daemon = Daemon::start_with(Options { rules, settings, ..Options::default() });
    // While the shop is up the question says that nothing is wrong, and nothing is done.
    daemon.cli(&["runbook", "run", "restart-shop"]);
    let refused = daemon.execution_becomes("failed", SOON);
    assert_eq!(refused["steps"][0]["detail"], "it does not hold; 1 series", "{refused}");
    assert_eq!(shop.journal("begun"), 0);

    shop.kill();
    let execution = eventually("it is verified", MINUTE, || {
        let executions = daemon.items("/api/v1/executions");
        executions.into_iter().find(|it| it["state"] == "succeeded")
    });
    assert_eq!(execution["why"], "verified: http, query", "{execution}");
    assert_eq!(execution["steps"][0]["promql"], "up{job=\"shop\"}");
    assert!(shop.is_ready());
    assert_eq!(shop.journal("begun"), 1);
}

#[test]
fn a_question_without_an_answer_stops_the_run() {
    let receiver = Receiver::start();
    let rules = format!(
        "{BY_SERVICE}
runbooks:
  - name: ask
    mode: auto
    steps:
      - {{id: sure, query: {{source: prod, promql: up}}, timeout: 2s}}
      - {{id: tell, http: {{url: '{}'}}}}
",
        receiver.url("/told")
    );
    let settings = format!(
        "prometheus: [{{name: prod, url: 'http://127.0.0.1:{}', external_labels: {{}}}}]\nhttp_allow: ['{}']\n",
        crate::support::free_port(),
        receiver.address
    );
    let daemon = Daemon::start_with(Options { rules, settings, ..Options::default() });
    daemon.cli(&["runbook", "run", "ask"]);
    daemon.execution_becomes("failed", SOON);
    assert!(receiver.received().is_empty());
}
