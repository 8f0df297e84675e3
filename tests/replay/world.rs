//! Histories of a small company with the truth beside them: faults that climb a graph of services with delay
//! and loss, noise of the same names, and labels as untidy as they are in life.

use crate::history::{Dice, line, over, time};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// What is made.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) services: u64,
    pub(crate) hours: i64,
    pub(crate) faults: u64,
    pub(crate) noise_per_hour: u64,
}

/// An alert that fires from one second to another, of a fault.
pub(crate) struct Told {
    pub(crate) fault: usize,
    pub(crate) labels: Value,
    pub(crate) from: i64,
    to: i64,
}

/// A fault, or a piece of noise.
#[derive(Default)]
pub(crate) struct Fault {
    /// The service or host where it began; empty of noise.
    pub(crate) root: String,
    /// The change that caused it, if one did.
    pub(crate) change: Option<String>,
}

/// A company in trouble.
pub(crate) struct World {
    plan: Plan,
    dice: Dice,
    names: Vec<String>,
    /// Which services each one calls, by number; those with higher numbers are nearer to the ground.
    calls: Vec<BTreeSet<usize>>,
    hosts: Vec<String>,
    runs_on: Vec<Vec<usize>>,
    pub(crate) told: Vec<Told>,
    pub(crate) faults: Vec<Fault>,
    changes: Vec<(i64, Value)>,
}

const NOUNS: [&str; 16] = [
    "basket", "billing", "courier", "coupon", "gallery", "ledger", "loyalty", "mailing", "menu",
    "parcel", "pricing", "quota", "rating", "search", "voucher", "wishlist",
];

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut dice = Dice::new(plan.seed);
        let services = usize::try_from(plan.services).unwrap();
        // A tenth are web sites, a quarter stores, the rest services in between.
        let (webs, stores) = (services / 10 + 1, services - services / 4);
        let name = |it: usize| {
            let kind = if it < webs {
                "web"
            } else if it < stores {
                "api"
            } else {
                "db"
            };
            format!("{}-{kind}{}", NOUNS[it % NOUNS.len()], it / NOUNS.len())
        };
        let mut calls = vec![BTreeSet::new(); services];
        for (number, calls) in calls.iter_mut().enumerate().take(stores) {
            let below = if number < webs { webs..stores } else { number + 1..services };
            let count = u64::try_from(below.len()).unwrap();
            for _ in 0..=dice.roll(3).min(count) {
                calls.insert(below.start + usize::try_from(dice.roll(count)).unwrap());
            }
        }
        let hosts: Vec<String> = (0..services / 3 + 4).map(|it| format!("vm{it:02}")).collect();
        let count = u64::try_from(hosts.len()).unwrap();
        let mut lots = |_| (0..2).map(|_| usize::try_from(dice.roll(count)).unwrap()).collect();
        let runs_on = (0..services).map(&mut lots).collect();
        let names = (0..services).map(name).collect();
        let (told, faults, changes) = (Vec::new(), Vec::new(), Vec::new());
        let mut world = Self { plan, dice, names, calls, hosts, runs_on, told, faults, changes };
        world.live();
        world
    }

    fn below(&mut self, sides: i64) -> i64 {
        i64::try_from(self.dice.roll(u64::try_from(sides).unwrap())).unwrap()
    }

    fn one_of(&mut self, count: usize) -> usize {
        usize::try_from(self.dice.roll(u64::try_from(count).unwrap())).unwrap()
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.dice.roll(100) < percent
    }

    fn live(&mut self) {
        let seconds = self.plan.hours * 3600;
        for _ in 0..self.plan.faults {
            let at = self.below(seconds);
            match self.dice.roll(5) {
                0 | 1 => self.store_is_slow(at),
                2 => self.host_is_down(at),
                3 => self.deployment_is_bad(at),
                _ => self.disk_fills(at),
            }
        }
        for _ in 0..self.plan.noise_per_hour * u64::try_from(self.plan.hours).unwrap() {
            let at = self.below(seconds);
            self.noise(at);
        }
        // Deployments that do no harm.
        for number in 0..self.plan.hours * 2 {
            let (at, service) = (self.below(seconds), self.one_of(self.names.len()));
            self.deploy(at, service, &format!("calm-{number}"));
        }
        self.told.sort_by_key(|it| it.from);
    }

    fn fault(&mut self, root: &str, change: Option<String>) -> usize {
        self.faults.push(Fault { root: root.to_owned(), change });
        self.faults.len() - 1
    }

    fn deploy(&mut self, at: i64, service: usize, id: &str) {
        let change = json!({"ts": time(at), "id": id, "kind": "deployment",
            "service": self.names[service], "version": format!("v{at}"), "author": "ann"});
        self.changes.push((at, change));
    }

    /// An alert, if no such alert fires already.
    fn tell(&mut self, fault: usize, (at, lasts): (i64, i64), labels: Value) {
        let to = at + lasts.max(60);
        let overlaps = |it: &Told| it.labels == labels && it.from <= to && at <= it.to;
        if to < self.plan.hours * 3600 && !self.told.iter().any(overlaps) {
            self.told.push(Told { fault, labels, from: at, to });
        }
    }

    /// The labels of an alert about a service; one in four does not name it plainly.
    fn of_service(&mut self, name: &str, severity: &str, service: usize) -> Value {
        let own = self.names[service].clone();
        let mut labels = json!({"alertname": name, "severity": severity, "cluster": "one"});
        match self.dice.roll(8) {
            0 => labels["job"] = json!(own),
            1 => labels["pod"] = json!(format!("{own}-7d9f{service:05}-x{service:04}")),
            _ => labels["service"] = json!(own),
        }
        labels
    }

    fn of_host(&self, name: &str, severity: &str, host: usize) -> Value {
        json!({"alertname": name, "severity": severity, "cluster": "one",
            "instance": format!("{}:9100", self.hosts[host])})
    }

    /// Symptoms climb to those that call.
    fn climb(&mut self, fault: usize, service: usize, (at, lasts): (i64, i64), percent: u64) {
        let callers: Vec<usize> =
            (0..self.calls.len()).filter(|it| self.calls[*it].contains(&service)).collect();
        for caller in callers {
            if !self.happens(percent) {
                continue;
            }
            let name = ["ErrorRate", "Latency", "Timeouts"][self.one_of(3)];
            let at = at + 10 + self.below(80);
            let labels = self.of_service(name, "critical", caller);
            self.tell(fault, (at, lasts), labels);
            self.climb(fault, caller, (at, lasts), percent * 7 / 10);
        }
    }

    fn store_is_slow(&mut self, at: i64) {
        let stores = self.names.len() - self.names.len() / 4..self.names.len();
        let store = stores.start + self.one_of(stores.len());
        let lasts = 600 + self.below(1800);
        let fault = self.fault(&self.names[store].clone(), None);
        let labels = self.of_service("PoolExhausted", "critical", store);
        self.tell(fault, (at, lasts), labels);
        let labels = self.of_service("SlowQueries", "warning", store);
        let later = at + 10 + self.below(60);
        self.tell(fault, (later, lasts), labels);
        self.climb(fault, store, (at, lasts), 75);
    }

    fn host_is_down(&mut self, at: i64) {
        let host = self.one_of(self.hosts.len());
        let lasts = 300 + self.below(1200);
        let fault = self.fault(&self.hosts[host].clone(), None);
        let labels = self.of_host("HostDown", "critical", host);
        self.tell(fault, (at, lasts), labels);
        for service in 0..self.names.len() {
            if self.runs_on[service].contains(&host) && self.happens(80) {
                let mut labels = self.of_service("PodNotReady", "warning", service);
                labels["instance"] = json!(format!("{}:8080", self.hosts[host]));
                let later = at + 10 + self.below(60);
                self.tell(fault, (later, lasts), labels);
                self.climb(fault, service, (later, lasts), 20);
            }
        }
    }

    fn deployment_is_bad(&mut self, at: i64) {
        let services = self.names.len() - self.names.len() / 4;
        let service = self.one_of(services);
        let id = format!("bad-{}", self.faults.len());
        let before = at - 60 - self.below(400);
        self.deploy(before, service, &id);
        let fault = self.fault(&self.names[service].clone(), Some(id));
        let lasts = 400 + self.below(1500);
        for host in self.runs_on[service].clone() {
            let mut labels = self.of_service("CrashLoop", "critical", service);
            labels["instance"] = json!(format!("{}:8080", self.hosts[host]));
            let later = at + self.below(30);
            self.tell(fault, (later, lasts), labels);
        }
        self.climb(fault, service, (at, lasts), 70);
    }

    fn disk_fills(&mut self, at: i64) {
        let host = self.one_of(self.hosts.len());
        let fault = self.fault(&self.hosts[host].clone(), None);
        for (name, severity, later) in
            [("DiskFilling", "warning", 0), ("DiskFull", "critical", 1200)]
        {
            let mut labels = self.of_host(name, severity, host);
            labels["mountpoint"] = json!("/data");
            self.tell(fault, (at + later, 3600), labels);
        }
    }

    fn noise(&mut self, at: i64) {
        let (service, host) = (self.one_of(self.names.len()), self.one_of(self.hosts.len()));
        let lasts = 60 + self.below(900);
        let fault = self.fault("", None);
        let labels = match self.dice.roll(6) {
            0 => self.of_host("NodeLoad", "warning", host),
            1 => self.of_host("ClockSkew", "info", host),
            2 => self.of_service("BackupLate", "warning", service),
            3 => self.of_service("Latency", "warning", service),
            4 => self.of_service("JobFailed", "info", service),
            _ => self.of_service("ErrorRate", "warning", service),
        };
        self.tell(fault, (at, lasts), labels);
    }

    /// The lines of `events.jsonl`, in order of time.
    pub(crate) fn events(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for it in &self.told {
            lines.push((it.from, line(it.from, &it.labels)));
            lines.push((it.to, over(it.to, &it.labels, it.from)));
        }
        lines.sort();
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// The lines of `changes.jsonl`.
    pub(crate) fn changes(&self) -> String {
        let mut changes: Vec<_> = self.changes.iter().collect();
        changes.sort_by_key(|it| it.0);
        changes.iter().map(|(_, it)| it.to_string() + "\n").collect()
    }

    /// The documents of `catalog.yaml`.
    pub(crate) fn catalog(&self) -> String {
        let mut text = String::new();
        let mut document = |kind: &str, name: &str, spec: &str| {
            writeln!(
                text,
                "---\napiVersion: backstage.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}"
            )
            .unwrap();
        };
        for (service, name) in self.names.iter().enumerate() {
            let called =
                self.calls[service].iter().map(|it| format!("component:{}", self.names[*it]));
            let hosts = self.runs_on[service].iter();
            let hosts = hosts.map(|it| format!("resource:{}", self.hosts[*it]));
            let needed: BTreeSet<String> = called.chain(hosts).collect();
            let needed = needed.into_iter().collect::<Vec<_>>().join("', '");
            let spec = format!(
                "type: service, lifecycle: production, owner: ops, dependsOn: ['{needed}']"
            );
            document("Component", name, &spec);
        }
        for host in &self.hosts {
            document("Resource", host, "type: host, owner: ops");
        }
        text
    }
}
