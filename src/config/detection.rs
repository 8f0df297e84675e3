//! `problem_detection:`: when and how recurring problems are looked for.

use super::code::Code;
use super::cron_line;
use super::fields::Fields;
use super::reader::Reader;
use super::yaml::Node;
use crate::domain::rules::{Algorithm, FieldWeights, ProblemDetection, RuleRef};
use std::sync::Arc;

/// The detection that runs when no file has one: every six hours, over a quarter.
pub(super) fn built_in() -> ProblemDetection {
    ProblemDetection {
        rule: Arc::new(RuleRef { name: "default".to_owned(), file: String::new(), line: 0 }),
        cron: "0 */6 * * *".to_owned(),
        time_zone: "UTC".to_owned(),
        look_back_seconds: 90 * 86_400,
        algorithm: Algorithm::Dbscan,
        incidents_min: 3,
        tolerance_thousandths: None,
        weights: FieldWeights::default(),
        seed: 7,
    }
}

/// An entry of `problem_detection`.
pub(super) fn detection(reader: &mut Reader<'_>, node: &Node) -> Option<ProblemDetection> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.name("problem detection", &mut fields);
    let mut detection = ProblemDetection { rule, ..built_in() };
    if let Some(node) = fields.required(reader, "schedule") {
        schedule(reader, node, &mut detection);
    }
    if let Some(node) = fields.optional("look_back") {
        detection.look_back_seconds = reader.positive_duration(node);
    }
    if let Some(node) = fields.optional("algorithm") {
        let known = [("dbscan", Algorithm::Dbscan), ("communities", Algorithm::Communities)];
        detection.algorithm = reader.word(node, &known).unwrap_or_default();
    }
    if let Some(node) = fields.optional("min_incidents") {
        detection.incidents_min = u32::try_from(reader.integer(node, 2, 1000)).unwrap_or(2);
    }
    if let Some(node) = fields.optional("tolerance") {
        detection.tolerance_thousandths = tolerance(reader, node);
    }
    if let Some(node) = fields.optional("weights") {
        detection.weights = weights(reader, node);
    }
    if let Some(node) = fields.optional("seed") {
        detection.seed = reader.integer(node, 0, u64::MAX);
    }
    fields.optional("description").map(|it| reader.text(it));
    fields.finish(reader);
    Some(detection)
}

fn schedule(reader: &mut Reader<'_>, node: &Node, detection: &mut ProblemDetection) {
    let Some(mut fields) = Fields::open(reader, node) else { return };
    if let Some(node) = fields.required(reader, "cron") {
        detection.cron = reader.text(node);
        if let Err(message) = cron_line::check(&detection.cron) {
            reader.report_hint(
                node.place,
                Code::BadCron,
                message,
                "minute, hour, day of the month, month, day of the week: `0 */6 * * *`",
            );
        }
    }
    if let Some(node) = fields.optional("time_zone") {
        detection.time_zone = reader.time_zone(node);
    }
    fields.finish(reader);
}

/// How much each field counts; a field that is not named keeps its own weight.
fn weights(reader: &mut Reader<'_>, node: &Node) -> FieldWeights {
    let mut weights = FieldWeights::default();
    let Some(mut fields) = Fields::open(reader, node) else { return weights };
    for (name, weight) in [
        ("symptoms", &mut weights.symptoms),
        ("place", &mut weights.place),
        ("names", &mut weights.names),
        ("text", &mut weights.text),
        ("labels", &mut weights.labels),
        ("changes", &mut weights.changes),
    ] {
        if let Some(node) = fields.optional(name) {
            *weight = u8::try_from(reader.integer(node, 0, 100)).unwrap_or(100);
        }
    }
    fields.finish(reader);
    weights
}

/// A distance between 0 and 1 with at most three decimals, in thousandths.
fn tolerance(reader: &mut Reader<'_>, node: &Node) -> Option<u16> {
    let text = reader.text(node);
    let thousandths = text.strip_prefix("0.").and_then(|it| {
        let digits = (1..=3).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_digit());
        digits.then(|| format!("{it:0<3}")).and_then(|it| it.parse::<u16>().ok())
    });
    if thousandths.is_none_or(|it| it == 0) {
        let message = format!("expected a distance between 0 and 1: `{text}`");
        reader.report_hint(node.place, Code::BadValue, message, "for example `0.35`");
    }
    thousandths
}
