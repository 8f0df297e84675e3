//! What a run needs does not answer, refuses, or answers nonsense: the run does not begin, and says why.

use crate::http::Receiver;
use crate::support::{Daemon, Options, SOON, eventually, free_port};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

/// What a server does with whoever comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Silent,
    Refusing,
    Nonsense,
    /// It speaks HTTP, and says nothing that makes sense.
    Chatter,
    Well,
}

const MANNERS: [Manner; 5] =
    [Manner::Silent, Manner::Refusing, Manner::Nonsense, Manner::Chatter, Manner::Well];

const WELL: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}"#;

/// A server of a manner. It lives as long as the test.
fn server(manner: Manner) -> SocketAddr {
    if manner == Manner::Refusing {
        return SocketAddr::from(([127, 0, 0, 1], free_port()));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let body = if manner == Manner::Well { WELL } else { "no sense" };
    let answer = match manner {
        Manner::Nonsense => "\0\u{1}\u{2} no sense".to_owned(),
        _ => format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
    };
    thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            if manner != Manner::Silent {
                // An answer before the question would be none.
                stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                drop(stream.read(&mut [0; 4096]));
                // Whoever asked may be gone.
                stream.write_all(answer.as_bytes()).unwrap_or_default();
                stream.shutdown(std::net::Shutdown::Write).unwrap_or_default();
            }
            held.push(stream);
        }
    });
    address
}

struct Scene {
    daemon: Daemon,
    done: Receiver,
    /// The runbooks that must not begin.
    held: Vec<String>,
}

fn scene() -> Scene {
    let done = Receiver::start();
    let (mut rules, mut servers) = (vec!["runbooks:\n".to_owned()], Vec::new());
    let (mut allowed, mut held) = (vec![format!("'{}'", done.address)], Vec::new());
    for manner in MANNERS {
        let address = server(manner);
        let (name, port) = (format!("{manner:?}").to_lowercase(), address.port());
        servers.push(format!("{{name: {name}, url: 'http://{address}', poll_every: 1h}}"));
        allowed.push(format!("'{address}'"));
        let query = ("query", format!("query: {{source: {name}, promql: up}}"));
        let http = ("http", format!("http: {{url: 'http://{address}/health'}}"));
        let psql = (
            "psql",
            format!(
                "command: {{argv: [psql, --no-psqlrc, --host, 127.0.0.1, --port, '{port}', --username, x, --dbname, x, --command, SELECT 1]}}"
            ),
        );
        for (kind, look) in [query, http, psql] {
            rules.push(format!(
                "
  - name: {kind}-{name}
    mode: auto
    guards: {{precondition: {{{look}}}}}
    steps: [{{id: do, http: {{method: POST, url: '{}', body: '\"{kind}-{name}\"'}}}}]",
                done.url("/done")
            ));
            // A page is an answer, whatever stands in it.
            let is_well = manner == Manner::Well || (manner == Manner::Chatter && kind == "http");
            if !is_well {
                held.push(format!("{kind}-{name}"));
            }
        }
    }
    let settings =
        format!("prometheus: [{}]\nhttp_allow: [{}]\n", servers.join(", "), allowed.join(", "));
    let options = Options { rules: rules.concat(), settings, ..Options::default() };
    Scene { daemon: Daemon::start_with(options), done, held }
}

fn run(daemon: &Daemon, runbook: &str) -> String {
    let run = daemon.done(&format!("/api/v1/runbooks/{runbook}/run"), &json!({"by": "ann"}));
    run["id"].as_str().unwrap().to_owned()
}

fn becomes(daemon: &Daemon, id: &str, state: &str) -> Value {
    eventually(&format!("{id} is {state}"), SOON, || {
        Some(daemon.get(&format!("/api/v1/executions/{id}"))).filter(|it| it["state"] == state)
    })
}

#[test]
fn without_a_good_answer_nothing_begins() {
    let Scene { daemon, done, held } = scene();
    let runs: Vec<String> = held.iter().map(|it| run(&daemon, it)).collect();
    for (runbook, id) in held.iter().zip(&runs) {
        let blocked = becomes(&daemon, id, "blocked");
        assert_eq!(blocked["blocked_by"], "precondition", "{runbook}: {blocked}");
        let reason = blocked["blocked_reason"].as_str().unwrap();
        assert!(reason.starts_with("the precondition "), "{runbook}: {blocked}");
        assert_eq!(blocked["started_at"], Value::Null, "{runbook}: {blocked}");
        let told = daemon.get(&format!("/api/v1/explain/{id}")).to_string();
        assert!(told.contains("precondition"), "{told}");
        if runbook.ends_with("-silent") {
            assert!(reason.contains("longer than its time of 10 s"), "{runbook}: {reason}");
        }
    }
    let guard = [("guard", "precondition")];
    let count = f64::from(u32::try_from(held.len()).unwrap());
    daemon.metric_becomes("watchkeeper_runbook_blocked_total", &guard, count);
    assert!(done.received().is_empty(), "{:?}", done.received());
    for runbook in ["query-well", "http-well"] {
        becomes(&daemon, &run(&daemon, runbook), "succeeded");
    }
    assert_eq!(done.received_at("/done").len(), 2);
}

#[test]
fn a_look_that_a_crash_cut_off_is_made_again() {
    let Scene { mut daemon, done, .. } = scene();
    let id = run(&daemon, "query-silent");
    assert_eq!(becomes(&daemon, &id, "running")["started_at"], Value::Null);
    daemon.kill_9();
    daemon.restart();
    let blocked = becomes(&daemon, &id, "blocked");
    assert_eq!(blocked["blocked_by"], "precondition", "{blocked}");
    assert!(done.received().is_empty());
}
