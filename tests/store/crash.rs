//! What is left after `kill -9`: everything that was acknowledged, and nothing by half.

use crate::model::{entry, noise, object, record, turn};
use crate::{ENGINES, Open};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use watchkeeper::store::{Batch, Commit, Kind, Store};

const KILLS: u64 = 30;
/// Tells the child process where to write.
const FOLDER: &str = "WATCHKEEPER_TEST_STORE";
const ENGINE: &str = "WATCHKEEPER_TEST_ENGINE";

#[test]
fn acknowledged_batches_survive_kill_9() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let engine = std::env::var(ENGINE).unwrap();
        let (_, open) = ENGINES.iter().find(|(name, _)| *name == engine).unwrap();
        write_until_killed(open, Path::new(&folder));
    }
    for (name, open) in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let mut acknowledged = 0;
        for _ in 0..KILLS {
            let mut child = start(name, folder.path());
            // The kill must fall on any moment of a write: the clock's last digits choose it.
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let delay = Duration::from_micros((now.subsec_nanos() % 60_000).into());
            acknowledged = kill_after(&mut child, folder.path(), acknowledged, delay);
            check(&*open(&folder.path().join("store")), acknowledged);
        }
        println!("{name}: {KILLS} kills, {acknowledged} acknowledged batches, 0 lost");
    }
}

fn start(engine: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["crash::acknowledged_batches_survive_kill_9", "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .env(ENGINE, engine)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills the child some time after its first new acknowledgement; returns the last one.
fn kill_after(child: &mut Child, folder: &Path, before: u64, delay: Duration) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(30);
    while last_acknowledged(folder) == before {
        assert!(Instant::now() < deadline, "no acknowledgement within 30 s");
        assert_eq!(child.try_wait().unwrap(), None, "the writer ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    last_acknowledged(folder)
}

fn last_acknowledged(folder: &Path) -> u64 {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(folder.join("acknowledged")) {
        file.read_to_end(&mut bytes).unwrap();
    }
    bytes.as_chunks().0.last().map_or(0, |it| u64::from_be_bytes(*it))
}

fn write_until_killed(open: Open<'_>, folder: &Path) -> ! {
    let store = open(&folder.join("store"));
    let path = folder.join("acknowledged");
    let mut acknowledged = File::options().create(true).append(true).open(path).unwrap();
    let loaded = store.load().unwrap();
    let mut seq = loaded.watermark;
    loop {
        seq += 1;
        let mut step = step(seq);
        // A record is durable before the rest of its batch.
        step.appends.retain(|it| it.seq > loaded.last_seq);
        store.write(&step).unwrap();
        acknowledged.write_all(&seq.to_be_bytes()).unwrap();
    }
}

/// One batch that touches everything, with a value that is stored in pieces.
fn step(seq: u64) -> Batch {
    let mut commit = Commit { turns: vec![turn(seq)], ..Commit::default() };
    commit.puts.push(object(Kind::Memory, "memory", seq.to_string()));
    commit.puts.push(object(Kind::Rules, "rules", format!("{seq} {}", noise(seq, 10_000))));
    commit.timeline.push(("INC-1".to_owned(), entry(seq, &seq.to_string())));
    commit.puts.push(object(Kind::Incident, format!("INC-{seq}"), "open"));
    if seq > 3 {
        commit.closes.push(object(Kind::Incident, format!("INC-{}", seq - 3), "closed"));
    }
    Batch { appends: vec![record(seq)], commit: Some(commit), ..Batch::default() }
}

fn check(store: &dyn Store, acknowledged: u64) {
    let loaded = store.load().unwrap();
    let (seq, last) = (loaded.watermark, loaded.last_seq);
    assert!(seq >= acknowledged, "lost: {acknowledged} acknowledged, {seq} there");
    assert!(last <= acknowledged + 1, "{acknowledged} acknowledged, {last} there");
    assert!(seq <= last, "turn {seq} without its record, {last} there");
    let records = store.records(0, usize::MAX).unwrap();
    assert!(records == (1..=last).map(record).collect::<Vec<_>>(), "a gap among {last} records");
    let turns = store.turns(0, usize::MAX).unwrap();
    assert!(turns == (1..=seq).map(|it| (it, turn(it))).collect::<Vec<_>>(), "a gap in the turns");
    let timeline = store.timeline("INC-1", 0, usize::MAX).unwrap();
    let texts: Vec<_> = timeline.into_iter().map(|(_, entry)| entry.text).collect();
    assert!(texts == (1..=seq).map(|it| it.to_string()).collect::<Vec<_>>(), "a torn timeline");
    for object in step(seq).commit.unwrap().puts {
        assert_eq!(store.get(object.kind, &object.id).unwrap(), Some(object));
    }
    let open = loaded.objects.iter().filter(|it| it.kind == Kind::Incident).count() as u64;
    assert_eq!(open, seq.min(3));
}
