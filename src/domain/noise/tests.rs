//! Small stories of what is counted where.

use super::*;
use crate::domain::Closed;
use crate::domain::effect::{EffectKey, Outcome, OutcomeKind};
use crate::domain::event::{AlertBatch, Ends, Event, ReceivedAlert};
use crate::domain::later;
use crate::domain::matcher::Matchers;
use crate::domain::restore::Stored;
use crate::domain::rules::{
    Mode, Receiver, Route, RuleRef, RuleSet, Runbook, RunbookMode, SecretText, Trigger,
    TriggerEvent,
};

/// Where nobody gives a rule, alerts are grouped by their name.
struct World {
    state: State,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        Self::with(RuleSet::default())
    }

    fn with(rules: RuleSet) -> Self {
        let now = "2026-03-02T08:00:00Z".parse().unwrap();
        let mut state = State::default();
        drop(state.apply(now, &Event::RulesLoaded(Arc::new(rules))));
        Self { state, now }
    }

    fn tell(&mut self, name: &str, fires: bool) {
        let alert = ReceivedAlert {
            labels: Labels::from_pairs([("alertname", name)]),
            annotations: Labels::default(),
            starts_at: None,
            ends: if fires { Ends::WhenTold } else { Ends::At(self.now) },
            generator_url: "".into(),
            identity: None,
        };
        let batch = AlertBatch { source: "x".into(), alerts: vec![alert], rejected: Vec::new() };
        drop(self.state.apply(self.now, &Event::AlertsReceived(batch)));
    }

    fn order(&mut self, command: Command) {
        let by = "ann".to_owned();
        let turn = self.state.apply(self.now, &Event::CommandGiven { by, command });
        assert!(matches!(turn.reply, Some(Ok(_))), "{:?}", turn.reply);
    }

    fn pass(&mut self, seconds: i64) {
        let until = later(self.now, seconds);
        while let Some(due) = self.state.next_wakeup().filter(|it| *it <= until) {
            drop(self.state.apply(due, &Event::Woken));
        }
        self.now = until;
    }

    fn rule(&self, name: &str) -> RuleAccount {
        let key = NoiseKey::Rule(Day::of(self.now), name.into());
        let Some(Account::Rule { account, .. }) = self.state.noise.get(&key) else {
            panic!("nothing is known of {name}")
        };
        let became: u64 = account.became.values().sum();
        assert_eq!(account.fired + account.let_go, became, "each ends in one way: {account:?}");
        account
    }

    fn day(&self) -> DayAccount {
        match self.state.noise.get(&NoiseKey::Day(Day::of(self.now))) {
            Some(Account::Day { account, .. }) => account,
            other => panic!("no day: {other:?}"),
        }
    }
}

#[test]
fn what_flaps_fires_often_and_is_one_incident() {
    let mut world = World::new();
    for _ in 0..8 {
        world.tell("Flaky", true);
        world.pass(60);
        world.tell("Flaky", false);
        world.pass(60);
    }
    let account = world.rule("Flaky");
    let of = |it| account.became(it);
    assert_eq!((account.fired, account.lasted.median_seconds()), (8, Some(62)));
    assert_eq!(of(Disposition::Opened), 1);
    assert!(of(Disposition::Flapping) >= 3 && of(Disposition::Reopened) >= 1, "{account:?}");
    assert_eq!(account.series.iter().map(Series::certain).collect::<Vec<_>>(), [8]);
    assert_eq!(world.day().incidents_opened, 1);
    world.pass(3 * 3600);
    assert_eq!((world.rule("Flaky").by_itself, world.day().by_itself), (1, 1));
}

#[test]
fn what_is_let_go_is_counted_as_held_back_and_as_opened() {
    let mut world = World::new();
    world.order(Command::SetSilence {
        new_id: "s".to_owned(),
        replaces: None,
        matchers: r#"{alertname="Down"}"#.parse().unwrap(),
        starts_at: world.now,
        ends_at: later(world.now, 600),
        created_by: "ann".to_owned(),
        comment: "work".to_owned(),
    });
    world.tell("Down", true);
    assert_eq!((world.rule("Down").held_back(), world.day().incidents_opened), (1, 0));
    world.pass(601);
    let account = world.rule("Down");
    assert_eq!((account.fired, account.let_go, account.held_back()), (1, 1, 1));
    assert_eq!((account.became(Disposition::Opened), world.day().incidents_opened), (1, 1));
}

#[test]
fn whatever_a_person_does_is_acting() {
    let incident = IncidentId(1);
    let (owner, text, reason) = ("bob".to_owned(), "hm".to_owned(), "fixed".to_owned());
    for command in [
        None,
        Some(Command::AcknowledgeIncident { incident }),
        Some(Command::AssignIncident { incident, owner }),
        Some(Command::NoteIncident { incident, text }),
        Some(Command::ResolveIncident { incident, reason }),
    ] {
        let mut world = World::new();
        let acted_on = u64::from(command.is_some());
        world.tell("Down", true);
        world.pass(10);
        let told = format!("{command:?}");
        if let Some(command) = command {
            world.order(command);
        }
        world.tell("Down", false);
        assert_eq!(world.day().acted_on + world.day().by_itself, 0, "it may be opened again");
        world.pass(3600);
        let expected = (acted_on, 1 - acted_on);
        let (rule, day) = (world.rule("Down"), world.day());
        assert_eq!((rule.acted_on, rule.by_itself), expected, "{told}");
        assert_eq!((day.acted_on, day.by_itself), expected, "{told}");
    }
}

#[test]
fn a_runbook_acts_when_it_runs() {
    for (mode, acted_on) in [(RunbookMode::Auto, 1), (RunbookMode::Shadow, 0)] {
        let trigger = Trigger::new(TriggerEvent::IncidentOpened, Matchers::default());
        let runbook = Runbook { mode, triggers: vec![trigger], ..Runbook::default() };
        let mut world = World::with(RuleSet { runbooks: vec![runbook], ..RuleSet::default() });
        world.tell("Down", true);
        world.pass(60);
        world.tell("Down", false);
        world.pass(3600);
        assert_eq!((world.day().acted_on, world.day().by_itself), (acted_on, 1 - acted_on));
    }
}

#[test]
fn what_waits_for_its_next_attempt_is_not_sent_once_we_only_observe() {
    let named = |name: &str| Arc::new(RuleRef { name: name.to_owned(), ..RuleRef::default() });
    let rules = |mode| RuleSet {
        mode,
        receivers: vec![Receiver {
            rule: named("hook"),
            webhook_url: SecretText::Text("http://127.0.0.1:9/".to_owned()),
        }],
        routes: vec![Route {
            rule: named("routes[0]"),
            matchers: Matchers::default(),
            on: vec![Occasion::Opened, Occasion::Resolved],
            receiver: "hook".to_owned(),
            mute_time_intervals: Vec::new(),
            active_time_intervals: Vec::new(),
            decide_after_seconds: 0,
        }],
        ..RuleSet::default()
    };
    let mut world = World::with(rules(Mode::Act));
    world.tell("Down", true);
    let key = EffectKey("NTF-1/1".into());
    let outcome = Outcome {
        result: OutcomeKind::FailedRetryable,
        detail: "status 503".to_owned(),
        output_tail: String::new(),
        code: Some(503),
        duration_milliseconds: 1,
    };
    drop(world.state.apply(world.now, &Event::EffectFinished { key, outcome }));
    let observe = Event::RulesLoaded(Arc::new(rules(Mode::Observe)));
    drop(world.state.apply(world.now, &observe));
    world.pass(600);
    assert!(world.state.notifications.is_empty(), "nothing waits");
    world.tell("Down", false);
    let told = world.day().told.remove("hook").unwrap();
    let would_send = ToldPages { would_send: 1, ..ToldPages::default() };
    assert_eq!(told[&Occasion::Opened], would_send);
    assert_eq!(told[&Occasion::Resolved], would_send);
    assert_eq!((world.rule("Down").sent, world.rule("Down").would_send), (0, 2));
}

#[test]
fn a_merged_incident_counts_with_the_one_that_took_its_alerts() {
    let mut world = World::new();
    for name in ["Down", "Slow", "Odd"] {
        world.tell(name, true);
    }
    world.order(Command::MergeIncidents { into: IncidentId(1), from: vec![IncidentId(2)] });
    for name in ["Down", "Slow", "Odd"] {
        world.tell(name, false);
    }
    world.pass(3600);
    let day = world.day();
    assert_eq!((day.incidents_opened, day.acted_on, day.by_itself), (3, 1, 1));
    assert_eq!((world.rule("Down").acted_on, world.rule("Slow").acted_on), (1, 1));
    assert_eq!(world.rule("Odd").by_itself, 1);
}

#[test]
fn what_has_no_room_shares_an_account() {
    let mut world = World::new();
    for number in 0..RULES_MAX + 2 {
        world.tell(&format!("A{number}"), true);
    }
    assert_eq!(world.rule(OTHER).fired, 2);
    world.tell("A7", false);
    world.tell("A7", true);
    assert_eq!((world.rule("A7").fired, world.state.noise.rules.len()), (2, RULES_MAX + 1));
    let mut world = World::new();
    world.tell("", true);
    world.tell(&"ä".repeat(100), true);
    let names: Vec<&str> = world.state.noise.rules.keys().map(|it| &**it).collect();
    assert_eq!(names, [NAMELESS, &"ä".repeat(NAME_BYTES_MAX / 2)]);
    let mut receivers: BTreeMap<String, u64> = BTreeMap::new();
    for number in 0..RECEIVERS_MAX + 3 {
        *of_receiver(&mut receivers, &number.to_string()) += 1;
    }
    assert_eq!((receivers.len(), receivers[OTHER]), (RECEIVERS_MAX + 1, 3));
}

#[test]
fn accounts_come_back_from_the_store_and_a_new_day_closes_them() {
    let mut world = World::new();
    world.tell("Down", true);
    let labels = Labels::from_pairs([("alertname", "Down")]);
    let page = Page::new("pager", "{}", true, [(&labels, true)].into_iter());
    drop(world.state.apply(world.now, &Event::PageHeard(page)));
    let all = |state: &State| -> Vec<Account> {
        state.noise.keys().iter().filter_map(|it| state.noise.get(it)).collect()
    };
    let before = all(&world.state);
    assert_eq!(before.len(), 3);
    let stored = before.iter().map(|it| {
        let text = serde_json::to_string(it).unwrap();
        Stored::Noise(Box::new(serde_json::from_str(&text).unwrap()))
    });
    let restored = State::restore(stored, world.now);
    assert_eq!(all(&restored), before);
    drop(world.state.take_changes());
    world.now = later(world.now, 24 * 3600);
    world.tell("Down", false);
    let closed = world.state.take_changes().closed.into_iter().filter_map(|it| match it {
        Closed::Noise(account) => Some(*account),
        Closed::Alert(_)
        | Closed::Incident(_)
        | Closed::Execution(_)
        | Closed::Silence(_)
        | Closed::Change(_)
        | Closed::Freeze(_)
        | Closed::Notification(_)
        | Closed::Audit(_)
        | Closed::Heartbeat(_) => None,
    });
    let closed: BTreeSet<String> = closed.map(|it| it.key().to_string()).collect();
    let expected = ["2026-03-02/day", "2026-03-02/rule/Down"].map(str::to_owned);
    assert_eq!(closed, BTreeSet::from(expected));
    assert_eq!(world.rule("Down").lasted.count(), 1, "it ended on the new day");
    assert_eq!(world.rule("Down").fired, 0);
}
