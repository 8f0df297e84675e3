//! `freezes:`: when nothing may be changed.

use super::code::Code;
use super::fields::{Fields, closest};
use super::reader::Reader;
use super::time_interval;
use super::yaml::{Node, Place};
use crate::domain::change::ChangeKind;
use crate::domain::freeze::{FreezeRule, FreezeTerms};
use crate::domain::item::Catalog;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZoneDatabase;

/// The most items of a freeze.
const ITEMS_MAX: usize = 100;
/// The kind of name that freezes bear.
const FREEZE: &str = "freeze";

/// An entry of `freezes`.
pub(super) fn freeze(reader: &mut Reader<'_>, node: &Node) -> Option<FreezeRule> {
    let mut fields = Fields::open(reader, node)?;
    let rule = reader.name(FREEZE, &mut fields);
    let mut text = |reader: &mut Reader<'_>, name| {
        fields.optional(name).map(|it| reader.filled_text(it)).unwrap_or_default()
    };
    let (owner, reason) = (text(reader, "owner"), text(reader, "reason"));
    let time_intervals = time_interval::named(reader, &mut fields, "time_intervals");
    let zone = fields.optional("time_zone").map(|it| reader.time_zone(it));
    let before = reader.findings.len();
    let mut time = |reader: &mut Reader<'_>, name| {
        let node = fields.optional(name)?;
        Some((moment(reader, node, zone.as_deref()), node.place))
    };
    let (starts_at, ends_at) = (time(reader, "starts_at"), time(reader, "ends_at"));
    if time_intervals.is_empty() && (starts_at.is_none() || ends_at.is_none()) {
        reader.report_hint(
            fields.place,
            Code::MissingField,
            "a freeze needs a time",
            "write `starts_at` and `ends_at`, or `time_intervals: [name]`",
        );
    }
    if reader.findings.len() == before {
        check_order(reader, starts_at.map(|it| it.0), ends_at);
    }
    let matchers = reader.matchers(fields.optional("matchers"));
    let items = fields.optional("items").map(|it| items(reader, it)).unwrap_or_default();
    let allow = fields.optional("allow").map(|it| kinds(reader, it)).unwrap_or_default();
    fields.optional("description").map(|it| reader.text(it));
    fields.finish(reader);
    let at = |it: Option<(Timestamp, Place)>| it.map(|(at, _)| at);
    let (starts_at, ends_at) = (at(starts_at), at(ends_at));
    let terms =
        FreezeTerms { items, matchers, allow, owner, reason, starts_at, ends_at, time_intervals };
    Some(FreezeRule { rule, terms })
}

/// A point in time; without an offset it counts in the freeze's own time zone.
fn moment(reader: &mut Reader<'_>, node: &Node, zone: Option<&str>) -> Timestamp {
    let text = reader.text(node);
    // A text with an offset reads as a civil time too; its own offset counts.
    let civil = text.parse::<Timestamp>().is_err().then(|| text.parse::<DateTime>().ok()).flatten();
    let Some(civil) = civil else { return reader.timestamp(node) };
    let Some(zone) = zone else {
        let hint = "write `time_zone: Europe/Berlin` beside it, or an offset such as `Z`";
        let message = format!("in which time zone is this: `{text}`");
        reader.report_hint(node.place, Code::BadTime, message, hint);
        return Timestamp::UNIX_EPOCH;
    };
    // A zone that does not exist has been reported.
    let zone = TimeZoneDatabase::bundled().get(zone).ok();
    let moment = zone.and_then(|it| it.to_ambiguous_timestamp(civil).compatible().ok());
    moment.unwrap_or(Timestamp::UNIX_EPOCH)
}

fn check_order(
    reader: &mut Reader<'_>,
    starts_at: Option<Timestamp>,
    ends_at: Option<(Timestamp, Place)>,
) {
    let Some((end, place)) = ends_at else { return };
    if starts_at.is_some_and(|it| end <= it) {
        let message = format!("the freeze ends before it starts: `{end}`");
        reader.report(place, Code::BadTime, message);
    } else if end <= reader.now {
        let message = format!("the freeze is over since `{end}`");
        reader.report_hint(place, Code::SilenceOver, message, "take it out");
    }
}

fn items(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let listed = reader.short_list(node, ITEMS_MAX);
    if listed.is_empty() {
        let hint = "without `items` a freeze binds everything";
        reader.report_hint(node.place, Code::BadValue, "an empty list binds nothing", hint);
    }
    let names: Vec<String> = listed.iter().map(|it| reader.filled_text(it)).collect();
    for (name, item) in names.iter().zip(listed) {
        reader.note_name("freeze item", name, item.place);
    }
    names
}

fn kinds(reader: &mut Reader<'_>, node: &Node) -> Vec<ChangeKind> {
    let words = ChangeKind::ALL.map(|it| (it.as_str(), it));
    let listed = reader.short_list(node, words.len());
    let mut kinds: Vec<ChangeKind> =
        listed.iter().filter_map(|it| reader.word(it, &words)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// Warns of items that no document of the catalog has: such a freeze binds less than it seems to.
pub(super) fn warn_of_unknown_items(
    reader: &mut Reader<'_>,
    freezes: &[FreezeRule],
    catalog: &Catalog,
) {
    for (freeze, name) in freezes
        .iter()
        .flat_map(|it| it.terms.unknown_items(catalog).into_iter().map(move |name| (it, name)))
    {
        let Some(position) = reader.position_of("freeze item", name) else { continue };
        let known: Vec<&str> = catalog.items().map(|(_, it)| it.name.as_str()).collect();
        let hint = match closest(name, &known) {
            Some(it) => format!("did you mean `{it}`?"),
            None => "it binds only what names itself so in a label".to_owned(),
        };
        let message =
            format!("no item of the catalog has this name: `{name}`, in {}", freeze.rule.name);
        reader.report_at(position, Code::BrokenReference, &message, Some(hint));
    }
}
