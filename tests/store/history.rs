//! The history as a reader goes through it, while it grows at one end and leaves at the other.

use crate::model::{Model, at, batch, entry, record, turn};
use crate::on_each_engine;
use std::sync::atomic::{AtomicBool, Ordering};
use watchkeeper::store::{Batch, Commit, Store, Turn};

fn commit(commit: Commit) -> Batch {
    Batch { commit: Some(commit), ..Batch::default() }
}

fn seqs(store: &dyn Store) -> Vec<u64> {
    store.records(0, usize::MAX).unwrap().iter().map(|it| it.seq).collect()
}

/// Reads the whole history page by page; each page must begin where the one before ended.
fn read_through(store: &dyn Store) -> (u64, u64, u64) {
    let (mut seq, mut number, mut note) = (0, 0, 0);
    loop {
        let page = store.records(seq, 7).unwrap();
        let Some(last) = page.last() else { break };
        // What was before the first page may be gone; nothing in between may.
        let first = page.first().unwrap().seq;
        assert!(seq == 0 || first == seq + 1, "record {first} after {seq}");
        assert!(page.iter().zip(first..).all(|(it, seq)| *it == record(seq)));
        seq = last.seq;
    }
    loop {
        let page = store.turns(number, 7).unwrap();
        let Some((last, _)) = page.last() else { break };
        let first = page.first().unwrap().0;
        assert!(number == 0 || first == number + 1, "turn {first} after {number}");
        assert!(page.iter().zip(first..).all(|(it, number)| *it == (number, turn(number))));
        number = *last;
    }
    loop {
        let page = store.timeline("INC-1", note, 7).unwrap();
        let Some((last, _)) = page.last() else { break };
        let expected = (note + 1..).map(|it| (it, entry(it, &it.to_string())));
        assert!(page.iter().cloned().zip(expected).all(|(it, expected)| it == expected));
        note = *last;
    }
    (seq, number, note)
}

#[test]
fn a_reader_goes_through_the_history_while_it_grows() {
    on_each_engine(|open, folder| {
        let store = &*open(folder);
        let is_written = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for seq in 1..=120 {
                    let mut changes = Commit { turns: vec![turn(seq)], ..Commit::default() };
                    changes.timeline.push(("INC-1".to_owned(), entry(seq, &seq.to_string())));
                    let appends = vec![record(seq)];
                    let batch = Batch { appends, commit: Some(changes), ..Batch::default() };
                    store.write(&batch).unwrap();
                }
                is_written.store(true, Ordering::Release);
            });
            // A record may be there a moment before its turn.
            let mut before = (0, 0, 0);
            while !is_written.load(Ordering::Acquire) {
                let now = read_through(store);
                assert!(now.0 >= before.0 && now.1 + 1 >= now.0 && now.2 >= now.1, "{now:?}");
                before = now;
            }
        });
        assert_eq!(read_through(store), (120, 120, 120));
    });
}

/// A reader that looks at one page at a time never sees a hole, also when old pages leave.
#[test]
fn each_page_of_the_history_is_whole_while_it_leaves() {
    on_each_engine(|open, folder| {
        let store = &*open(folder);
        for seq in 1..=150 {
            let changes = Commit { turns: vec![turn(seq)], ..Commit::default() };
            let appends = vec![record(seq)];
            store.write(&Batch { appends, commit: Some(changes), ..Batch::default() }).unwrap();
        }
        let is_removed = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while store.retain(at(100), 3).unwrap() > 0 {}
                is_removed.store(true, Ordering::Release);
            });
            while !is_removed.load(Ordering::Acquire) {
                let records = store.records(0, usize::MAX).unwrap();
                let first = records.first().unwrap().seq;
                assert!(records == (first..=150).map(record).collect::<Vec<_>>(), "from {first}");
                let turns = store.turns(0, usize::MAX).unwrap();
                let first = turns.first().unwrap().0;
                assert!(turns == (first..=150).map(|it| (it, turn(it))).collect::<Vec<_>>());
            }
        });
        assert_eq!(seqs(store), (100..=150).collect::<Vec<_>>());
    });
}

#[test]
fn each_prefix_of_the_log_goes_on_to_the_same_end() {
    on_each_engine(|open, folder| {
        let store = open(folder);
        let mut model = Model::default();
        for n in 1..=16 {
            store.write(&batch(n)).unwrap();
            model.write(&batch(n));
            let image = tempfile::tempdir().unwrap();
            crate::contract::copy_folder(folder, image.path());
            let resumed = open(image.path());
            for m in n + 1..=16 {
                resumed.write(&batch(m)).unwrap();
            }
            let mut end = Model::default();
            (1..=16).for_each(|it| end.write(&batch(it)));
            end.assert_same(&*resumed);
        }
        model.assert_same(&*store);
    });
}

#[test]
fn the_watermark_is_the_last_record_that_was_applied_and_never_falls() {
    on_each_engine(|open, folder| {
        let mut store = open(folder);
        let appends = (1..=9).map(record).collect();
        store.write(&Batch { appends, ..Batch::default() }).unwrap();
        let timer = Turn { now: at(60), seq: None, poisoned: false };
        let poisoned = Turn { now: at(70), seq: Some(6), poisoned: true };
        let steps = [
            (vec![turn(1), turn(2)], 2),
            (vec![], 2),
            (vec![timer], 2),
            (vec![turn(3), timer, turn(4), timer], 4),
            (vec![turn(5)], 5),
            (vec![poisoned], 6),
            (vec![timer, timer], 6),
        ];
        for (turns, watermark) in steps {
            store.write(&commit(Commit { turns, ..Commit::default() })).unwrap();
            for _ in 0..2 {
                let loaded = store.load().unwrap();
                assert_eq!((loaded.watermark, loaded.last_seq), (watermark, 9));
                let waiting = store.records(loaded.watermark, usize::MAX).unwrap();
                assert_eq!(waiting, (watermark + 1..=9).map(record).collect::<Vec<_>>());
                drop(store);
                store = open(folder);
            }
        }
        // Retention takes what is old, but not the mark, nor what waits behind it.
        while store.retain(at(100_000), 2).unwrap() > 0 {}
        drop(store);
        let store = open(folder);
        let loaded = store.load().unwrap();
        assert_eq!((loaded.watermark, loaded.last_seq), (6, 9));
        assert_eq!(seqs(&*store), [7, 8, 9]);
    });
}

#[test]
fn retention_keeps_to_its_budget_and_leaves_what_was_not_applied() {
    on_each_engine(|open, folder| {
        let store = open(folder);
        let appends = (1..=30).map(record).collect();
        store.write(&Batch { appends, ..Batch::default() }).unwrap();
        assert_eq!(store.retain(at(100_000), 100).unwrap(), 0, "nothing was applied");
        assert_eq!(seqs(&*store).len(), 30);
        for seq in 1..=20 {
            store.write(&commit(Commit { turns: vec![turn(seq)], ..Commit::default() })).unwrap();
        }
        assert_eq!(store.retain(at(100_000), 0).unwrap(), 0);
        for budget in [1, 2, 5, 1] {
            let before = seqs(&*store).len() + store.turns(0, usize::MAX).unwrap().len();
            assert_eq!(store.retain(at(100_000), budget).unwrap(), budget);
            let after = seqs(&*store).len() + store.turns(0, usize::MAX).unwrap().len();
            assert_eq!(before - after, budget, "each is one value");
        }
        while store.retain(at(100_000), 3).unwrap() > 0 {}
        assert_eq!(seqs(&*store), (20..=30).collect::<Vec<_>>());
        assert_eq!(store.turns(0, usize::MAX).unwrap(), [(20, turn(20))]);
    });
}
