//! Black-box tests: the real binary on a free port, with real neighbours, and what it must never do.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![expect(clippy::print_stderr, reason = "a failed test shows what the daemon said")]

#[path = "daemon/http.rs"]
mod http;
#[path = "daemon/support.rs"]
mod support;
#[path = "daemon/tools.rs"]
mod tools;

#[path = "daemon/access.rs"]
mod access;
#[path = "daemon/account.rs"]
mod account;
#[path = "daemon/alertmanager.rs"]
mod alertmanager;
#[path = "daemon/amtool.rs"]
mod amtool;
#[path = "daemon/approvals.rs"]
mod approvals;
#[path = "daemon/audit.rs"]
mod audit;
#[path = "daemon/bounds.rs"]
mod bounds;
#[path = "daemon/changes.rs"]
mod changes;
#[path = "daemon/cli.rs"]
mod cli;
#[path = "daemon/clients.rs"]
mod clients;
#[path = "daemon/confined.rs"]
mod confined;
#[path = "daemon/crash_matrix.rs"]
mod crash_matrix;
#[path = "daemon/disk_full.rs"]
mod disk_full;
#[path = "daemon/elsewhere.rs"]
mod elsewhere;
#[path = "daemon/engines.rs"]
mod engines;
#[path = "daemon/executor.rs"]
mod executor;
#[path = "daemon/explain.rs"]
mod explain;
#[path = "daemon/forecast.rs"]
mod forecast;
#[path = "daemon/freezes.rs"]
mod freezes;
#[path = "daemon/hands.rs"]
mod hands;
#[path = "daemon/heal.rs"]
mod heal;
#[path = "daemon/heartbeats.rs"]
mod heartbeats;
#[path = "daemon/import.rs"]
mod import;
#[path = "daemon/intake.rs"]
mod intake;
#[path = "daemon/items.rs"]
mod items;
#[path = "daemon/karma.rs"]
mod karma;
#[path = "daemon/kill.rs"]
mod kill;
#[path = "daemon/knowledge.rs"]
mod knowledge;
#[path = "daemon/live.rs"]
mod live;
#[path = "daemon/polling.rs"]
mod polling;
#[path = "daemon/prometheus.rs"]
mod prometheus;
#[path = "daemon/reload.rs"]
mod reload;
#[path = "daemon/repairs.rs"]
mod repairs;
#[path = "daemon/replay.rs"]
mod replay;
#[path = "daemon/runbook.rs"]
mod runbook;
#[path = "daemon/shadow.rs"]
mod shadow;
#[path = "daemon/silent.rs"]
mod silent;
#[path = "daemon/sns.rs"]
mod sns;
#[path = "daemon/starting_set.rs"]
mod starting_set;
#[path = "daemon/stop.rs"]
mod stop;
#[path = "daemon/suppression.rs"]
mod suppression;
#[path = "daemon/triggers.rs"]
mod triggers;
#[path = "daemon/web_safety.rs"]
mod web_safety;
#[path = "daemon/webhooks.rs"]
mod webhooks;
