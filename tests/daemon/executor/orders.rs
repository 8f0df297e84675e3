//! What an executor takes from those who connect: from whom, what, and how many at once.

use super::{DEED, Executor, becomes, deeds, detail, lines, run, script};
use crate::support::{PROGRAM, SOON, eventually};
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

#[test]
fn only_who_may_gives_orders() {
    // Whoever runs this test, it is not the one who may.
    let executor = Executor::start(&["--allow-user", "64999"]);
    let mode = fs::metadata(executor.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("done");
    let daemon = executor.daemon(deeds(&script(folder.path(), "deed", DEED)));
    let id = run(&daemon, "once", &json!({"file": file}));
    let failed = becomes(&daemon, &id, "failed");
    let own = rustix::process::getuid().as_raw();
    let told = format!("the user with the number {own} may not give orders here");
    assert!(detail(&failed).contains(&told), "{failed}");
    assert!(lines(&file).is_empty());
    // There is one executor for a socket.
    let second = Command::new(PROGRAM)
        .args(["executor", "--socket"])
        .arg(executor.socket())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && said.contains("an executor runs there already"), "{said}");
}

#[test]
fn only_what_is_on_the_list_is_started() {
    let folder = TempDir::new().unwrap();
    let books = folder.path().join("books");
    fs::create_dir(&books).unwrap();
    let (good, bad) =
        (script(&books, "good", "#!/bin/sh\necho \"$A\"\n"), script(folder.path(), "bad", DEED));
    let listed = format!("{}/", books.display());
    let executor = Executor::start(&["--allow-program", &listed, "--allow-variable", "A"]);
    let spoilt = folder.path().join("spoilt");
    let rules = [
        ("good", format!("argv: ['{good}'], environment: {{A: hello}}")),
        ("bad", format!("argv: ['{bad}', '{}']", spoilt.display())),
        ("shell", format!("argv: [sh, -c, 'echo x > {}']", spoilt.display())),
        ("round", format!("argv: ['{}/../bad', '{}']", books.display(), spoilt.display())),
        ("loaded", format!("argv: ['{good}'], environment: {{LD_PRELOAD: /tmp/x.so}}")),
    ];
    let rules = rules.map(|(name, command)| {
        format!("  - {{name: {name}, steps: [{{id: a, command: {{{command}}}}}]}}\n")
    });
    let daemon = executor.daemon(format!("runbooks:\n{}", rules.concat()));
    let id = run(&daemon, "good", &json!({}));
    assert_eq!(becomes(&daemon, &id, "succeeded")["steps"][0]["output_tail"], "hello\n");
    for (name, part) in [
        ("bad", "`--allow-program`"),
        ("shell", "`--allow-program`"),
        ("round", "`--allow-program`"),
        ("loaded", "may not set the variable `LD_PRELOAD`"),
    ] {
        let id = run(&daemon, name, &json!({}));
        let failed = becomes(&daemon, &id, "failed");
        assert!(detail(&failed).contains(part), "{failed}");
    }
    assert!(!spoilt.exists());
}

fn frame(kind: u8, words: &[u8]) -> Vec<u8> {
    let length = u32::try_from(words.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], words].concat()
}

#[test]
fn whatever_is_said_to_it_it_goes_on() {
    let mut executor = Executor::start(&[]);
    let hello = frame(b'h', br#"{"protocol":1,"version":"0"}"#);
    let limits = r#"{"processes":9,"files":9,"memory_bytes":null,"file_bytes":null,"cpu_seconds":null,"new_privileges":false}"#;
    let order = |argv: &str, timeout: &str| {
        let order = format!(
            r#"{{"key":"k","daemon":"d","life":"l","timeout_milliseconds":{timeout},"task":{{"argv":{argv},"directory":null,"environment":{{}},"limits":{limits},"user":null,"stdin":null,"paths":null}}}}"#
        );
        [hello.clone(), frame(b'r', order.as_bytes())].concat()
    };
    let huge = format!(r#"["true","{}"]"#, "x".repeat(1 << 20));
    for (bytes, part) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), ""),
        (vec![b'r', 255, 255, 255, 255], ""),
        (vec![0; 70_000], ""),
        (b"h\0\0".to_vec(), ""),
        (frame(b'h', b"{}"), ""),
        (frame(b'h', &b"[".repeat(60_000)), ""),
        (frame(b'h', br#"{"protocol":2,"version":"9"}"#), "speaks protocol 2"),
        (frame(b'e', b"{}"), ""),
        ([hello.clone(), hello.clone()].concat(), ""),
        ([hello.clone(), frame(b'r', b"{}")].concat(), ""),
        ([hello.clone(), frame(b'r', b"\xff\xfe")].concat(), ""),
        ([order(r#"["true"]"#, "60000"), b"more".to_vec()].concat(), ""),
        (order("[]", "60000"), "the command is empty"),
        (order(r#"[""]"#, "60000"), "not found"),
        (order(r#"["no\u0000thing"]"#, "60000"), "\"failed\""),
        (order(&huge, "60000"), "\"failed"),
        (order(r#"["sleep","60"]"#, "0"), "timed_out"),
        (order(r#"["echo","heard"]"#, "18446744073709551615"), "heard"),
        (order(r#"["true"]"#, "-1"), ""),
    ] {
        let mut stream = UnixStream::connect(executor.socket()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        // It may have heard enough before all of it is said.
        drop(stream.write_all(&bytes));
        if part.is_empty() {
            drop(stream.shutdown(std::net::Shutdown::Write));
        }
        let mut heard = Vec::new();
        drop(stream.read_to_end(&mut heard));
        let heard = String::from_utf8_lossy(&heard);
        let said = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        assert!(heard.contains(part), "{said}: {heard}");
    }
    assert!(executor.child.as_mut().unwrap().try_wait().unwrap().is_none(), "it is gone");
    assert!(!executor.log().contains("panicked"), "{}", executor.log());
}

/// Connections that say nothing, as many as there is room for; the daemon may be greeting beside them.
fn all_room(executor: &Executor, room: usize) -> Vec<UnixStream> {
    let mut silent: Vec<UnixStream> = Vec::new();
    eventually("all room is taken", SOON, || {
        while silent.len() <= room {
            let stream = UnixStream::connect(executor.socket()).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            silent.push(stream);
        }
        // They are taken in one after the other, so once the last one is answered all have been.
        silent.last_mut()?.read_exact(&mut [0]).ok()?;
        silent.retain_mut(|stream| {
            stream.set_nonblocking(true).unwrap();
            let is_held = stream.read(&mut [0]).is_err();
            stream.set_nonblocking(false).unwrap();
            is_held
        });
        (silent.len() == room).then_some(())
    });
    silent
}

#[test]
fn there_is_room_for_so_many_and_no_more() {
    let executor = Executor::start(&["--programs-max", "1"]);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("done");
    let daemon = executor.daemon(deeds(&script(folder.path(), "deed", DEED)));
    // Those who say nothing take the room of others for a while only.
    let silent = all_room(&executor, 33);
    let id = run(&daemon, "once", &json!({"file": file}));
    let failed = becomes(&daemon, &id, "failed");
    assert!(detail(&failed).contains("too many connections"), "{failed}");
    drop(silent);
    eventually("it is heard again", SOON, || {
        let id = run(&daemon, "idempotent", &json!({"file": file}));
        let run = eventually("it is over", SOON, || {
            let run = daemon.get(&format!("/api/v1/executions/{id}"));
            run["ended_at"].is_string().then_some(run)
        });
        (run["state"] == "succeeded").then_some(())
    });
    // One program at a time was asked for.
    let hold = folder.path().join("second.hold");
    fs::write(&hold, "").unwrap();
    let busy = run(&daemon, "once", &json!({"file": folder.path().join("second")}));
    eventually("it runs", SOON, || {
        (!lines(&folder.path().join("second")).is_empty()).then_some(())
    });
    let id = run(&daemon, "idempotent", &json!({"file": file}));
    let failed = becomes(&daemon, &id, "failed");
    assert!(detail(&failed).contains("has 1 programs running"), "{failed}");
    fs::remove_file(&hold).unwrap();
    becomes(&daemon, &busy, "succeeded");
}
