//! A session of a real PostgreSQL sits in a transaction with a lock: it is ended, and nobody else is.

use super::{MINUTE, Plan, Scene, exporter, shipped};
use crate::support::{SOON, eventually, free_port, run};
use rustix::process::{Pid, Signal, getuid, kill_process};
use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// `nobody`, where the test is root: PostgreSQL does not run as root.
const NOBODY: u32 = 65534;

/// A PostgreSQL of the test's own; ended with it.
struct Database {
    port: String,
    server: Child,
    _folder: TempDir,
}

/// Where Debian keeps the programs of the server, unless they are in the path.
fn program(name: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap();
    let mut folders: Vec<PathBuf> = path.split(':').map(PathBuf::from).collect();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    folders.extend(versions.map(|it| it.unwrap().path().join("bin")));
    let mut found = folders.into_iter().map(|it| it.join(name)).filter(|it| it.exists());
    found.next().unwrap_or_else(|| panic!("`{name}` of PostgreSQL is not installed; see tests/run"))
}

/// A program of the server, as somebody who is not root.
fn as_nobody(name: &str) -> Command {
    let mut command = Command::new(program(name));
    if getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

impl Database {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        if getuid().is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = folder.path().join("data");
        let mut initdb = as_nobody("initdb");
        initdb.args(["--username=postgres", "--auth=trust", "--no-sync", "--pgdata"]).arg(&data);
        let made = run(initdb.current_dir(folder.path()));
        assert_eq!(made.code, 0, "{made:?}");
        let port = free_port().to_string();
        let mut server = as_nobody("postgres");
        server.arg("-D").arg(&data).args(["-p", &port, "-c", "listen_addresses=127.0.0.1"]);
        server.args(["-c", "unix_socket_directories=", "-c", "fsync=off"]);
        server.current_dir(folder.path());
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = server.spawn().unwrap();
        let database = Self { port, server, _folder: folder };
        eventually("PostgreSQL answers", SOON, || {
            (run(&mut database.psql("postgres", "postgres", "SELECT 1")).code == 0).then_some(())
        });
        database
    }

    fn client(&self, user: &str, database: &str) -> Command {
        let mut command = Command::new("psql");
        command.args(["--no-psqlrc", "--tuples-only", "--no-align", "--host", "127.0.0.1"]);
        command.args(["--port", &self.port, "--username", user, "--dbname", database]);
        command
    }

    fn psql(&self, user: &str, database: &str, statement: &str) -> Command {
        let mut command = self.client(user, database);
        command.args(["--command", statement]);
        command
    }

    /// What the owner is told.
    fn says(&self, statement: &str) -> String {
        let printed = run(&mut self.psql("postgres", "shop", statement));
        assert_eq!(printed.code, 0, "{printed:?}");
        printed.stdout.trim().to_owned()
    }

    /// How many sessions of a user there are.
    fn sessions_of(&self, user: &str) -> String {
        self.says(&format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // It ends at once, and everything that it started.
        kill_process(Pid::from_child(&self.server), Signal::QUIT).unwrap_or_default();
        drop(self.server.wait());
    }
}

/// A client that is ended with the test, if it has not ended by then.
struct Client(Child);

impl Client {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn sends(&mut self, statement: &str) {
        let input = self.0.stdin.as_mut().unwrap();
        input.write_all(format!("{statement}\n").as_bytes()).unwrap();
        input.flush().unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_session_that_holds_a_lock_and_sleeps_is_ended() {
    let database = Database::start();
    let user = run(Command::new("id").arg("-un")).stdout.trim().to_owned();
    for statement in [
        "CREATE DATABASE shop".to_owned(),
        "CREATE ROLE till LOGIN; CREATE ROLE report LOGIN".to_owned(),
        // What the header of the runbook asks for.
        format!("CREATE ROLE \"{user}\" LOGIN IN ROLE pg_signal_backend, pg_read_all_stats"),
    ] {
        let printed = run(&mut database.psql("postgres", "postgres", &statement));
        assert_eq!(printed.code, 0, "{printed:?}");
    }
    database.says(
        "CREATE TABLE stock (n int); INSERT INTO stock VALUES (1); GRANT ALL ON stock TO PUBLIC",
    );
    let exporter_folder = TempDir::new().unwrap();
    let exporter =
        exporter(exporter_folder.path(), &["postgresql", "127.0.0.1", &database.port, "shop"]);
    let scene = Scene::start(Plan {
        rules: shipped(
            "end-stuck-query.yaml",
            &[("10 minutes", "2 seconds"), ("settle: 30s", "settle: 1s")],
        ),
        alert: "alert: PostgresqlIdleInTransaction, labels: {severity: warning},
                expr: 'pg_stat_activity_max_tx_duration{state=\"idle in transaction\"} > 3'",
        target: Some(exporter.address),
        ..Plan::default()
    });
    scene.prometheus_says(
        "pg_stat_activity_max_tx_duration{datname=\"shop\", state=\"active\"} >= 0",
    );
    assert!(scene.daemon.items("/api/v1/executions").is_empty());

    let mut stuck = Client::start(database.client("till", "shop"));
    stuck.sends("BEGIN; UPDATE stock SET n = n - 1;");
    eventually("the lock is taken", SOON, || {
        (database.says("SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE usename = 'till' AND mode = 'RowExclusiveLock'") == "1").then_some(())
    });
    let works = Client::start(database.psql("report", "shop", "SELECT pg_sleep(300)"));
    let mut waits = Client::start(database.psql("postgres", "shop", "UPDATE stock SET n = n - 1"));
    scene.prometheus_says(
        "ALERTS{alertname=\"PostgresqlIdleInTransaction\", alertstate=\"firing\"}",
    );
    assert_eq!(waits.0.try_wait().unwrap(), None, "it waits for the lock");

    scene.approve();
    let run = scene.run_becomes("succeeded");
    assert_eq!(run["why"], "verified: all alerts are over", "{run}");
    assert!(run["steps"][0]["output_tail"].as_str().unwrap().contains("UPDATE stock"), "{run}");
    assert_eq!(scene.asks("pg_stat_activity_max_tx_duration{state=\"idle in transaction\"}"), None);
    let ended = eventually("who waited goes on", MINUTE, || waits.0.try_wait().unwrap());
    assert!(ended.success());
    assert_eq!(
        (database.sessions_of("till"), database.sessions_of("report")),
        ("0".into(), "1".into())
    );
    // What was not committed is gone, what came after is there.
    assert_eq!(database.says("SELECT n FROM stock"), "0");
    scene.daemon.incident_becomes("resolved", SOON);
    drop((works, stuck));
}
