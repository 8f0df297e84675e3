//! What a store answers, while nothing goes wrong.

use crate::model::{Model, at, batch, effect, entry, noise, object, record, turn};
use crate::{Open, on_each_engine};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use watchkeeper::domain::effect::EffectKey;
use watchkeeper::store::{Batch, Commit, Kind, Scope, Store, Turn};

fn commit(commit: Commit) -> Batch {
    Batch { commit: Some(commit), ..Batch::default() }
}

fn ids(store: &dyn Store, scope: Scope, before: Option<&str>, limit: usize) -> Vec<String> {
    let objects = store.list(Kind::Incident, scope, before, limit).unwrap();
    objects.into_iter().map(|it| it.id).collect()
}

#[test]
fn an_empty_store_is_empty() {
    on_each_engine(|open, folder| {
        Model::default().assert_same(&*open(folder));
        Model::default().assert_same(&*open(folder));
    });
}

#[test]
fn an_empty_batch_changes_nothing() {
    on_each_engine(|open, folder| {
        let store = open(folder);
        store.write(&Batch::default()).unwrap();
        store.write(&commit(Commit::default())).unwrap();
        Model::default().assert_same(&*store);
    });
}

/// Each prefix of the log, as the live store shows it and as the files show it that a crash right
/// after the acknowledgement leaves behind.
#[test]
fn every_prefix_of_the_log_is_there() {
    on_each_engine(|open, folder| {
        let store = open(folder);
        let mut model = Model::default();
        for n in 1..=30 {
            store.write(&batch(n)).unwrap();
            model.write(&batch(n));
            model.assert_same(&*store);
            let image = tempfile::tempdir().unwrap();
            copy_folder(folder, image.path());
            model.assert_same(&*open(image.path()));
        }
        drop(store);
        model.assert_same(&*open(folder));
    });
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn writing_goes_on_after_opening_again() {
    on_each_engine(|open, folder| {
        let mut model = Model::default();
        for n in 1..=12 {
            let store = open(folder);
            store.write(&batch(n)).unwrap();
            model.write(&batch(n));
            model.assert_same(&*store);
        }
    });
}

#[test]
fn records_and_turns_are_read_on_from_any_place() {
    on_each_engine(|open, folder| {
        let store = open(folder);
        let appends = (1..=20).map(record).collect();
        store.write(&Batch { appends, ..Batch::default() }).unwrap();
        for seqs in [1..=3, 4..=4, 5..=9_u64] {
            store
                .write(&commit(Commit { turns: seqs.map(turn).collect(), ..Commit::default() }))
                .unwrap();
        }
        for after in 0..=20 {
            let seqs = |limit| -> Vec<u64> {
                store.records(after, limit).unwrap().iter().map(|it| it.seq).collect()
            };
            assert_eq!(seqs(usize::MAX), (after + 1..=20).collect::<Vec<_>>());
            assert_eq!(seqs(2), (after + 1..=20).take(2).collect::<Vec<_>>());
            assert!(seqs(0).is_empty());
            let turns = store.turns(after, usize::MAX).unwrap();
            assert_eq!(turns, (after + 1..=9).map(|it| (it, turn(it))).collect::<Vec<_>>());
            let turns = store.turns(after, 2).unwrap();
            assert_eq!(turns, (after + 1..=9).take(2).map(|it| (it, turn(it))).collect::<Vec<_>>());
        }
        assert!(store.records(u64::MAX, 5).unwrap().is_empty());
        assert!(store.turns(u64::MAX, 5).unwrap().is_empty());
        let loaded = store.load().unwrap();
        assert_eq!((loaded.watermark, loaded.last_seq), (9, 20));
    });
}

#[test]
fn a_timer_does_not_move_the_watermark() {
    on_each_engine(|open, folder| {
        let store = open(folder);
        store.write(&batch(1)).unwrap();
        store.write(&commit(Commit { turns: vec![turn(1)], ..Commit::default() })).unwrap();
        let timer = Turn { now: at(50), seq: None, poisoned: false };
        store.write(&commit(Commit { turns: vec![timer], ..Commit::default() })).unwrap();
        drop(store);
        let loaded = open(folder).load().unwrap();
        assert_eq!((loaded.watermark, loaded.last_turn_at), (1, Some(at(50))));
    });
}

#[test]
fn effects_are_kept_until_they_are_finished() {
    on_each_engine(|open, folder| {
        let store = open(folder);
        let key = |name: &str| EffectKey(name.into());
        let effects = vec![effect("EXE-1/a/1"), effect("NTF-1/1"), effect("NTF-2/1")];
        let claims = vec![key("NTF-1/1"), key("EXE-9/a/1")];
        let finished = vec![key("NTF-2/1"), key("EXE-8/a/1")];
        let of = Commit { effects, finished, ..Commit::default() };
        store.write(&Batch { commit: Some(of), claims, ..Batch::default() }).unwrap();
        drop(store);
        let store = open(folder);
        let expected = vec![(effect("EXE-1/a/1"), false), (effect("NTF-1/1"), true)];
        assert_eq!(store.load().unwrap().effects, expected);
        let claims = vec![key("EXE-1/a/1")];
        store.write(&Batch { claims, ..Batch::default() }).unwrap();
        let finished = vec![key("NTF-1/1")];
        store.write(&commit(Commit { finished, ..Commit::default() })).unwrap();
        // The same key again is a new effect, not a claimed one.
        let effects = vec![effect("NTF-1/1")];
        store.write(&commit(Commit { effects, ..Commit::default() })).unwrap();
        let expected = vec![(effect("EXE-1/a/1"), true), (effect("NTF-1/1"), false)];
        assert_eq!(open_again(open, store, folder).load().unwrap().effects, expected);
    });
}

fn open_again(open: Open<'_>, store: Box<dyn Store>, folder: &Path) -> Box<dyn Store> {
    drop(store);
    open(folder)
}

#[test]
fn values_of_any_size_survive_and_shrink() {
    on_each_engine(|open, folder| {
        let mut store = open(folder);
        let sizes = [0, 1, 511, 512, 4094, 4095, 4096, 4097, 16_384, 16_385, 1 << 20, 5000, 10];
        for (n, size) in sizes.into_iter().enumerate() {
            for body in [noise(n as u64, size), "a".repeat(size)] {
                let rules = object(Kind::Rules, "rules", body.clone());
                let other = object(Kind::Incident, format!("INC-{n}"), body.clone());
                let twice = vec![object(Kind::Rules, "rules", noise(7, 9000)), rules.clone()];
                store.write(&commit(Commit { puts: twice, ..Commit::default() })).unwrap();
                let closes = vec![other.clone()];
                store.write(&commit(Commit { closes, ..Commit::default() })).unwrap();
                store = open_again(open, store, folder);
                assert_eq!(store.get(Kind::Rules, "rules").unwrap(), Some(rules), "size {size}");
                assert_eq!(store.get(Kind::Incident, &other.id).unwrap(), Some(other));
                assert_eq!(store.load().unwrap().objects.len(), 1);
            }
        }
    });
}

#[test]
fn closing_moves_an_object_and_a_listing_has_it_once() {
    on_each_engine(|open, folder| {
        let store = open(folder);
        let incident = |n: u64| object(Kind::Incident, format!("INC-{n}"), "open");
        let puts = (1..=12).map(incident).collect();
        store.write(&commit(Commit { puts, ..Commit::default() })).unwrap();
        let closes = [2, 9, 10].map(|n| object(Kind::Incident, format!("INC-{n}"), "closed"));
        store.write(&commit(Commit { closes: closes.into(), ..Commit::default() })).unwrap();
        // A closed one that is open again counts as open.
        store.write(&commit(Commit { puts: vec![incident(9)], ..Commit::default() })).unwrap();
        let all = ["12", "11", "10", "9", "8", "7", "6", "5", "4", "3", "2", "1"];
        let named = |it: &[&str]| it.iter().map(|n| format!("INC-{n}")).collect::<Vec<_>>();
        assert_eq!(ids(&*store, Scope::All, None, 100), named(&all));
        assert_eq!(ids(&*store, Scope::Closed, None, 100), named(&["10", "9", "2"]));
        assert_eq!(ids(&*store, Scope::All, Some("INC-11"), 3), named(&["10", "9", "8"]));
        assert_eq!(ids(&*store, Scope::Open, Some("INC-10"), 2), named(&["9", "8"]));
        assert_eq!(ids(&*store, Scope::All, Some("INC-1"), 3), named(&[]));
        assert_eq!(store.get(Kind::Incident, "INC-9").unwrap().unwrap().body, b"open");
        assert_eq!(store.get(Kind::Incident, "INC-10").unwrap().unwrap().body, b"closed");
        assert_eq!(store.get(Kind::Execution, "INC-10").unwrap(), None);
        assert_eq!(store.load().unwrap().objects.len(), 10);
    });
}

/// Pages of a listing are read while objects are opened and closed: whatever was there before
/// the first page and is there after the last is seen exactly once.
#[test]
fn cursors_hold_under_concurrent_writes() {
    on_each_engine(|open, folder| {
        let store = &*open(folder);
        let incident = |n: u64| object(Kind::Incident, format!("INC-{n}"), noise(n, 5000));
        let puts = (1..=150).map(incident).collect();
        store.write(&commit(Commit { puts, ..Commit::default() })).unwrap();
        let written = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 1..=150 {
                    let mut changes = Commit { closes: vec![incident(n)], ..Commit::default() };
                    changes.puts.push(incident(n + 150));
                    store.write(&commit(changes)).unwrap();
                }
                written.store(true, Ordering::Release);
            });
            let mut rounds = 0;
            while !written.load(Ordering::Acquire) || rounds == 0 {
                let mut seen = Vec::new();
                let mut before = None;
                loop {
                    let page =
                        store.list(Kind::Incident, Scope::All, before.as_deref(), 20).unwrap();
                    let Some(last) = page.last() else { break };
                    before = Some(last.id.clone());
                    seen.extend(page);
                }
                let old: Vec<_> = seen.split_off(seen.len() - 150);
                assert!(
                    old == (1..=150).rev().map(incident).collect::<Vec<_>>(),
                    "lost or doubled"
                );
                rounds += 1;
            }
        });
    });
}

#[test]
fn a_timeline_goes_on_where_it_ended() {
    on_each_engine(|open, folder| {
        let mut store = open(folder);
        for n in 0..10 {
            let id = |id: &str| (id.to_owned(), entry(n, &format!("{id} {n}")));
            let timeline = vec![id("INC-1"), id("INC-11"), id("INC-1")];
            store.write(&commit(Commit { timeline, ..Commit::default() })).unwrap();
            if n % 3 == 0 {
                store = open_again(open, store, folder);
            }
        }
        let texts = |id: &str, after, limit| -> Vec<(u64, String)> {
            let timeline = store.timeline(id, after, limit).unwrap();
            timeline.into_iter().map(|(number, entry)| (number, entry.text)).collect()
        };
        let expected: Vec<_> = (0..20_u64).map(|n| (n + 1, format!("INC-1 {}", n / 2))).collect();
        assert_eq!(texts("INC-1", 0, 100), expected);
        assert_eq!(texts("INC-1", 4, 3), expected[4..7]);
        assert_eq!(texts("INC-1", 5, 3), expected[5..8]);
        assert_eq!(texts("INC-11", 9, 100), [(10, "INC-11 9".to_owned())]);
        assert!(texts("INC-1", 20, 100).is_empty() && texts("INC-", 0, 100).is_empty());
    });
}

#[test]
fn retention_removes_what_is_old_and_nothing_else() {
    on_each_engine(|open, folder| {
        let store = open(folder);
        for n in 1..=40 {
            store.write(&batch(n)).unwrap();
        }
        let closed_before = |n: u64| (1..=37).filter(move |it| (it + 2) % 3 == 0 && it + 2 >= n);
        assert_eq!(ids(&*store, Scope::Closed, None, 100).len(), closed_before(0).count());
        let mut calls = 0;
        while store.retain(at(20), 7).unwrap() > 0 {
            calls += 1;
        }
        assert!(calls > 5, "each call is small: {calls}");
        let kept: Vec<_> = store.records(0, 100).unwrap().iter().map(|it| it.seq).collect();
        assert_eq!(kept, (20..=40).collect::<Vec<_>>());
        let turns = store.turns(0, 100).unwrap();
        assert!(turns.iter().all(|(_, turn)| turn.now >= at(20)));
        assert_eq!(turns.len(), 20 + 7, "records 20 to 39 and the timers at 21, 24, … 39");
        let closed = ids(&*store, Scope::Closed, None, 100);
        let expected: Vec<_> = closed_before(20).map(|it| format!("INC-{it}")).collect();
        assert_eq!(closed.into_iter().rev().collect::<Vec<_>>(), expected);
        assert!(store.timeline("INC-4", 0, 10).unwrap().is_empty());
        assert_eq!(store.timeline("INC-2", 0, 10).unwrap().len(), 1, "an open one stays");
        let before = store.load().unwrap();
        // Everything is old now; what is open and the watermark stay.
        while store.retain(at(1000), 1000).unwrap() > 0 {}
        assert!(ids(&*store, Scope::Closed, None, 100).is_empty());
        assert_eq!(store.records(0, 100).unwrap().len(), 2, "the last turn's and the waiting one");
        let after = open_again(open, store, folder).load().unwrap();
        assert_eq!(after.objects, before.objects);
        assert_eq!(after.effects, before.effects);
        assert_eq!((after.watermark, after.last_seq), (39, 40));
        assert_eq!(after.last_turn_at, Some(at(39)));
    });
}

#[test]
fn an_object_that_closed_again_is_kept_from_then_on() {
    on_each_engine(|open, folder| {
        let store = open(folder);
        for seconds in [10, 50] {
            let turns = vec![Turn { now: at(seconds), seq: None, poisoned: false }];
            let closes = vec![object(Kind::Alert, "00ab12", noise(seconds, 9000))];
            store.write(&commit(Commit { turns, closes, ..Commit::default() })).unwrap();
        }
        while store.retain(at(30), 10).unwrap() > 0 {}
        let alert = store.get(Kind::Alert, "00ab12").unwrap().unwrap();
        assert_eq!(alert.body, noise(50, 9000).into_bytes());
        while store.retain(at(51), 10).unwrap() > 0 {}
        assert_eq!(store.get(Kind::Alert, "00ab12").unwrap(), None);
    });
}

#[test]
fn health_tells_sizes() {
    on_each_engine(|open, folder| {
        let health = open(folder).health();
        assert!(!health.engine.is_empty() && health.disk_bytes > 0 && health.free_bytes > 0);
    });
}
