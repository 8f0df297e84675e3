//! `topology:` of a rule: along which relation of the catalog it looks, and how far.

use super::code::Code;
use super::fields::Fields;
use super::reader::Reader;
use super::yaml::Node;
use crate::domain::item::{Topology, TopologyRelation};
use crate::domain::rules::RuleSet;

/// The most steps.
const HOPS_MAX: u64 = 10;

/// `{relation: depends_on, max_hops: 1}`; both may be left out.
pub(super) fn topology(reader: &mut Reader<'_>, node: &Node) -> Option<Topology> {
    let mut fields = Fields::open_like(reader, node, "relation: depends_on, max_hops: 1")?;
    let words = TopologyRelation::ALL.map(|it| (it.as_str(), it));
    let relation = fields.optional("relation").and_then(|it| reader.word(it, &words));
    let hops = fields.optional("max_hops").map(|it| reader.integer(it, 0, HOPS_MAX));
    fields.finish(reader);
    Some(Topology {
        relation: relation.unwrap_or(TopologyRelation::DependsOn),
        hops_max: hops.and_then(|it| u8::try_from(it).ok()).unwrap_or(1),
    })
}

/// Warns of rules that look at the catalog where there is none.
pub(super) fn warn_without_catalog(reader: &mut Reader<'_>, rules: &RuleSet) {
    if !rules.catalog.is_empty() {
        return;
    }
    let inhibitions = rules.inhibitions.iter().filter(|it| it.topology.is_some());
    let inhibitions = inhibitions.map(|it| ("inhibition", &it.rule.name));
    let correlations = rules.correlations.iter().filter(|it| it.topology.is_some());
    let correlations = correlations.map(|it| ("correlation", &it.rule.name));
    for (kind, name) in inhibitions.chain(correlations) {
        let Some(position) = reader.position_of(kind, name) else { continue };
        let message =
            "`topology` finds nothing near: there is no catalog, and it looks at nothing else";
        let hint = "put Backstage's catalog files beside the rules";
        reader.report_at(position, Code::NeverReached, message, Some(hint.to_owned()));
    }
}
