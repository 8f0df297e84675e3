//! Counting, fading, and what is told of what is new.

use super::*;
use crate::domain::ObjectKey;
use crate::domain::event::Event;
use crate::domain::noise::Account;
use crate::domain::restore::Stored;
use crate::domain::rules::RuleSet;

fn at(hours: i64) -> Timestamp {
    later("2026-01-01T00:00:00Z".parse().unwrap(), hours * 3600)
}

fn watching(tell_new: bool) -> State {
    let mut state = State::default();
    load(&mut state, at(0), Some(tell_new));
    state
}

fn load(state: &mut State, now: Timestamp, tell_new: Option<bool>) {
    let rule = |tell_new| RateRule {
        rule: Arc::default(),
        learn_seconds: 7 * 86_400,
        severity: Severity::Info,
        tell_new,
    };
    let unusual_rates = tell_new.map(rule).into_iter().collect();
    let rules = RuleSet { unusual_rates, resolve_timeout_seconds: 300, ..RuleSet::default() };
    drop(state.apply(now, &Event::RulesLoaded(Arc::new(rules))));
}

fn fire(state: &mut State, now: Timestamp, names: &[&str]) {
    let alert = |name: &&str| ReceivedAlert {
        labels: Labels::from_pairs([("alertname", *name)]),
        annotations: Labels::default(),
        starts_at: None,
        ends: Ends::At(later(now, 60)),
        generator_url: "".into(),
        identity: None,
    };
    let alerts = names.iter().map(alert).collect();
    let batch = AlertBatch { source: "prod".into(), alerts, rejected: vec![] };
    drop(state.apply(now, &Event::AlertsReceived(batch)));
    drop(state.apply(later(now, 61), &Event::Woken));
}

/// What is told of new kinds: their names and texts.
fn told(state: &State) -> Vec<(String, String)> {
    let ours =
        state.alerts.values().filter(|it| it.labels.get("alertname") == Some(NEW_ALERT_NAME));
    let text = |it: Option<&str>| it.unwrap_or_default().to_owned();
    ours.map(|it| (text(it.labels.get("name")), text(it.annotations.get("summary")))).collect()
}

#[test]
fn beginnings_are_counted_by_hour_and_fade_by_week() {
    let mut state = watching(false);
    for (hour, second) in [(0, 0), (0, 600), (1, 0), (168, 0), (169, 0)] {
        fire(&mut state, later(at(hour), second), &["Disk 17 full"]);
    }
    let habit = state.habits.get("alert/Disk # full").unwrap();
    // 2026-01-01 is a Thursday, with which the weeks since 1970 begin. One was left after a week of two:
    // 1750 thousandths; then one more.
    assert_eq!(habit.slots, BTreeMap::from([(0, 2750), (1, 875)]));
    assert_eq!(habit.squares, 5 * 875 + 1000);
    assert_eq!((habit.count, habit.before), (1, 1));
    assert_eq!(state.habits.get("source/prod").unwrap().slots, habit.slots);
    let mut later = habit.clone();
    later.turn_to(habit.hour + 1_000_000);
    assert_eq!((later.slots.len(), later.squares, later.before), (0, 0, 0));
}

#[test]
fn what_is_new_is_marked_and_told_only_after_a_time_of_learning() {
    for tell_new in [false, true] {
        let mut state = watching(tell_new);
        fire(&mut state, at(0), &["A"]);
        fire(&mut state, at(100), &["B"]);
        assert_eq!(told(&state), []);
        fire(&mut state, at(200), &["A", "B", "C 1"]);
        let new: Vec<&str> = (state.alerts.values().filter(|it| it.is_new))
            .filter_map(|it| it.labels.get("alertname"))
            .collect();
        assert_eq!(new, ["C 1"]);
        let accounts = state.noise.keys().into_iter().filter_map(|it| state.noise.get(&it));
        let new: Vec<String> = (accounts.into_iter())
            .filter_map(|it| match it {
                Account::Rule { name, account, .. } if account.new > 0 => Some(name.to_string()),
                Account::Rule { .. } | Account::Day { .. } | Account::Groups(_) => None,
            })
            .collect();
        assert_eq!(new, ["C 1"], "the account of noise tells of it");
        let text = "C #: never seen before, since 7 days".to_owned();
        let expected = if tell_new { vec![("C #".to_owned(), text)] } else { Vec::new() };
        assert_eq!(told(&state), expected);
        fire(&mut state, at(201), &["C 2"]);
        let known = state.alerts.values().find(|it| it.labels.get("alertname") == Some("C 2"));
        assert!(!known.unwrap().is_new, "it is of the same kind");
    }
}

#[test]
fn a_flood_of_new_names_is_one_alert() {
    let mut state = watching(true);
    fire(&mut state, at(0), &["A"]);
    let names: Vec<String> = (0..26_u8).map(|it| format!("New{}", char::from(b'a' + it))).collect();
    fire(&mut state, at(200), &names.iter().map(String::as_str).collect::<Vec<_>>());
    let told = told(&state);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].1.starts_with("26 at once, among them alert/Newa, "), "{told:?}");
}

#[test]
fn there_is_room_for_so_many_names_and_what_is_long_gone_makes_room() {
    let mut habits = Habits::default();
    let new = (0..5000).filter(|it| habits.count(at(0), &format!("alert/{it}"))).count();
    assert_eq!((new, habits.is_full()), (4096, true));
    assert!(!habits.count(at(24 * 180), "alert/other"));
    assert!(habits.count(at(24 * 190), "alert/other"));
    assert_eq!(habits.all().count(), 1);
}

#[test]
fn nobody_is_told_twice_a_day_and_what_was_told_survives() {
    let mut state = watching(false);
    fire(&mut state, at(0), &["A"]);
    let now = at(24 * 8);
    let names = |state: &State, now| -> Vec<String> {
        state.habits_to_judge(now).iter().map(|it| it.name.to_string()).collect()
    };
    assert_eq!(names(&state, now), ["alert/A", "source/prod"]);
    let unusual =
        [Unusual { name: "alert/A".into(), is_more: true, why: "9 where 1 is usual".to_owned() }];
    let alerts = state.alerts_of_rates(&unusual, now);
    assert_eq!(alerts[0].annotations.get("summary"), Some("A: 9 where 1 is usual"));
    let batch = AlertBatch { source: SOURCE.into(), alerts, rejected: vec![] };
    drop(state.apply(now, &Event::AlertsReceived(batch)));
    assert!(state.take_changes().objects.contains(&ObjectKey::Habit("alert/A".into())));
    assert_eq!(names(&state, later(now, 3600)), ["source/prod"]);
    let kept = state.habits.all().map(|it| Stored::Habit(Box::new(it.clone())));
    let memory = Stored::Memory(Box::new(state.memory.clone()));
    let rules = Stored::Rules(state.rules.clone());
    let stored: Vec<Stored> = kept.chain([memory, rules]).collect();
    let state = State::restore(stored, now);
    assert_eq!(names(&state, later(now, 3600)), ["source/prod"]);
    assert_eq!(names(&state, later(now, 24 * 3600)), ["alert/A", "source/prod"]);
}

#[test]
fn without_a_rule_nothing_is_counted_and_what_was_is_gone() {
    let mut state = watching(true);
    fire(&mut state, at(0), &["A"]);
    drop(state.take_changes());
    load(&mut state, at(1), None);
    assert_eq!((state.habits.all().count(), state.memory.rates.since), (0, None));
    assert!(state.take_changes().objects.contains(&ObjectKey::Habit("alert/A".into())));
    fire(&mut state, at(2), &["A"]);
    assert_eq!(state.habits.all().count(), 0);
}
