//! Freezes that people make: they hold, end, come back from the store, and mark changes.

use super::*;
use crate::domain::change::{ChangeId, ChangeState, ReceivedChange};
use crate::domain::event::{ChangeBatch, Command, Event};
use crate::domain::item::{Item, ItemId, ItemKind, Relation, RelationKind};
use crate::domain::restore::Stored;
use crate::domain::rules::{RuleSet, Runbook, RunbookMode};
use crate::domain::{Count, Turn};
use std::collections::BTreeMap;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_797_724_800 + second).unwrap()
}

fn item(name: &str, kind: ItemKind) -> Item {
    Item::named(kind, name)
}

/// A shop with a web site and a cart, and mail beside it; a runbook that takes a parameter.
fn state() -> State {
    let items = vec![
        item("shop", ItemKind::System),
        item("shop-web", ItemKind::Component),
        item("cart", ItemKind::Component),
        item("mail", ItemKind::Component),
    ];
    let part = |from| Relation { from: ItemId(from), kind: RelationKind::PartOf, to: ItemId(0) };
    let catalog = Arc::new(Catalog::new(items, &[part(1), part(2)]));
    let parameter =
        crate::domain::rules::Parameter { value: String::new(), pattern: ".*".to_owned() };
    let runbook = Runbook {
        rule: Arc::new(RuleRef { name: "restart".to_owned(), ..RuleRef::default() }),
        mode: RunbookMode::Auto,
        parameters: BTreeMap::from([("unit".to_owned(), parameter)]),
        guards: crate::domain::rules::Guards {
            runs_max: 100,
            ..crate::domain::rules::Guards::default()
        },
        ..Runbook::default()
    };
    let rules = RuleSet { catalog, runbooks: vec![runbook], ..RuleSet::default() };
    let mut state = State::default();
    drop(state.apply(at(0), &Event::RulesLoaded(Arc::new(rules))));
    state
}

fn order(state: &mut State, now: Timestamp, command: Command) -> Turn {
    state.apply(now, &Event::CommandGiven { by: "ann".to_owned(), command })
}

fn freeze(state: &mut State, now: Timestamp, terms: FreezeTerms) -> Reply {
    let terms = FreezeTerms { reason: "christmas".to_owned(), ..terms };
    order(state, now, Command::AddFreeze { terms: Box::new(terms) }).reply.unwrap()
}

fn of(items: &[&str], allow: &[ChangeKind]) -> FreezeTerms {
    FreezeTerms {
        items: items.iter().map(|it| (*it).to_owned()).collect(),
        allow: allow.to_vec(),
        ends_at: Some(at(1000)),
        ..FreezeTerms::default()
    }
}

/// Runs the runbook by hand; gives the reason if a freeze holds it back.
fn run(state: &mut State, now: Timestamp, unit: &str, emergency: bool) -> Option<String> {
    let command = Command::RunRunbook {
        runbook: "restart".to_owned(),
        parameters: BTreeMap::from([("unit".to_owned(), unit.to_owned())]),
        incident: None,
        dry_run: false,
        emergency,
    };
    let turn = order(state, now, command);
    let Some(Ok(Accepted::Object(ObjectKey::Execution(id)))) = turn.reply else {
        panic!("{:?}", turn.reply)
    };
    let blocked = state.executions.get(&id)?.blocked_by.clone()?;
    assert_eq!(blocked.guard, "freeze");
    assert!(turn.counts.contains(&Count::RunbookBlocked("freeze".to_owned())));
    Some(blocked.reason)
}

#[test]
fn a_freeze_binds_its_items_and_their_parts_and_no_others() {
    let mut state = state();
    assert_eq!(run(&mut state, at(0), "cart", false), None);
    assert!(freeze(&mut state, at(1), of(&["SHOP"], &[])).is_ok());
    let reason = run(&mut state, at(2), "cart.service", false).unwrap();
    assert_eq!(reason, "the freeze FRZ-1 binds `SHOP` until 2026-12-20T00:16:40Z: christmas");
    assert_eq!(run(&mut state, at(3), "mail", false), None);
    let reason = run(&mut state, at(4), "something", false).unwrap();
    assert!(reason.contains("not known what the run acts on"), "{reason}");
    let end = Command::EndFreeze { freeze: "FRZ-1".to_owned() };
    assert!(order(&mut state, at(5), end.clone()).reply.unwrap().is_ok());
    assert!(order(&mut state, at(5), end).reply.unwrap().is_err());
    assert_eq!(run(&mut state, at(6), "cart", false), None);
}

#[test]
fn a_freeze_lets_go_the_kinds_that_it_allows() {
    let mut state = state();
    assert!(freeze(&mut state, at(1), of(&[], &[ChangeKind::Emergency])).is_ok());
    let reason = run(&mut state, at(2), "mail", false).unwrap();
    assert!(reason.contains("binds everything"), "{reason}");
    assert!(reason.ends_with("it allows what is emergency"), "{reason}");
    assert_eq!(run(&mut state, at(3), "mail", true), None);
    assert!(freeze(&mut state, at(4), of(&["mail"], &[ChangeKind::Standard])).is_ok());
    assert!(run(&mut state, at(5), "mail", true).unwrap().contains("FRZ-2"));
    assert_eq!(run(&mut state, at(1000), "mail", false), None, "the end is not part of it");
}

#[test]
fn matchers_bind_what_is_not_known() {
    let mut state = state();
    let matchers = Matchers(vec!["unit=\"cart\"".parse().unwrap()]);
    let terms = FreezeTerms { matchers, ..of(&[], &[]) };
    assert!(freeze(&mut state, at(1), terms).is_ok());
    assert!(run(&mut state, at(2), "cart", false).unwrap().contains("has these labels"));
    assert_eq!(run(&mut state, at(3), "mail", false), None);
    assert!(run(&mut state, at(4), "", false).unwrap().contains("no labels"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut state = state();
    let ends = |ends_at| FreezeTerms { ends_at, ..FreezeTerms::default() };
    assert!(freeze(&mut state, at(5), ends(None)).is_err());
    assert!(freeze(&mut state, at(5), ends(Some(at(5)))).is_err());
    let terms = Box::new(FreezeTerms { reason: " ".to_owned(), ..of(&[], &[]) });
    assert!(order(&mut state, at(5), Command::AddFreeze { terms }).reply.unwrap().is_err());
    for name in ["FRZ-1", "christmas", ""] {
        let end = Command::EndFreeze { freeze: name.to_owned() };
        assert!(order(&mut state, at(5), end).reply.unwrap().is_err(), "{name}");
    }
    assert!(state.freezes.is_empty());
}

#[test]
fn a_freeze_comes_back_from_the_store_and_leaves_after_a_day() {
    let mut state = state();
    assert!(freeze(&mut state, at(1), of(&["shop"], &[])).is_ok());
    let stored = serde_json::to_string(&state.freezes[&FreezeId(1)]).unwrap();
    let stored = Stored::Freeze(serde_json::from_str(&stored).unwrap());
    let rules = Stored::Rules(state.rules.clone());
    let mut state = State::restore([stored, rules], at(2));
    assert!(run(&mut state, at(3), "cart", false).is_some());
    drop(state.take_changes());
    drop(state.apply(at(1000 + KEPT_SECONDS), &Event::Woken));
    assert!(state.freezes.is_empty());
    assert!(state.take_changes().closed.iter().any(|it| matches!(it, Closed::Freeze(_))));
}

#[test]
fn a_change_that_begins_in_a_freeze_is_marked() {
    let mut state = state();
    assert!(freeze(&mut state, at(10), of(&["shop"], &[ChangeKind::Emergency])).is_ok());
    let mut tell = |id: &str, time: i64, service: &str, kind| {
        let told = ReceivedChange {
            external_id: id.to_owned(),
            title: "a".to_owned(),
            time: Some(at(time)),
            service: service.to_owned(),
            state: ChangeState::Running,
            kind,
            ..ReceivedChange::default()
        };
        let batch = ChangeBatch { source: "ci".into(), changes: vec![told] };
        let turn = state.apply(at(2000), &Event::ChangesReceived(batch));
        let change = state.change_log.open.values().find(|it| it.told.external_id == id).unwrap();
        let marks: Vec<bool> = change.freezes.iter().map(|it| it.allowed).collect();
        let counted = turn.counts.contains(&Count::ChangeInFreeze(kind));
        (change.id, marks, counted)
    };
    let normal = ChangeKind::Normal;
    assert_eq!(tell("a", 20, "cart", normal), (ChangeId(1), vec![false], true));
    assert_eq!(tell("a", 30, "cart", normal), (ChangeId(1), vec![false], false), "told again");
    assert_eq!(tell("b", 5, "cart", normal), (ChangeId(2), vec![], false), "before it");
    assert_eq!(tell("c", 1000, "cart", normal), (ChangeId(3), vec![], false), "after it");
    assert_eq!(tell("d", 20, "mail", normal), (ChangeId(4), vec![], false), "another thing");
    assert_eq!(tell("e", 20, "", normal), (ChangeId(5), vec![], false), "nobody knows");
    let emergency = ChangeKind::Emergency;
    assert_eq!(tell("f", 20, "shop-web", emergency), (ChangeId(6), vec![true], false));
}
