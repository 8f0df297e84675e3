//! The report: medians, spreads and ratios as Markdown, and where it is written.

use crate::load::{Check, Ingest, Measured, Pass, Restart, What};
use crate::machine::Machine;
use crate::server::{Kind, Peer};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A case, by its alerts a request and its connections, and a pass of it.
type Row = (u64, u64, Pass);

/// What was measured of one server in one row, a value for each round.
#[derive(Default)]
struct Runs<'a>(Vec<&'a Ingest>);

impl Runs<'_> {
    fn of(&self, value: impl Fn(&Ingest) -> f64) -> Spread {
        Spread::of(self.0.iter().map(|it| value(it)).collect())
    }
}

/// The median of some values, and how far they lie apart.
struct Spread {
    sorted: Vec<f64>,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { sorted: values }
    }

    fn at(&self, index: usize) -> f64 {
        self.sorted.get(index).copied().unwrap_or(f64::NAN)
    }

    fn min(&self) -> f64 {
        self.at(0)
    }

    fn max(&self) -> f64 {
        self.at(self.sorted.len().saturating_sub(1))
    }

    fn median(&self) -> f64 {
        let upper = self.sorted.len() / 2;
        let lower = if self.sorted.len().is_multiple_of(2) { upper.wrapping_sub(1) } else { upper };
        f64::midpoint(self.at(lower), self.at(upper))
    }

    /// `median (min–max)`
    fn show(&self, decimals: usize) -> String {
        let number = |it: f64| group_thousands(&format!("{it:.decimals$}"));
        if self.sorted.is_empty() {
            return "–".to_owned();
        }
        format!("{} ({}–{})", number(self.median()), number(self.min()), number(self.max()))
    }
}

/// `12345.6` → `12,345.6`
fn group_thousands(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

/// The whole report.
pub(crate) fn markdown(machine: &Machine, peers: &[Peer; 2], measured: &[Measured]) -> String {
    let mut rows: BTreeMap<Row, BTreeMap<&str, Runs<'_>>> = BTreeMap::new();
    let mut restarts: BTreeMap<&str, Vec<&Restart>> = BTreeMap::new();
    for it in measured {
        let name = name_of(it.kind);
        match &it.what {
            What::Ingest(ingest) => {
                let row = (ingest.case.batch, ingest.case.connections, ingest.pass);
                rows.entry(row).or_default().entry(name).or_default().0.push(ingest);
            }
            What::Restart(restart) => restarts.entry(name).or_default().push(restart),
        }
    }
    let mut text = heading(machine, peers);
    if !rows.is_empty() {
        text += &rates(&rows);
        text += &spent(&rows);
    }
    text += &restarted(&restarts);
    text += &refusals(&rows);
    text += &every_run(&rows);
    text
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Watchkeeper => "Watchkeeper",
        Kind::Alertmanager => "Alertmanager",
    }
}

fn heading(machine: &Machine, [ours, theirs]: &[Peer; 2]) -> String {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let rest =
        if arguments.is_empty() { String::new() } else { format!(" -- {}", arguments.join(" ")) };
    format!(
        "Measured on {} by `cargo bench --bench alertmanager{rest}`: {} at {}, beside {}.\n\
         {}, {} processors, {} GiB, Linux {}, {}; load before the run: {}.\n",
        jiff::Timestamp::now().strftime("%-d %B %Y, %H:%M UTC"),
        ours.version,
        commit(),
        theirs.version,
        machine.processor,
        machine.processors,
        machine.memory_gib,
        machine.kernel,
        machine.file_system,
        machine.load_before,
    )
}

/// The commit of the source, if Git knows it.
fn commit() -> String {
    let output = std::process::Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let text = output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned());
    text.ok().filter(|it| !it.is_empty()).unwrap_or_else(|| "an unknown commit".to_owned())
}

fn case_name(batch: u64, connections: u64) -> String {
    format!("{batch} × {connections}")
}

fn pass_name(pass: Pass) -> &'static str {
    match pass {
        Pass::New => "new",
        Pass::Repeated => "repeated at once",
        Pass::AfterAMinute => "repeated after a minute",
    }
}

type Rows<'a> = BTreeMap<Row, BTreeMap<&'a str, Runs<'a>>>;

fn rates(rows: &Rows<'_>) -> String {
    let mut text = "
Alerts a second, median (least–most). \"Of its best\" compares our median with Alertmanager's best run.

| alerts a request × connections | which alerts | Watchkeeper | Alertmanager | times | of its best |
|---|---|---|---|---|---|
"
    .to_owned();
    for ((batch, connections, pass), runs) in rows {
        let [ours, theirs] = both(runs, |it| it.rate);
        let times = ours.median() / theirs.median();
        let of_best = ours.median() / theirs.max();
        line(
            &mut text,
            &[
                &case_name(*batch, *connections),
                pass_name(*pass),
                &ours.show(0),
                &theirs.show(0),
                &format!("{times:.2}"),
                &format!("{of_best:.2}"),
            ],
        );
    }
    text
}

fn spent(rows: &Rows<'_>) -> String {
    let mut text = "
Seconds of CPU time of the server for 100,000 alerts; milliseconds of a request, medians of p50 / p99.

| alerts a request × connections | which alerts | CPU, Watchkeeper | CPU, Alertmanager | part | requests, Watchkeeper | requests, Alertmanager |
|---|---|---|---|---|---|---|
"
    .to_owned();
    for ((batch, connections, pass), runs) in rows {
        let [ours, theirs] = both(runs, |it| it.cpu_seconds);
        let [half, their_half] = both(runs, |it| it.p50).map(|it| it.median());
        let [most, their_most] = both(runs, |it| it.p99).map(|it| it.median());
        line(
            &mut text,
            &[
                &case_name(*batch, *connections),
                pass_name(*pass),
                &ours.show(2),
                &theirs.show(2),
                &format!("{:.2}", ours.median() / theirs.median()),
                &format!("{half:.2} / {most:.2}"),
                &format!("{their_half:.2} / {their_most:.2}"),
            ],
        );
    }
    text + &memory(rows)
}

/// Of the last case, which leaves the most alerts active.
fn memory(rows: &Rows<'_>) -> String {
    let last = rows.iter().rev().find(|it| it.0.2 == Pass::New);
    let Some(((batch, connections, _), runs)) = last else { return String::new() };
    let alerts = runs.values().find_map(|it| it.0.first()).map_or(0, |it| it.case.alerts);
    let [ours, theirs] = both(runs, |it| it.resident_mib);
    format!(
        "\nResident memory in MiB with {} active alerts, after {}: Watchkeeper {}, \
         Alertmanager {}, part {:.2}.\n",
        group_thousands(&alerts.to_string()),
        case_name(*batch, *connections),
        ours.show(0),
        theirs.show(0),
        ours.median() / theirs.median(),
    )
}

fn restarted(restarts: &BTreeMap<&str, Vec<&Restart>>) -> String {
    if restarts.is_empty() {
        return String::new();
    }
    let mut text = "
After `kill -9` with all alerts active:

| | seconds until ready | alerts accepted | alerts lost |
|---|---|---|---|
"
    .to_owned();
    for (name, runs) in restarts.iter().rev() {
        let ready = Spread::of(runs.iter().map(|it| it.ready_after).collect());
        let most = |count: fn(&Restart) -> u64| {
            let most = runs.iter().map(|it| count(it)).max().unwrap_or_default();
            group_thousands(&most.to_string())
        };
        line(&mut text, &[name, &ready.show(2), &most(|it| it.accepted), &most(|it| it.lost)]);
    }
    text
}

fn refusals(rows: &Rows<'_>) -> String {
    let mut text = String::new();
    for ((batch, connections, pass), runs) in rows {
        for (name, runs) in runs {
            for run in runs.0.iter().filter(|it| !it.refused.is_empty()) {
                let (case, pass) = (case_name(*batch, *connections), pass_name(*pass));
                writeln!(text, "- {name}, {case}, {pass}: {}", run.refused)
                    .expect("writing into a string does not fail");
            }
        }
    }
    if rows.is_empty() {
        return text;
    }
    if text.is_empty() {
        return "\nEvery request was answered with 2xx.\n".to_owned();
    }
    format!("\nRequests that were not answered with 2xx:\n\n{text}")
}

fn every_run(rows: &Rows<'_>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = "\n<details><summary>Every run, alerts a second</summary>\n\n".to_owned();
    for ((batch, connections, pass), runs) in rows {
        for (name, runs) in runs.iter().rev() {
            let rates: Vec<String> = runs.0.iter().map(|it| format!("{:.0}", it.rate)).collect();
            let (case, pass) = (case_name(*batch, *connections), pass_name(*pass));
            writeln!(text, "- {case}, {pass}, {name}: {}", rates.join(", "))
                .expect("writing into a string does not fail");
        }
    }
    text + "\n</details>\n"
}

/// What became of the million.
pub(crate) fn million(checks: &[Check]) -> String {
    if checks.is_empty() {
        return String::new();
    }
    let mut text = "
A million alerts in a minute, as a Prometheus sends them:

| | figure | |
|---|---|---|
"
    .to_owned();
    for check in checks {
        let verdict = if check.is_good { "good" } else { "**not good**" };
        line(&mut text, &[&check.what, &check.figure, verdict]);
    }
    text
}

/// Ours and theirs.
fn both(runs: &BTreeMap<&str, Runs<'_>>, value: fn(&Ingest) -> f64) -> [Spread; 2] {
    [Kind::Watchkeeper, Kind::Alertmanager].map(|kind| {
        runs.get(name_of(kind)).map_or_else(|| Spread::of(Vec::new()), |it| it.of(value))
    })
}

fn line(text: &mut String, cells: &[&str]) {
    writeln!(text, "| {} |", cells.join(" | ")).expect("writing into a string does not fail");
}

/// Replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->`.
pub(crate) fn replace_between_markers(text: &str, name: &str, report: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{report}\n{end}{after}"))
}
